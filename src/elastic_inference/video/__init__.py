"""Object detection on video: read, detect, draw, write; uses only public names of the package."""
