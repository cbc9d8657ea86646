"""What executes a model: one module an engine; `select` decides which, once, at load."""
