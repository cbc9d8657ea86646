"""Who runs next on the device: requests take turns, first come first served, and wait no longer than they may.

The thread that received a request also runs it when its turn comes, so that a lone request changes no thread.
"""

from __future__ import annotations

import threading
import time
from collections import deque
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
        num_served, num_refused, num_expired: Since the start; served are those that had their turn.
        device_seconds: In which a request had its turn, since the start.
        throttled_seconds: In which the throttle made a request rest, since the start.
        turn_seconds: For how long the request whose turn it is has run; 0.0 for none.
    """

    num_waiting: int
    num_running: int
    num_served: int
    num_refused: int
    num_expired: int
    device_seconds: float
    throttled_seconds: float
    turn_seconds: float = 0.0


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
        self._turn_began: float | None = None

    def turn(self, timeout_seconds: float | None, is_own_work: bool = False) -> Turn:
        """A context manager that waits for the turn, holds it for the block and hands it on.

        Args:
            timeout_seconds: How long the turn may take to come, rest of the throttle included; None: no bound.
            is_own_work: Whether the accelerator itself asks: then no limit, drain or throttle stands against it.

        Raises:
            ComputeQuotaExceeded: The queue is full; nothing ran.
            DeadlineExceeded: The turn did not come in time; nothing ran.
            ModelNotReady: The accelerator is draining.
        """
        return Turn(self, timeout_seconds, is_own_work)

    def drain(self, timeout_seconds: float) -> bool:
        """Refuse new requests and wait for those accepted; False where some were still there at the end."""
        with self._lock:
            self._is_draining = True
            return self._idle.wait_for(lambda: not self._is_busy and not self._waiting, timeout_seconds)

    def statistics(self) -> QueueStatistics:
        """The present counts."""
        began = self._turn_began
        turn_seconds = 0.0 if began is None else time.monotonic() - began
        with self._lock:
            return QueueStatistics(
                len(self._waiting),
                int(self._is_busy),
                self._num_served,
                self._num_refused,
                self._num_expired,
                self._device_seconds,
                self._throttled_seconds,
                turn_seconds,
            )

    def _enter(self, timeout_seconds: float | None, is_own_work: bool) -> None:
        with self._lock:
            if not is_own_work:
                self._check_accepting()
            if not self._is_busy:
                self._is_busy = True
                return
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

    def _check_accepting(self) -> None:
        if self._is_draining:
            raise ModelNotReady("the accelerator is draining and takes no new requests")
        if self._is_busy and len(self._waiting) >= self._limit:
            self._num_refused += 1
            raise ComputeQuotaExceeded(f"the queue is full: {self._limit} requests wait already")

    def _rest(self, deadline: float | None) -> None:
        """Give the device the rest that the throttle asks for; DeadlineExceeded where it would be too long."""
        if self._throttle is None:
            return
        now = time.monotonic()
        delay = self._throttle.delay_seconds(now)
        if deadline is not None and now + delay > deadline:
            with self._lock:
                self._num_expired += 1
            raise DeadlineExceeded(
                f"the compute share allows the next run in {delay:.3f} s, after the deadline; nothing ran"
            )
        if delay > 0:
            time.sleep(delay)
            self._throttled_seconds += delay

    def _leave(self) -> None:
        """Hand the turn to whoever waits longest."""
        with self._lock:
            if self._waiting:
                self._waiting.popleft().release()
            else:
                self._is_busy = False
                self._idle.notify_all()

    def _account(self, device_seconds: float, now: float) -> None:
        if self._throttle is not None:
            self._throttle.used(device_seconds, now)
        self._device_seconds += device_seconds
        self._num_served += 1


class Turn:
    """One turn; a class, because this is the hot path and a generator would cost three times as much."""

    __slots__ = ("_is_own_work", "_queue", "_started", "_timeout_seconds")

    def __init__(self, queue: RequestQueue, timeout_seconds: float | None, is_own_work: bool) -> None:
        self._queue = queue
        self._timeout_seconds = timeout_seconds
        self._is_own_work = is_own_work
        self._started = 0.0

    def __enter__(self) -> None:
        queue = self._queue
        deadline = None if self._timeout_seconds is None else time.monotonic() + self._timeout_seconds
        queue._enter(self._timeout_seconds, self._is_own_work)
        try:
            if not self._is_own_work:
                queue._rest(deadline)
        except BaseException:
            queue._leave()
            raise
        self._started = queue._turn_began = time.monotonic()

    def __exit__(self, *_: object) -> None:
        now = time.monotonic()
        self._queue._turn_began = None
        try:
            if not self._is_own_work:
                self._queue._account(now - self._started, now)
        finally:
            self._queue._leave()
