"""The Open Inference Protocol: request and response heads, binary tensors, shared memory, status table."""
