"""Whether a device shared by lease is shared as asked: real processes, and a device that is used by sleeping."""
