"""Shipped fakes and helpers for tests: an engine that waits or fails, a started accelerator, a manual clock."""

from elastic_inference.testing.accelerator import RunningAccelerator, start_accelerator
from elastic_inference.testing.clock import ManualClock
from elastic_inference.testing.engine import write_model

__all__ = ["ManualClock", "RunningAccelerator", "start_accelerator", "write_model"]
