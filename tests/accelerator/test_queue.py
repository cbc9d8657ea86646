"""Turns on the device: in order, refused when too many wait, given up in time, drained, and rested by the throttle."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import SimpleNamespace

import pytest

from elastic_inference.accelerator import queue as queue_module
from elastic_inference.accelerator.queue import RequestQueue, Turn, Waiter
from elastic_inference.errors import ComputeQuotaExceeded, DeadlineExceeded, ModelNotReady
from elastic_inference.limits.lease.holder import LeaseStatistics
from tests.waiting import wait_until


class FakeThrottle:
    """Asks for the rests that the test names and notes what it was told."""

    def __init__(self, *delays: float) -> None:
        self.delays = list(delays)
        self.used_seconds: list[float] = []

    def delay_seconds(self, now: float) -> float:  # noqa: ARG002
        return self.delays.pop(0)

    def used(self, device_seconds: float, now: float) -> None:  # noqa: ARG002
        self.used_seconds.append(device_seconds)


def test_requests_take_turns_in_the_order_of_their_coming() -> None:
    queue = RequestQueue(limit=10)
    order: list[int] = []

    def request(number: int) -> None:
        with queue.turn(30.0):
            order.append(number)

    with ThreadPoolExecutor(5) as threads, queue.turn(None):
        for number in range(5):
            threads.submit(request, number)
            wait_until(lambda n=number: queue.statistics().num_waiting == n + 1)  # type: ignore[misc]
        assert order == []
        assert queue.statistics().num_running == 1
    assert order == [0, 1, 2, 3, 4]
    statistics = queue.statistics()
    assert (statistics.num_served, statistics.num_waiting, statistics.num_running) == (6, 0, 0)


def test_only_one_has_the_turn() -> None:
    queue = RequestQueue(limit=100)
    holders = most = 0

    def request() -> None:
        nonlocal holders, most
        for _ in range(200):
            with queue.turn(30.0):
                holders += 1
                most = max(most, holders)
                holders -= 1

    with ThreadPoolExecutor(8) as threads:
        for future in [threads.submit(request) for _ in range(8)]:
            future.result(30)
    assert most == 1
    assert queue.statistics().num_served == 1600


def test_the_request_after_the_last_that_may_wait_is_refused() -> None:
    queue = RequestQueue(limit=0)
    with queue.turn(None), pytest.raises(ComputeQuotaExceeded, match="0 requests wait"), queue.turn(1.0):
        pass
    assert queue.statistics().num_refused == 1
    with queue.turn(1.0):
        pass


def test_a_request_whose_time_is_over_leaves_the_queue() -> None:
    queue = RequestQueue(limit=1)
    with queue.turn(None):
        for _ in range(3):  # each makes room for the next
            with pytest.raises(DeadlineExceeded, match="nothing ran"), queue.turn(0.0):
                pass
    statistics = queue.statistics()
    assert (statistics.num_expired, statistics.num_waiting, statistics.num_served) == (3, 0, 1)


def test_an_error_in_the_block_hands_the_turn_on() -> None:
    queue = RequestQueue(limit=1)
    with pytest.raises(ZeroDivisionError), queue.turn(None):
        raise ZeroDivisionError
    with queue.turn(0.0):
        pass


def test_drain_lets_those_accepted_finish_and_refuses_others() -> None:
    queue = RequestQueue(limit=10)
    leave = threading.Event()

    def request() -> None:
        with queue.turn(None):
            leave.wait(30)

    def is_draining() -> bool:
        try:
            with queue.turn(0.0):
                return False
        except ModelNotReady:
            return True
        except DeadlineExceeded:
            return False

    with ThreadPoolExecutor(3) as threads:
        running: list[Future[None]] = [threads.submit(request), threads.submit(request)]
        wait_until(lambda: queue.statistics().num_waiting == 1)
        drained = threads.submit(queue.drain, 30.0)
        wait_until(is_draining)
        assert not drained.done()
        leave.set()
        assert drained.result(30)
        for future in running:
            future.result(30)
    with pytest.raises(ModelNotReady, match="draining"), queue.turn(1.0):
        pass


def test_drain_tells_what_did_not_finish_in_time() -> None:
    queue = RequestQueue(limit=1)
    with queue.turn(None):
        assert not queue.drain(0.0)


def test_own_work_is_neither_refused_nor_drained_nor_counted() -> None:
    throttle = FakeThrottle()
    queue = RequestQueue(limit=0, throttle=throttle)
    queue.drain(0.0)
    with queue.turn(None, is_own_work=True):
        pass
    assert queue.statistics().num_served == 0
    assert throttle.used_seconds == []


def test_the_throttle_makes_the_device_rest_and_is_told_what_was_used() -> None:
    throttle = FakeThrottle(0.0, 0.01)
    queue = RequestQueue(limit=1, throttle=throttle)
    for _ in range(2):
        with queue.turn(30.0):
            pass
    statistics = queue.statistics()
    assert statistics.throttled_seconds == 0.01
    assert len(throttle.used_seconds) == 2
    assert sum(throttle.used_seconds) == pytest.approx(statistics.device_seconds)


def test_a_rest_that_would_outlast_the_request_is_not_waited_for() -> None:
    throttle = FakeThrottle(1000.0, 0.0)
    queue = RequestQueue(limit=1, throttle=throttle)
    with pytest.raises(DeadlineExceeded, match=r"1000\.000 s"), queue.turn(5.0):
        pass
    with queue.turn(5.0):  # and the turn was handed on
        pass
    statistics = queue.statistics()
    assert (statistics.num_expired, statistics.num_served) == (1, 1)


class LateGate:
    """A waiter's gate whose turn is handed over just after its time-out: what lies between cannot be timed."""

    hand_over: Callable[[], None]

    def __init__(self) -> None:
        self._lock = threading.Lock()

    def acquire(self, blocking: bool = True, timeout: float | None = None) -> bool:
        if timeout is None:
            return self._lock.acquire(blocking)
        LateGate.hand_over()
        return False

    def release(self) -> None:
        self._lock.release()


