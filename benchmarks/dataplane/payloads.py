"""What is sent: a 1080p frame and one kilobyte. Peers' environments read it: standard library only."""

from __future__ import annotations

FRAME_SHAPE = (1, 1080, 1920, 3)
SMALL_SHAPE = (1, 1024)

FRAME = bytes(range(256)) * 24_300  # 6,220,800 bytes
SMALL = bytes(range(256)) * 4  # 1,024 bytes
REPLY = b"\x01\x00\x00\x00"  # what every no-op model answers: four bytes

PAYLOADS = {"frame": FRAME, "small": SMALL}
SHAPES = {"frame": FRAME_SHAPE, "small": SMALL_SHAPE}
WARM_UP = {"frame": 3, "small": 30}  # exchanges before each turn, whose times are dropped
