"""How long to wait before a process is started again. Pure."""

from __future__ import annotations


class Backoff:
    """How long to wait before the next start; a process that lived for a while may start again at once."""

    FIRST_SECONDS = 0.1
    LONGEST_SECONDS = 10.0
    LIVED_SECONDS = 1.0

    def __init__(self) -> None:
        self._next_seconds = 0.0

    def after(self, lived_seconds: float) -> float:
        """Seconds to wait after a process that served for `lived_seconds`, 0 where it never did."""
        if lived_seconds >= self.LIVED_SECONDS:
            self._next_seconds = 0.0
        wait_seconds = self._next_seconds
        self._next_seconds = min(self.LONGEST_SECONDS, max(self.FIRST_SECONDS, 2 * wait_seconds))
        return wait_seconds