def test_a_turn_that_comes_together_with_the_time_out_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    queue = RequestQueue(limit=1)
    first = queue.turn(None)
    first.__enter__()
    monkeypatch.setattr(LateGate, "hand_over", lambda: first.__exit__(None, None, None), raising=False)
    monkeypatch.setattr(queue_module, "threading", SimpleNamespace(Lock=LateGate))
    with queue.turn(0.0):
        assert queue.statistics().num_running == 1
    statistics = queue.statistics()
    assert (statistics.num_served, statistics.num_expired, statistics.num_waiting) == (2, 0, 0)
    assert statistics.num_running == 0  # else nobody would ever have the turn again


class FakeLease:
    """A device that comes after the waits that the test names, and notes what it was told."""

    def __init__(self, *waits: float | None) -> None:
        self.waits = list(waits)
        self.told: list[object] = []

    def acquire(self, deadline: float | None) -> float:  # noqa: ARG002
        wait = self.waits.pop(0)
        if wait is None:
            raise DeadlineExceeded("the device was not free")
        self.told.append("acquire")
        return wait

    def release(self, has_more: bool) -> float:
        self.told.append(has_more)
        return 0.5

    def withdraw(self) -> None:
        self.told.append("withdraw")

    def statistics(self) -> LeaseStatistics:
        return LeaseStatistics(0.5, 0.0, 1.0, 0.25, 2, 0, 0)


def test_a_turn_has_the_device_and_says_at_its_end_whether_more_waits() -> None:
    lease = FakeLease(0.25, 0.0)
    queue = RequestQueue(limit=10, lease=lease)

    def request() -> None:
        with queue.turn(30.0):
            pass

    with ThreadPoolExecutor(1) as threads, queue.turn(30.0):
        threads.submit(request)
        wait_until(lambda: queue.statistics().num_waiting == 1)
    assert lease.told == ["acquire", True, "acquire", False]
    statistics = queue.statistics()
    assert (statistics.num_served, statistics.device_seconds, statistics.throttled_seconds) == (2, 1.0, 0.25)


