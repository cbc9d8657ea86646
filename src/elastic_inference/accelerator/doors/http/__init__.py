"""The Open Inference Protocol over HTTP/1.1, and what is ours beside it."""
