"""A clock that moves when the test says so."""

from __future__ import annotations


class ManualClock:
    """A `Clock` whose time is moved by `advance`."""

    def __init__(self, start: float = 0.0) -> None:
        self._now = start

    def now(self) -> float:
        return self._now

    def advance(self, seconds: float) -> None:
        """Move the time on by `seconds`, 0 or more."""
        if seconds < 0:
            raise ValueError(f"a clock does not go back: {seconds}")
        self._now += seconds
