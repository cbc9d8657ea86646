"""Who runs next on the device: requests take turns, first come first served, and wait no longer than they may.

The thread that received a request also runs it when its turn comes, so that a lone request changes no thread. Whoever
has the turn may take others out of the queue, answer them and so spare them a turn of their own; which ones, and how,
is `batching`.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from elastic_inference.accelerator.device_rights import Lease, Throttle
from elastic_inference.errors import ComputeQuotaExceeded, DeadlineExceeded, ModelNotReady
from elastic_inference.limits.lease.holder import LeaseStatistics

_YIELD_SECONDS = 1e-6
"""How long a thread that gave the device to the next one sleeps (it becomes some 50 us): else it keeps the interpreter
while it writes its answer, and the device waits 160 us for the next request instead of 40 to 60."""


@dataclass(frozen=True)
class QueueStatistics:
    """A frozen look at the queue.

    Attributes:
        num_waiting, num_running: Requests now.
        num_served, num_refused, num_expired: Requests since the start; served are those that had their turn, or that
            another's turn answered.
        num_executions: Turns that used the device, since the start: fewer than served where requests ran together.
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
    num_executions: int = 0


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
        self._has_rights = throttle is not None or lease is not None
        self._lock = threading.Lock()
        self._idle = threading.Condition(self._lock)
        self._arrived = threading.Condition(self._lock)
        self._waiting: deque[Waiter] = deque()
        self._is_busy = False
        self._is_draining = False
        self._num_served = self._num_refused = self._num_expired = self._num_executions = 0
        self._device_seconds = self._throttled_seconds = 0.0
        self._turn_began: float | None = None

    def turn(
        self,
        timeout_seconds: float | None,
        is_own_work: bool = False,
        request: Any = None,
        uses_device: bool | None = None,
    ) -> Turn:
        """Return a context manager that waits for the turn, holds it for the block and hands it on.

        Args:
            timeout_seconds: How long the turn may take to come, rest of the throttle and wait for the device
                included; None: no bound.
            is_own_work: Whether the accelerator itself asks: then no limit stands against it, and it counts as no
                request.
            request: What others see of it while it waits, so that they can take it along; None: it runs alone.
            uses_device: Whether throttle, lease and drain apply; None: to all but own work.

        Raises:
            ComputeQuotaExceeded: The queue is full; nothing ran.
            DeadlineExceeded: The turn did not come in time; nothing ran.
            ModelNotReady: The accelerator is draining.
        """
        return Turn(
            self,
            timeout_seconds,
            is_own_work,
            request,
            not is_own_work if uses_device is None else uses_device,
        )

    def drain(self, timeout_seconds: float) -> bool:
        """Refuse new requests and wait for those accepted; False where some were still there at the end."""
        with self._lock:
            self._is_draining = True
            self._arrived.notify_all()
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
                self._num_executions,
            )

    @property
    def has_waiting(self) -> bool:
        """Whether anybody waits; a look without the lock."""
        return bool(self._waiting)

    def lease_statistics(self) -> LeaseStatistics | None:
        """Return what this accelerator had of a device that it shares by lease; None for another."""
        return None if self._lease is None else self._lease.statistics()

    def _enter(self, turn: Turn, deadline: float | None) -> Waiter | None:
        """Wait for the turn, or for an answer from another's; None: the turn came at once."""
        with self._lock:
            if not self._is_busy and not self._is_draining:
                self._is_busy = True
                return None
            self._check_accepting(turn)
            if not self._is_busy:
                self._is_busy = True
                return None
            waiter = Waiter(turn.request, deadline, turn.is_own_work, turn.uses_device)
            self._waiting.append(waiter)
            self._arrived.notify()
        timeout_seconds = turn.timeout_seconds
        if waiter.gate.acquire(timeout=-1 if timeout_seconds is None else max(timeout_seconds, 0)):
            return waiter
        with self._lock:
            if waiter.gate.acquire(blocking=False):  # the turn came between the time-out and here
                return waiter
            if not waiter.is_taken:
                self._waiting.remove(waiter)
                self._num_expired += 1
                raise DeadlineExceeded(f"the turn did not come within {timeout_seconds:.3f} s; nothing ran")
        waiter.gate.acquire()  # it runs with another's turn, whose end answers it or puts it back in front
        if waiter.answer is None:
            self._leave_without_device()
            with self._lock:
                self._num_expired += 1
            raise DeadlineExceeded(
                f"it ran together with others, without an answer, for longer than its {timeout_seconds:.3f} s"
            )
        return waiter

    def _check_accepting(self, turn: Turn) -> None:
        if self._is_draining and turn.uses_device:
            raise ModelNotReady("the accelerator is draining and takes no new requests")
        if turn.is_own_work or not self._is_busy or len(self._waiting) < self._limit:
            return
        if sum(not waiter.is_own_work for waiter in self._waiting) >= self._limit:
            self._num_refused += 1
            raise ComputeQuotaExceeded(f"the queue is full: {self._limit} requests wait already")

    def _wait_for_others(self, is_enough: Callable[[Sequence[Waiter]], bool], timeout_seconds: float) -> None:
        with self._lock:
            self._arrived.wait_for(lambda: self._is_draining or is_enough(self._waiting), timeout_seconds)

    def _take(self, choose: Choose) -> list[Waiter]:
        """Take those out of the queue that `choose` names."""
        with self._lock:
            chosen = [self._waiting[index] for index in choose(self._waiting)]
            for waiter in chosen:
                waiter.is_taken = True
            if chosen:
                self._waiting = deque(waiter for waiter in self._waiting if not waiter.is_taken)
            return chosen

    def _put_back(self, waiters: Iterable[Waiter]) -> None:
        """Let those run next, each by itself, in the order of their coming."""
        with self._lock:
            for waiter in reversed([*waiters]):
                waiter.is_taken, waiter.request = False, None
                self._waiting.appendleft(waiter)

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

    def _leave_device(self, lease: Lease, num_requests: int) -> None:
        """Give the device back and hand the turn on in one step, so that whether more waits cannot change between."""
        with self._lock:
            has_more = bool(self._waiting) and self._waiting[0].uses_device
            try:
                self._device_seconds += lease.release(has_more)
                self._num_served += num_requests
                self._num_executions += 1
            finally:
                self._hand_on()
        if has_more:
            time.sleep(_YIELD_SECONDS)

    def _hand_on(self) -> None:
        if self._waiting:
            self._waiting.popleft().gate.release()
        else:
            self._is_busy = False
            if self._is_draining:  # else nobody waits for it
                self._idle.notify_all()

    def _account(self, device_seconds: float, now: float, num_requests: int) -> None:
        if self._throttle is not None:
            self._throttle.used(device_seconds, now)
        self._device_seconds += device_seconds
        self._num_served += num_requests
        self._num_executions += 1


