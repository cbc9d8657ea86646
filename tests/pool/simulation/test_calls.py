"""An accelerator's calls, computed together, are those that an event loop would give one by one."""

from __future__ import annotations

import heapq
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from elastic_inference.errors import InvalidInput
from elastic_inference.pool.simulation.attachment import Piece
from elastic_inference.pool.simulation.calls import Sampling, Serving, run_calls, serve
from elastic_inference.pool.simulation.latencies import Latencies
from elastic_inference.pool.simulation.service_time import ServiceTime


def event_by_event(
    arrivals: list[float], services: list[float], servings: list[tuple[float, float]]
) -> list[float]:
    """When each call ends, by an event loop with a queue; what is under way at the end of a serving begins anew."""
    events = [(when, 1, number) for number, when in enumerate(arrivals)]
    for start, end in servings:
        events += [(start, 0, -1), (end, 2, -2)]
    heapq.heapify(events)
    queue: list[int] = []
    running: int | None = None
    is_up, ends, turn = False, [math.inf] * len(arrivals), 0

    def begin(now: float) -> None:
        nonlocal running, turn
        if is_up and running is None and queue:
            running, turn = queue.pop(0), turn + 1
            heapq.heappush(events, (now + services[running], -1, turn))

    while events:
        now, kind, what = heapq.heappop(events)
        if kind == -1:
            if what != turn or running is None:
                continue  # its host died meanwhile
            ends[running], running = now, None
        elif kind == 0:
            is_up = True
        elif kind == 1:
            queue.append(what)
        else:
            is_up = False
            if running is not None:
                queue.insert(0, running)
                running, turn = None, turn + 1
        begin(now)
    return ends


times = st.lists(st.floats(0.01, 5.0), min_size=1, max_size=60)


@given(times, times, st.floats(0, 50))
@settings(deadline=None)
def test_the_recursion_is_the_event_loop(gaps: list[float], services: list[float], free_at: float) -> None:
    count = min(len(gaps), len(services))
    arrivals = np.cumsum(gaps[:count])
    found = serve(arrivals, np.array(services[:count]), free_at)
    wanted = event_by_event(arrivals.tolist(), services[:count], [(free_at, 1e6)])
    assert found == pytest.approx(wanted)


def latencies_of(
    chance: np.random.Generator, pieces: list[Piece], servings: list[Serving]
) -> tuple[Latencies, object]:
    latencies = Latencies()
    return latencies, run_calls(pieces, servings, chance, Sampling(), latencies)


def test_calls_through_the_death_of_a_host_are_those_of_the_event_loop() -> None:
    service = ServiceTime(0.05)
    pieces = [Piece(0.0, 40.0, 5.0), Piece(40.0, 100.0, 12.0)]
    servings = [
        Serving(0.0, 50.0, service, is_cut=True),
        Serving(57.5, 80.0, service, is_cut=True),
        Serving(82.0, 100.0, service),
    ]
    latencies, count = latencies_of(np.random.default_rng(3), pieces, servings)
    # The same arrivals: those that the generator draws, serving by serving.
    from elastic_inference.pool.simulation.calls import _arrivals

    chance = np.random.default_rng(3)
    arrivals = np.concatenate(
        [
            np.concatenate(list(_arrivals(pieces, low, high, chance)))
            for low, high in ((0, 50), (50, 80), (80, 100))
        ]
    )
    windows = [(0.0, 50.0), (57.5, 80.0), (82.0, 1e6)]
    ends = np.array(event_by_event(arrivals.tolist(), [0.05] * arrivals.size, windows))
    waits = np.sort(ends - arrivals)
    assert latencies.count == count.num_offered == arrivals.size
    assert count.num_unanswered == 0
    for share in (0.5, 0.9, 0.99, 1.0):
        assert latencies.percentile(share) == pytest.approx(
            waits[math.ceil(share * waits.size) - 1], rel=0.011
        )


def test_who_is_never_placed_again_leaves_calls_unanswered() -> None:
    service = ServiceTime(0.01)
    latencies, count = latencies_of(
        np.random.default_rng(0), [Piece(0.0, 1000.0, 10.0)], [Serving(0.0, 500.0, service, is_cut=True)]
    )
    assert latencies.count == pytest.approx(5000, rel=0.05)
    assert count.num_unanswered == pytest.approx(5000, rel=0.01)
    assert count.num_offered == latencies.count + count.num_unanswered


@pytest.mark.parametrize(("load", "variation"), [(0.3, 0.0), (0.6, 0.5), (0.8, 1.0)])
def test_mean_waits_are_those_of_pollaczek_and_khinchine(load: float, variation: float) -> None:
    service = ServiceTime(0.1, variation)
    latencies, _ = latencies_of(
        np.random.default_rng(5), [Piece(0.0, 400_000.0, load / 0.1)], [Serving(0.0, 1e9, service)]
    )
    spread = float(np.var(service.quantiles)) / 0.01  # that of the table, whose tail ends
    wait = load / (1 - load) * 0.1 * (1 + spread) / 2
    assert latencies.mean == pytest.approx(0.1 + wait, rel=0.03)


