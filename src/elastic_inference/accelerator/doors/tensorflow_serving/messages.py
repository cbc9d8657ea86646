"""TensorFlow Serving's messages."""

from __future__ import annotations

from pathlib import Path

from elastic_inference.accelerator.message_pool import MessagePool

POOL = MessagePool(Path(__file__).with_name("protos") / "services.binpb")
PACKAGE = "tensorflow.serving"
message_class = POOL.message_class
parse = POOL.parse
