"""What an exploration found, as a value, JSON, text, plots and a page."""
