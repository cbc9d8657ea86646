"""Which calls are over before anybody could notice, so that the thread that reads a connection may run them itself."""

from __future__ import annotations

from elastic_inference.accelerator.model_statistics import Timing

QUICK_SECONDS = 1e-3
QUICK_CALLS = 16  # in a row, after which the next one is taken for quick too
SETTLED_CALLS = 80  # in a row, by when all that were run by threads of their own are over


class Pace:
    """How quick the latest requests of one kind were.

    While each has a thread of its own they wait for each other's turns, and would look slow for that alone: so what
    counts is how long they were computed. Once the thread that reads runs them, there is none to wait for but those of
    other connections; where these hold the device for longer, threads of their own are right again.
    """

    __slots__ = ("_num_quick",)

    def __init__(self) -> None:
        self._num_quick = 0

    def note(self, timing: Timing) -> None:
        """Account for a request that was answered."""
        is_kept_waiting = self._num_quick >= SETTLED_CALLS and timing.queue_seconds >= QUICK_SECONDS
        is_quick = timing.service_seconds < QUICK_SECONDS and not is_kept_waiting
        self._num_quick = self._num_quick + 1 if is_quick else 0

    @property
    def is_quick(self) -> bool:
        """Whether the next request is taken for quick."""
        return self._num_quick >= QUICK_CALLS
