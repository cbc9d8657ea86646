"""The `ei` command: one file a command; errors become exit codes in one place."""
