"""What tests of the host share: conditions to wait for, and what is left of a process."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

WAIT_SECONDS = 60.0


def wait_until(condition: Callable[[], bool], what: str) -> None:
    """Wait until a condition holds; AssertionError with `what` where it does not in time."""
    deadline = time.monotonic() + WAIT_SECONDS
    pause = threading.Event()
    while not condition():
        assert time.monotonic() < deadline, f"waited {WAIT_SECONDS:.0f} s in vain for: {what}"
        pause.wait(0.02)


class ManualClock:
    """Time that only the test moves."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def now(self) -> float:
        return self.seconds
