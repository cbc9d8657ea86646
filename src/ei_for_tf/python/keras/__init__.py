"""See ei_for_tf."""
