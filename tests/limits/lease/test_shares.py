"""What tenants get, by simulation of the policy alone: shares, the light tenant's p99, no starvation."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.limits.lease.simulation import Load, Simulation, always, evenly, p99

ASKED = ([0.1, 0.9], [0.25, 0.75], [0.3, 0.7], [0.5, 0.5], [0.2, 0.3, 0.5])
SECONDS = 60.0


def points_off(simulation: Simulation) -> float:
    asked = [load.weight for load in simulation.loads]
    return max(abs(got - want) * 100 for got, want in zip(simulation.shares(), asked, strict=True))


@pytest.mark.parametrize("asked", ASKED, ids=str)
@pytest.mark.parametrize(
    "lengths", [(0.025, 0.025, 0.025), (0.002, 0.1, 0.025), (0.1, 0.002, 0.025)], ids=str
)
@pytest.mark.parametrize("piece_seconds", [None, 0.002], ids=["whole", "pieces"])
@pytest.mark.parametrize("may_burst", [False, True], ids=["held", "bursting"])
def test_tenants_that_saturate_get_what_they_asked_for(
    asked: list[float], lengths: tuple[float, ...], piece_seconds: float | None, may_burst: bool
) -> None:
    loads = [
        Load(weight, always(length), piece_seconds=piece_seconds, may_burst=may_burst)
        for weight, length in zip(asked, lengths, strict=False)
    ]
    simulation = Simulation(loads, switch_seconds=20e-6)
    simulation.run(SECONDS)
    assert points_off(simulation) < 0.5
    assert sum(simulation.used_seconds) > 0.98 * SECONDS


@pytest.mark.parametrize("asked", ASKED, ids=str)
def test_clients_that_send_one_request_at_a_time_get_what_they_asked_for(asked: list[float]) -> None:
    simulation = Simulation([Load(weight, always(0.025), gap_seconds=0.0003) for weight in asked])
    simulation.run(SECONDS)
    assert points_off(simulation) < 0.5


@given(
    cuts=st.lists(st.floats(0.05, 0.95), min_size=1, max_size=4),
    seed=st.integers(0, 1 << 30),
    may_burst=st.booleans(),
    piece_seconds=st.sampled_from([None, 0.001, 0.005]),
)
@settings(max_examples=40)
def test_shares_hold_for_any_weights_and_any_mixture_of_requests(
    cuts: list[float], seed: int, may_burst: bool, piece_seconds: float | None
) -> None:
    edges = [0.0, *sorted(cuts), 1.0]
    weights = [max(b - a, 0.01) for a, b in itertools.pairwise(edges)]
    total = sum(weights)
    source = random.Random(seed)

    def lengths(longest: float) -> Iterator[float]:
        return (source.uniform(0.001, longest) for _ in itertools.count())

    loads = [
        Load(weight / total, lengths(source.choice([0.005, 0.03, 0.1])), None, 0.0, piece_seconds, may_burst)
        for weight in weights
    ]
    simulation = Simulation(loads)
    simulation.run(SECONDS)
    assert points_off(simulation) < 0.5


@pytest.mark.parametrize("share", [0.1, 0.25, 0.5])
@pytest.mark.parametrize("may_burst", [False, True], ids=["held", "bursting"])
def test_a_light_tenant_waits_for_one_piece_of_a_neighbour_that_saturates(
    share: float, may_burst: bool
) -> None:
    def run(*neighbours: Load) -> float:
        light = Load(share, always(0.025), evenly(0.4 * share / 0.025), piece_seconds=0.002)
        Simulation([light, *neighbours]).run(1000 * 0.025 / share)
        return p99(light.latencies)

    neighbour = Load(1 - share, always(0.025), piece_seconds=0.002, may_burst=may_burst)
    assert run(neighbour) / run() < 1.2


def test_nobody_starves_beside_long_requests_and_many_neighbours() -> None:
    loads = [Load(0.01, always(0.002)), *(Load(0.99 / 31, always(0.05)) for _ in range(31))]
    simulation = Simulation(loads)
    simulation.run(300.0)
    waits = [tenant.wait_seconds / max(1, tenant.num_leases) for tenant in simulation.turns.tenants.values()]
    assert min(simulation.used_seconds) > 0.9 * 0.01 * 300
    assert max(waits) < 3.0


def test_idle_time_goes_to_whoever_may_burst_and_to_nobody_else() -> None:
    held, bursting = Load(0.25, always(0.01)), Load(0.25, always(0.01), may_burst=True)
    simulation = Simulation([held, bursting])
    simulation.run(SECONDS)
    assert simulation.used_seconds[0] / SECONDS == pytest.approx(0.25, abs=0.005)
    assert simulation.used_seconds[1] / SECONDS == pytest.approx(0.75, abs=0.005)


def test_those_that_burst_share_idle_time_by_their_weights() -> None:
    loads = [Load(weight, always(0.01), may_burst=True) for weight in (0.1, 0.3)]
    simulation = Simulation(loads)
    simulation.run(SECONDS)
    assert simulation.shares()[0] == pytest.approx(0.25, abs=0.005)
    assert sum(simulation.used_seconds) == pytest.approx(SECONDS, rel=0.01)


def test_a_tenant_that_comes_back_neither_owes_nor_is_owed_the_time_it_was_away() -> None:
    """Both may burst: while one is away the other has all; from its return on both have their halves."""
    away = Load(0.5, always(0.01), may_burst=True, starts_at=30.0)
    stays = Load(0.5, always(0.01), may_burst=True)
    simulation = Simulation([away, stays])
    simulation.run(30.0)
    before = simulation.used_seconds[1]
    assert before == pytest.approx(30.0, rel=0.01)
    simulation.run(31.0)
    assert simulation.used_seconds[0] == pytest.approx(0.5, abs=0.03)
    assert simulation.used_seconds[1] - before == pytest.approx(0.5, abs=0.03)