@pytest.mark.parametrize("load", [0.2, 0.5, 0.65])
def test_windows_stand_for_all_calls(load: float) -> None:
    service = ServiceTime(0.02, 0.3, wire_seconds=0.001)
    pieces = [Piece(0.0, 20_000.0, load / 0.02), Piece(20_000.0, 25_000.0, load / 0.04)]
    whole, sampled = Latencies(), Latencies()
    serving = [Serving(0.0, 25_000.0, service)]
    every = run_calls(pieces, serving, np.random.default_rng(1), Sampling(1.0, 0.1), whole)
    some = run_calls(pieces, serving, np.random.default_rng(2), Sampling(0.1, 0.1), sampled)
    assert some.num_drawn < 0.15 * every.num_drawn
    assert some.num_offered == pytest.approx(every.num_offered, rel=0.03)
    assert some.busy_seconds == pytest.approx(every.busy_seconds, rel=0.03)
    for share in (0.5, 0.95, 0.99):
        assert sampled.percentile(share) == pytest.approx(whole.percentile(share), rel=0.05)


def test_all_calls_of_a_busy_accelerator_are_drawn() -> None:
    """Its queue of the burst is still there in the quiet time that follows."""
    service = ServiceTime(0.1)
    pieces = [Piece(0.0, 100.0, 12.0), Piece(100.0, 300.0, 1.0)]
    latencies = Latencies()
    count = run_calls(
        pieces, [Serving(0.0, 300.0, service)], np.random.default_rng(0), Sampling(0.1), latencies
    )
    assert count.num_drawn == count.num_offered
    assert latencies.largest > 15


def test_calls_begin_when_the_accelerator_serves_and_late_ones_are_counted() -> None:
    service = ServiceTime(0.5, wire_seconds=0.1)
    latencies = Latencies()
    count = run_calls(
        [Piece(0.0, 1000.0, 0.1)],
        [Serving(900.0, 1000.0, service)],
        np.random.default_rng(0),
        Sampling(1, 0.55),
        latencies,
    )
    assert count.num_late == count.num_offered == latencies.count
    assert 2 <= latencies.count <= 25
    assert run_calls([Piece(0, 1, 1)], [], np.random.default_rng(0), Sampling(), Latencies()).num_offered == 0


@given(st.lists(st.floats(1e-5, 1e4), min_size=1, max_size=200), st.floats(0.01, 1.0))
@settings(deadline=None)
def test_percentiles_are_within_a_bin_of_the_sorted_ones(values: list[float], share: float) -> None:
    latencies = Latencies()
    latencies.add(np.array(values))
    wanted = sorted(values)[math.ceil(share * len(values) - 1e-9) - 1]
    assert latencies.percentile(share) == pytest.approx(wanted, rel=0.0101)


@pytest.mark.parametrize("share", [1.0, 0.5])
def test_the_first_call_after_each_load_takes_as_long_as_a_first_one_does(share: float) -> None:
    """Also where only a part of the calls is drawn, and these are so few that all of them are."""
    service = ServiceTime(0.001, first_seconds=(3.0,))
    latencies = Latencies()
    pieces, servings = [Piece(0.0, 5.0, 0.0), Piece(5.0, 105.0, 1.0)], [Serving(0.0, 1e9, service)]
    count = run_calls(pieces, servings, np.random.default_rng(1), Sampling(share), latencies)
    assert latencies.largest == pytest.approx(3.0, rel=0.02)
    assert count.busy_seconds == pytest.approx(3.0 + 0.001 * (count.num_offered - 1))
    if share == 1.0:
        twice = [Serving(0.0, 50.0, service, is_cut=True), Serving(60.0, 1e9, service)]
        count = run_calls(pieces, twice, np.random.default_rng(1), Sampling(), Latencies())
        assert count.busy_seconds == pytest.approx(6.0 + 0.001 * (count.num_offered - 2))


def test_service_times_have_their_mean_and_variation() -> None:
    for variation in (0.0, 0.2, 0.8):
        drawn = ServiceTime(0.03, variation).draw(np.random.default_rng(0), 200_000)[0]
        assert drawn.mean() == pytest.approx(0.03, rel=0.01)
        assert drawn.std() == pytest.approx(0.03 * variation, rel=0.05, abs=1e-9)


@pytest.mark.parametrize(
    "fields", [{"mean_seconds": 0.0}, {"mean_seconds": math.nan}, {"mean_seconds": 1.0, "variation": -1.0}]
)
def test_impossible_service_times_are_refused(fields: dict[str, float]) -> None:
    with pytest.raises(InvalidInput):
        ServiceTime(**fields)
