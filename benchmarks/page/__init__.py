"""What the host's page costs: with many accelerators, many browsers, and one accelerator that hangs."""
