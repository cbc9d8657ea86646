"""Until when a call may take: made once, where the call begins, and handed down to whatever waits for it.

Whoever waits asks it for what is left, so no part of a call starts the time anew. A deadline may also be ended early
from another thread, which is how a cancelled `await` gets its thread and connection back.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from elastic_inference.errors import DeadlineExceeded


class Cancellation:
    """Says to the thread that makes a call that nobody waits for it any more, and wakes it."""

    def __init__(self) -> None:
        self.is_cancelled = False
        self._lock = threading.Lock()
        self._wake: Callable[[], None] | None = None

    def cancel(self) -> None:
        """End the call that this was made for; from any thread, without waiting, and twice is fine."""
        with self._lock:
            self.is_cancelled = True
            if self._wake is not None:
                self._wake()

    def wake_by(self, wake: Callable[[], None] | None) -> None:
        """How to wake whoever waits now; None: nobody waits, and `cancel` must not touch what was waited at.

        Under the same lock as `cancel`: a connection that goes back to its pool belongs to the next call.
        """
        with self._lock:
            self._wake = wake
            if wake is not None and self.is_cancelled:
                wake()


class Deadline:
    """A moment on the monotonic clock.

    With slots: one is made for each call, all of which takes 90 us.

    Attributes:
        timeout_seconds: From the making of the deadline to its end, for messages; None: there is no end.
        end_seconds: On the monotonic clock; None: there is none.
        cancellation: What may end it early, None for nothing.
    """

    __slots__ = ("cancellation", "end_seconds", "timeout_seconds")

    def __init__(self, timeout_seconds: float | None, cancellation: Cancellation | None = None) -> None:
        self.timeout_seconds = timeout_seconds
        self.end_seconds = None if timeout_seconds is None else time.monotonic() + timeout_seconds
        self.cancellation = cancellation

    @property
    def is_cancelled(self) -> bool:
        """Whether somebody ended it early."""
        return self.cancellation is not None and self.cancellation.is_cancelled

    def left_seconds(self) -> float | None:
        """Return what is left, 0 or less where it is over; None: there is no end."""
        return None if self.end_seconds is None else self.end_seconds - time.monotonic()

    def check(self, what: str) -> float | None:
        """Return what is left, more than 0; None: there is no end.

        Args:
            what: What was waited for, for the message: `the reply`.

        Raises:
            DeadlineExceeded: It is over, or was cancelled.
        """
        if self.is_cancelled:
            raise DeadlineExceeded(f"the call was cancelled before {what} came")
        left = self.left_seconds()
        if left is not None and left <= 0:
            raise DeadlineExceeded(f"{what} did not come within {self.timeout_seconds:g} s")
        return left

    def within(self, seconds: float) -> Deadline:
        """Return a deadline for a part of the call: `seconds` from now, but never later than this one."""
        left = self.left_seconds()
        return Deadline(seconds if left is None else min(seconds, left), self.cancellation)

    def __repr__(self) -> str:
        left = self.left_seconds()
        return (
            "Deadline(none)" if left is None else f"Deadline({left:.3f} of {self.timeout_seconds:g} s left)"
        )


NO_DEADLINE = Deadline(None)
"""For whoever waits without limit."""
