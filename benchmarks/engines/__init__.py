"""What engines give behind an accelerator, beside themselves alone."""
