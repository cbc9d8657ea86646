"""The engine openvino: reading, what it computes otherwise, compiling, running."""