class Waiter:
    """One who waits: until its turn opens the gate, or until another's turn has answered it.

    Attributes:
        request: What it is; None for one that is to run by itself.
        deadline: On time.monotonic; None waits without limit.
        is_taken: Whether another's turn has taken it out of the queue.
        answer: What that turn left for it; None: none did, so it has the turn itself.
    """

    __slots__ = ("answer", "deadline", "gate", "is_own_work", "is_taken", "request", "uses_device")

    def __init__(self, request: Any, deadline: float | None, is_own_work: bool, uses_device: bool) -> None:
        self.request = request
        self.deadline = deadline
        self.is_own_work = is_own_work
        self.uses_device = uses_device
        self.is_taken = False
        self.answer: Any = None
        self.gate = threading.Lock()
        self.gate.acquire()


Choose = Callable[[Sequence[Waiter]], Iterable[int]]


class Turn:
    """One turn; a class, because this is the hot path and a generator would cost three times as much.

    Attributes:
        waiter: What it was while it waited, with its answer where another's turn left one: it then has no turn of its
            own. None: the turn came at once.
        started: When it had the turn and the device, on time.monotonic.
    """

    __slots__ = (
        "_num_requests", "_queue", "is_own_work", "request", "started", "timeout_seconds", "uses_device", "waiter"
    )  # fmt: skip
    waiter: Waiter | None
    started: float

    def __init__(
        self,
        queue: RequestQueue,
        timeout_seconds: float | None,
        is_own_work: bool = False,
        request: Any = None,
        uses_device: bool = True,
    ) -> None:
        self._queue = queue
        self.timeout_seconds = timeout_seconds
        self.is_own_work = is_own_work
        self.request = request
        self.uses_device = uses_device
        self._num_requests = 0 if is_own_work else 1

    def wait_for_others(self, is_enough: Callable[[Sequence[Waiter]], bool], timeout_seconds: float) -> None:
        """Let the device rest until those who wait are enough, for so long at most."""
        self._queue._wait_for_others(is_enough, timeout_seconds)

    def take(self, choose: Choose) -> list[Waiter]:
        """Take others out of the queue, to be answered or put back before the end of this turn.

        Args:
            choose: Called with those who wait, in their order, while nobody can come or leave; returns the places of
                those to take.
        """
        return self._queue._take(choose)

    def give(self, waiter: Waiter, answer: Any) -> None:
        """Answer one that was taken; its thread goes on at once."""
        self._num_requests += 1
        waiter.answer = answer
        waiter.gate.release()

    def put_back(self, waiters: Iterable[Waiter]) -> None:
        """Put those that were taken in front of the queue, each to run by itself."""
        self._queue._put_back(waiters)

    def __enter__(self) -> Turn:
        queue = self._queue
        deadline = None if self.timeout_seconds is None else time.monotonic() + self.timeout_seconds
        waiter = self.waiter = queue._enter(self, deadline)
        if waiter is not None and waiter.answer is not None:
            return self
        try:
            if self.uses_device and queue._has_rights:
                queue._rest(deadline)
        except BaseException:
            queue._leave_without_device()
            raise
        self.started = queue._turn_began = time.monotonic()
        return self

    def __exit__(self, *_: object) -> None:
        waiter = self.waiter
        if waiter is not None and waiter.answer is not None:
            return
        queue = self._queue
        queue._turn_began = None
        if not self.uses_device:
            queue._leave_without_device()
        elif queue._lease is not None:
            queue._leave_device(queue._lease, self._num_requests)
        else:
            now = time.monotonic()
            try:
                queue._account(now - self.started, now, self._num_requests)
            finally:
                queue._leave()
