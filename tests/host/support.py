"""What tests of the host share: conditions to wait for, and what is left of a process."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

from elastic_inference import EIPredictor

WAIT_SECONDS = 60.0


def wait_until(condition: Callable[[], bool], what: str) -> None:
    """Wait until a condition holds; AssertionError with `what` where it does not in time."""
    deadline = time.monotonic() + WAIT_SECONDS
    pause = threading.Event()
    while not condition():
        assert time.monotonic() < deadline, f"waited {WAIT_SECONDS:.0f} s in vain for: {what}"
        pause.wait(0.02)


def predictor(endpoint: str, token: str, model: Path) -> EIPredictor:
    """A predictor of the doubling graph on an attached accelerator."""
    return EIPredictor(
        str(model), input_names={"x": "x:0"}, output_names={"y": "y:0"}, address=endpoint, token=token
    )


class ManualClock:
    """Time that only the test moves."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def now(self) -> float:
        return self.seconds
