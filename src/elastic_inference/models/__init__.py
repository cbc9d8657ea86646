"""What a model directory or file says: format, content hash, signatures, tensor names. Runs nothing."""