def test_a_request_that_does_not_get_the_device_in_time_wants_it_no_more() -> None:
    lease = FakeLease(None, 0.0)
    queue = RequestQueue(limit=10, lease=lease)
    with pytest.raises(DeadlineExceeded), queue.turn(1.0):
        pass
    assert lease.told == ["withdraw"]
    with queue.turn(1.0):  # and the turn was handed on
        pass
    assert queue.statistics().num_expired == 1


def test_own_work_needs_no_device_and_leaves_none_waiting() -> None:
    lease = FakeLease(0.0)
    queue = RequestQueue(limit=10, lease=lease)

    def own_work() -> None:
        with queue.turn(None, is_own_work=True):
            pass

    with ThreadPoolExecutor(1) as threads, queue.turn(30.0):
        threads.submit(own_work)
        wait_until(lambda: queue.statistics().num_waiting == 1)
    assert lease.told == ["acquire", False, "withdraw"]


def test_a_device_that_cannot_be_given_back_hands_the_turn_on_all_the_same() -> None:
    lease = FakeLease(0.0, 0.0)
    lease.release = lambda has_more: 1 / 0  # type: ignore[assignment,method-assign]  # noqa: ARG005
    queue = RequestQueue(limit=0, lease=lease)
    for _ in range(2):
        with pytest.raises(ZeroDivisionError), queue.turn(0.0):
            pass


def line_up(
    queue: RequestQueue, threads: ThreadPoolExecutor, requests: str, timeout_seconds: float = 30.0
) -> list[Future[str]]:
    """Let requests wait in this order; each tells how it ended."""

    def request(name: str) -> str:
        with queue.turn(timeout_seconds, request=name) as turn:
            assert turn.waiter is not None
            return f"{name} {turn.waiter.answer or turn.waiter.request or 'by itself'}"

    futures = []
    for number, name in enumerate(requests, queue.statistics().num_waiting + 1):
        futures.append(threads.submit(request, name))
        wait_until(lambda n=number: queue.statistics().num_waiting == n)  # type: ignore[misc]
    return futures


def test_a_turn_answers_others_that_it_takes_out_of_the_queue() -> None:
    throttle = FakeThrottle(*[0.0] * 5)
    queue = RequestQueue(limit=10, throttle=throttle)
    with ThreadPoolExecutor(4) as threads:
        with queue.turn(None) as turn:
            futures = line_up(queue, threads, "abcd")
            taken = turn.take(
                lambda waiting: [i for i, waiter in enumerate(waiting) if waiter.request in "bd"]
            )
            assert [waiter.request for waiter in taken] == ["b", "d"]
            assert queue.statistics().num_waiting == 2
            for waiter in taken:
                turn.give(waiter, waiter.request.upper())
            assert [futures[1].result(30), futures[3].result(30)] == ["b B", "d D"]  # while the turn lasts
            assert not futures[0].done()
        assert [futures[0].result(30), futures[2].result(30)] == ["a a", "c c"]
    statistics = queue.statistics()
    assert (statistics.num_served, statistics.num_executions, statistics.num_running) == (5, 3, 0)
    assert len(throttle.used_seconds) == 3  # it is charged by execution


def test_a_lease_is_had_once_by_all_that_run_together() -> None:
    lease = FakeLease(0.0)
    queue = RequestQueue(limit=10, lease=lease)
    with ThreadPoolExecutor(2) as threads, queue.turn(None) as turn:
        futures = line_up(queue, threads, "ab")
        for waiter in turn.take(lambda _: [0, 1]):
            turn.give(waiter, "done")
    assert [future.result(30) for future in futures] == ["a done", "b done"]
    assert lease.told == ["acquire", False]
    assert (queue.statistics().num_served, queue.statistics().num_executions) == (3, 1)


def test_those_put_back_run_next_by_themselves_in_their_order() -> None:
    queue = RequestQueue(limit=10)
    with ThreadPoolExecutor(4) as threads:
        with queue.turn(None) as turn:
            futures = line_up(queue, threads, "abcd")
            taken = turn.take(lambda _: [1, 3])
            turn.put_back(taken)
            waiting = turn.take(
                lambda waiting: [i for i, waiter in enumerate(waiting) if waiter.request is not None]
            )
            assert [waiter.request for waiter in waiting] == ["a", "c"]  # nobody takes the others again
            turn.put_back(waiting)
        assert sorted(future.result(30) for future in futures) == [f"{name} by itself" for name in "abcd"]
    assert (queue.statistics().num_served, queue.statistics().num_executions) == (5, 5)


