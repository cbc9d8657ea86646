"""Who runs next on the device: requests take turns, first come first served, and wait no longer than they may.

The thread that received a request also runs it when its turn comes, so that a lone request changes no thread.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

from elastic_inference.errors import ComputeQuotaExceeded, DeadlineExceeded, ModelNotReady


class Throttle(Protocol):
    """What holds the compute share where the kernel does not; called only by the thread whose turn it is."""

    def delay_seconds(self, now: float) -> float:
        """How long the device must rest before the next prediction, 0 for not at all."""

    def used(self, device_seconds: float, now: float) -> None:
        """Account for a prediction that ended now."""


@dataclass(frozen=True)
class QueueStatistics:
    """A frozen look at the queue.

    Attributes:
        num_waiting, num_running: Requests now.
        num_served, num_refused, num_expired: Since the start.
        device_seconds: In which a request had its turn, since the start.
        throttled_seconds: In which the throttle made a request rest, since the start.
    """

    num_waiting: int
    num_running: int
    num_served: int
    num_refused: int
    num_expired: int
    device_seconds: float
    throttled_seconds: float


class RequestQueue:
    """Turns on one device.

    Args:
        limit: Requests that may wait; the next is refused with ComputeQuotaExceeded.
        throttle: Holds the compute share; None where the kernel does or nothing is held.
    """

    def __init__(self, limit: int, throttle: Throttle | None = None) -> None:
        self._limit = limit
        self._throttle = throttle
        self._lock = threading.Lock()
        self._idle = threading.Condition(self._lock)
        self._waiting: deque[threading.Lock] = deque()
        self._is_busy = False
        self._is_draining = False
        self._num_served = self._num_refused = self._num_expired = 0
        self._device_seconds = self._throttled_seconds = 0.0

    @contextmanager
    def turn(self, timeout_seconds: float | None) -> Iterator[None]:
        """Wait for the turn, hold it for the block, hand it on.

        Raises:
            ComputeQuotaExceeded: The queue is full; nothing ran.
            DeadlineExceeded: The turn did not come in time; nothing ran.
            ModelNotReady: The accelerator is draining.
        """
        self._enter(timeout_seconds)
        start = time.monotonic()
        try:
            if self._throttle is not None:
                start = self._rest(start)
            yield
        finally:
            self._leave(start)

    def drain(self, timeout_seconds: float) -> bool:
        """Refuse new requests and wait for those accepted; False where some were still there at the end."""
        with self._lock:
            self._is_draining = True
            return self._idle.wait_for(lambda: not self._is_busy and not self._waiting, timeout_seconds)

    def statistics(self) -> QueueStatistics:
        """The present counts."""
        with self._lock:
            return QueueStatistics(
                len(self._waiting),
                int(self._is_busy),
                self._num_served,
                self._num_refused,
                self._num_expired,
                self._device_seconds,
                self._throttled_seconds,
            )

    def _enter(self, timeout_seconds: float | None) -> None:
        with self._lock:
            if self._is_draining:
                raise ModelNotReady("the accelerator is draining and takes no new requests")
            if not self._is_busy:
                self._is_busy = True
                return
            if len(self._waiting) >= self._limit:
                self._num_refused += 1
                raise ComputeQuotaExceeded(f"the queue is full: {self._limit} requests wait already")
            gate = threading.Lock()
            gate.acquire()
            self._waiting.append(gate)
        if gate.acquire(timeout=-1 if timeout_seconds is None else max(timeout_seconds, 0)):
            return
        with self._lock:
            if gate.acquire(blocking=False):  # the turn came between the time-out and here
                return
            self._waiting.remove(gate)
            self._num_expired += 1
        raise DeadlineExceeded(f"the turn did not come within {timeout_seconds:.3f} s; nothing ran")

    def _rest(self, start: float) -> float:
        assert self._throttle is not None
        delay = self._throttle.delay_seconds(start)
        if delay > 0:
            time.sleep(delay)
            self._throttled_seconds += delay
            return time.monotonic()
        return start

    def _leave(self, start: float) -> None:
        now = time.monotonic()
        if self._throttle is not None:
            self._throttle.used(now - start, now)
        with self._lock:
            self._device_seconds += now - start
            self._num_served += 1
            if self._waiting:
                self._waiting.popleft().release()
            else:
                self._is_busy = False
                self._idle.notify_all()
