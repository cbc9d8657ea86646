"""Open-loop arrivals: times of arrival, latency from the intended start, stalls that a closed loop omits."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterator

import pytest

from elastic_inference.errors import InvalidInput, ModelError
from elastic_inference.explorer.measuring.arrivals import constant_offsets, poisson_offsets, run_open_loop
from elastic_inference.percentiles import percentile


def test_constant_offsets() -> None:
    assert list(itertools.islice(constant_offsets(4), 3)) == [0, 0.25, 0.5]


def test_poisson_offsets_have_the_rate_and_repeat_by_seed() -> None:
    offsets = list(itertools.islice(poisson_offsets(50, seed=3), 20_000))
    assert 20_000 / offsets[-1] == pytest.approx(50, rel=0.03)
    assert list(itertools.islice(poisson_offsets(50, seed=3), 5)) == offsets[:5]
    assert list(itertools.islice(poisson_offsets(50, seed=4), 5)) != offsets[:5]


@pytest.mark.parametrize("rate", [0, -1, float("nan"), float("inf")])
def test_impossible_rates_are_refused(rate: float) -> None:
    with pytest.raises(InvalidInput, match="rate"):
        next(constant_offsets(rate))
    with pytest.raises(InvalidInput, match="rate"):
        next(poisson_offsets(rate, 1))


def test_every_request_is_counted_once() -> None:
    run = run_open_loop(lambda: None, [0.0] * 50, lambda _: False)
    assert len(run.latencies_seconds) == len(run.delays_seconds) == 50
    assert run.errors == []
    assert run.throughput_per_second > 0


def test_it_stops_when_told() -> None:
    run = run_open_loop(lambda: None, constant_offsets(2000), lambda latencies: len(latencies) >= 20)
    assert 20 <= len(run.latencies_seconds) <= 2000


def test_failed_requests_are_listed_and_not_counted() -> None:
    def fail() -> None:
        raise ModelError("no")

    run = run_open_loop(fail, [0.0] * 3, lambda _: False)
    assert run.errors == ["ModelError: no"] * 3
    assert run.latencies_seconds == []


def test_requests_that_were_never_sent_count_with_their_wait() -> None:
    held = threading.Event()

    def offsets() -> Iterator[float]:
        yield from [0.0] * 5
        held.set()  # what is asked for after this is never sent
        yield 0.0

    # The only sender is held until all have arrived; told to stop then, the others have still waited.
    run = run_open_loop(held.wait, offsets(), lambda _: held.is_set(), max_in_flight=1)
    assert len(run.latencies_seconds) == 5


class StallingServer:
    """One request at a time, 1 ms each; every half second it stalls for 100 ms."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._next_stall = time.perf_counter() + 0.25

    def __call__(self) -> None:
        with self._lock:
            if time.perf_counter() >= self._next_stall:
                time.sleep(0.1)
                self._next_stall = time.perf_counter() + 0.5
            time.sleep(0.001)


def test_stall_is_seen_by_the_open_loop_and_omitted_by_a_closed_one() -> None:
    run = run_open_loop(StallingServer(), constant_offsets(200), lambda latencies: len(latencies) >= 400)
    closed = []
    server = StallingServer()
    for _ in range(len(run.latencies_seconds)):
        start = time.perf_counter()
        server()
        closed.append(time.perf_counter() - start)
    # A stall lasts 1/6 of the time: the tail holds it where requests come at their own times, and hides it else.
    assert percentile(run.latencies_seconds, 0.95) > 3 * percentile(closed, 0.95)
