"""The ways in to an accelerator: each translates a protocol to `inference` and back, and knows no other."""