def taken_as_its_time_ends(
    queue: RequestQueue, turn: Turn, threads: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> tuple[Future[str], Waiter]:
    """Take a request out of the queue between its time-out and its leaving."""
    taken: list[Waiter] = []

    def request() -> str:
        with queue.turn(0.0, request="a") as own:
            assert own.waiter is not None
            return str(own.waiter.answer)

    monkeypatch.setattr(LateGate, "hand_over", lambda: taken.extend(turn.take(lambda _: [0])), raising=False)
    monkeypatch.setattr(queue_module, "threading", SimpleNamespace(Lock=LateGate))
    future = threads.submit(request)
    wait_until(lambda: taken)
    return future, taken[0]


def test_one_that_was_taken_waits_for_its_answer_beyond_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    queue = RequestQueue(limit=10)
    with ThreadPoolExecutor(1) as threads, queue.turn(None) as turn:
        future, waiter = taken_as_its_time_ends(queue, turn, threads, monkeypatch)
        turn.give(waiter, "done")
        assert future.result(30) == "done"
    assert queue.statistics().num_expired == 0


def test_one_put_back_after_its_time_does_not_run(monkeypatch: pytest.MonkeyPatch) -> None:
    queue = RequestQueue(limit=10)
    with ThreadPoolExecutor(1) as threads:
        with queue.turn(None) as turn:
            future, waiter = taken_as_its_time_ends(queue, turn, threads, monkeypatch)
            turn.put_back([waiter])
        with pytest.raises(DeadlineExceeded, match="together with others"):
            future.result(30)
    with queue.turn(0.0):  # and the turn was handed on
        pass
    statistics = queue.statistics()
    assert (statistics.num_expired, statistics.num_served, statistics.num_waiting) == (1, 2, 0)


def test_own_work_on_the_device_takes_no_request_s_place_and_ends_with_the_drain() -> None:
    throttle = FakeThrottle(*[0.0] * 3)
    queue = RequestQueue(limit=1, throttle=throttle)

    def own_work() -> None:
        with queue.turn(30.0, is_own_work=True, uses_device=True):
            pass

    with ThreadPoolExecutor(2) as threads, queue.turn(None):
        own = threads.submit(own_work)
        wait_until(lambda: queue.statistics().num_waiting == 1)
        (future,) = line_up(queue, threads, "a")
        with pytest.raises(ComputeQuotaExceeded), queue.turn(0.0):
            pass
    own.result(30)
    future.result(30)
    statistics = queue.statistics()
    assert (statistics.num_served, statistics.num_executions, len(throttle.used_seconds)) == (2, 3, 3)
    queue.drain(0.0)
    with pytest.raises(ModelNotReady):
        own_work()


def test_a_turn_may_wait_until_enough_others_have_come() -> None:
    queue = RequestQueue(limit=10)
    with ThreadPoolExecutor(4) as threads:
        with queue.turn(None) as turn:
            turn.wait_for_others(lambda waiting: len(waiting) >= 1, 0.0)  # in vain
            waiting = threads.submit(turn.wait_for_others, lambda waiting: len(waiting) >= 2, 600.0)
            futures = line_up(queue, threads, "a")
            assert not waiting.done()
            futures += line_up(queue, threads, "b")
            waiting.result(30)
        assert [future.result(30) for future in futures] == ["a a", "b b"]


def test_nobody_is_waited_for_while_the_queue_drains() -> None:
    queue = RequestQueue(limit=10)
    with ThreadPoolExecutor(2) as threads, queue.turn(None) as turn:
        waiting = threads.submit(turn.wait_for_others, lambda _: False, 600.0)
        drained = threads.submit(queue.drain, 0.0)
        assert not drained.result(30)
        waiting.result(30)
