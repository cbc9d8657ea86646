"""Attach a fraction of an accelerator to a CPU program over the network, by changing one line."""
