"""Patterns of TensorFlow graphs that become the engine's own operations before it reads the graph, each one proved."""
