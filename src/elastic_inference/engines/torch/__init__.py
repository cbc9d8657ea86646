"""The engine torch: programs and scripts of PyTorch, held to what is safe, on CPUs and GPUs."""
