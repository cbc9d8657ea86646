"""The one source of time: a monotonic clock that tests replace by a manual one."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """What schedulers, leases and measurements ask for the time."""

    def now(self) -> float:
        """Seconds on a clock that never goes back; its zero means nothing."""


class MonotonicClock:
    """The machine's own monotonic clock."""

    def now(self) -> float:
        return time.monotonic()
