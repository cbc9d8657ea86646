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
from elastic_inference.limits.lease.holder import LeaseStatistics

_YIELD_SECONDS = 1e-6
"""How long a thread that gave the device to the next one sleeps (it becomes some 50 us): else it keeps the interpreter
while it writes its answer, and the device waits 160 us for the next request instead of 40 to 60."""


class Throttle(Protocol):
    """What holds the compute share where the kernel does not; called only by the thread whose turn it is."""

    def delay_seconds(self, now: float) -> float:
        """How long the device must rest before the next prediction, 0 for not at all."""

    def used(self, device_seconds: float, now: float) -> None:
        """Account for a prediction that ended now."""


class Lease(Protocol):
    """The right to use a device that other accelerators use too, for one request; called only by whose turn it is."""

    def acquire(self, deadline: float | None) -> float:
        """Wait for the device until `deadline` on time.monotonic; seconds waited. Raises DeadlineExceeded."""

    def release(self, has_more: bool) -> float:
        """Give it back; `has_more`: the next request here acquires it at once. Device seconds that were used."""

    def withdraw(self) -> None:
        """Want it no more, after a release that said there was more."""

    def statistics(self) -> LeaseStatistics:
        """Return what this accelerator had of the device."""


@dataclass(frozen=True)
class QueueStatistics:
    """A frozen look at the queue.

    Attributes:
        num_waiting, num_running: Requests now.
        num_served, num_refused, num_expired: Since the start; served are those that had their turn.
        device_seconds: In which a request had its turn and, where the device is shared by lease, the device.
        throttled_seconds: In which a request had its turn and rested for the throttle or waited for the device.
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
        lease: Of a device that is shared with other accelerators; None where it is not.
    """

    def __init__(self, limit: int, throttle: Throttle | None = None, lease: Lease | None = None) -> None:
        self._limit = limit
        self._throttle = throttle
        self._lease = lease
        self._lock = threading.Lock()
        self._idle = threading.Condition(self._lock)
        self._waiting: deque[_Gate] = deque()
        self._is_busy = False
        self._is_draining = False
        self._num_served = self._num_refused = self._num_expired = 0
        self._device_seconds = self._throttled_seconds = 0.0
        self._turn_began: float | None = None

    def turn(self, timeout_seconds: float | None, is_own_work: bool = False) -> Turn:
        """Return a context manager that waits for the turn, holds it for the block and hands it on.

        Args:
            timeout_seconds: How long the turn may take to come, rest of the throttle and wait for the device
                included; None: no bound.
            is_own_work: Whether the accelerator itself asks, for what does not use the device: then no limit, drain,
                throttle or lease stands against it.

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
        """Return the present counts."""
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

    def lease_statistics(self) -> LeaseStatistics | None:
        """Return what this accelerator had of a device that it shares by lease; None for another."""
        return None if self._lease is None else self._lease.statistics()

    def _enter(self, timeout_seconds: float | None, is_own_work: bool) -> None:
        with self._lock:
            if not is_own_work:
                self._check_accepting()
            if not self._is_busy:
                self._is_busy = True
                return
            gate = _Gate(is_own_work)
            self._waiting.append(gate)
        if gate.lock.acquire(timeout=-1 if timeout_seconds is None else max(timeout_seconds, 0)):
            return
        with self._lock:
            if gate.lock.acquire(blocking=False):  # the turn came between the time-out and here
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
        if self._lease is not None:
            self._wait_for_device(self._lease, deadline)
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

    def _wait_for_device(self, lease: Lease, deadline: float | None) -> None:
        try:
            self._throttled_seconds += lease.acquire(deadline)
        except DeadlineExceeded:
            with self._lock:
                self._num_expired += 1
            raise

    def _leave(self) -> None:
        """Hand the turn to whoever waits longest."""
        with self._lock:
            self._hand_on()

    def _leave_without_device(self) -> None:
        """Hand the turn on after it was not used for a request: a lease that awaits one must not stay here."""
        with self._lock:
            if self._lease is not None:
                self._lease.withdraw()
            self._hand_on()

    def _leave_device(self, lease: Lease) -> None:
        """Give the device back and hand the turn on in one step, so that whether more waits cannot change between."""
        with self._lock:
            has_more = bool(self._waiting) and not self._waiting[0].is_own_work
            try:
                self._device_seconds += lease.release(has_more)
                self._num_served += 1
            finally:
                self._hand_on()
        if has_more:
            time.sleep(_YIELD_SECONDS)

    def _hand_on(self) -> None:
        if self._waiting:
            self._waiting.popleft().lock.release()
        else:
            self._is_busy = False
            self._idle.notify_all()

    def _account(self, device_seconds: float, now: float) -> None:
        if self._throttle is not None:
            self._throttle.used(device_seconds, now)
        self._device_seconds += device_seconds
        self._num_served += 1


class _Gate:
    """Where one request waits until its turn opens it."""

    __slots__ = ("is_own_work", "lock")

    def __init__(self, is_own_work: bool) -> None:
        self.is_own_work = is_own_work
        self.lock = threading.Lock()
        self.lock.acquire()


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
            queue._leave_without_device()
            raise
        self._started = queue._turn_began = time.monotonic()

    def __exit__(self, *_: object) -> None:
        queue = self._queue
        queue._turn_began = None
        if self._is_own_work:
            queue._leave_without_device()
        elif queue._lease is not None:
            queue._leave_device(queue._lease)
        else:
            now = time.monotonic()
            try:
                queue._account(now - self._started, now)
            finally:
                queue._leave()
