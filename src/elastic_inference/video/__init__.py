"""Detection on video: read, detect, draw and write at the same time, and report what it took."""
