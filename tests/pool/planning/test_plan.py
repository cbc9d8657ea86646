"""Plans: as few hosts as hold a demand, of the kind that costs least, with room for those that die."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import pytest

from elastic_inference.errors import InvalidInput
from elastic_inference.explorer.prices import load_prices
from elastic_inference.pool.model import Request
from elastic_inference.pool.planning.auto import Target
from elastic_inference.pool.planning.kinds import HostKind, kinds_of
from elastic_inference.pool.planning.plan import Plan, PlanOptions, make_plan
from elastic_inference.pool.simulation.attachment import Attachment, Piece
from elastic_inference.pool.simulation.profile import Profile
from elastic_inference.pool.simulation.service_time import ServiceTime

SMALL, LARGE, GPU = kinds_of("m5.xlarge,m5.4xlarge,g6.xlarge", load_prices())
PROFILE = Profile(
    {
        "cpu.quarter": ServiceTime(0.1, 0.2),
        "cpu.half": ServiceTime(0.05, 0.2),
        "cpu.whole": ServiceTime(0.03, 0.2),
        "gpu.tenth": ServiceTime(0.01, 0.1),
    },
    "test",
)


def stay(number: int, kind: str, rate: float = 1.0, start: float = 0.0, **request: object) -> Attachment:
    piece = Piece(start, start + 3600.0, rate)
    return Attachment(f"a{number}", replace(Request(kind, tenant=f"t{number}"), **request), (piece,))


def plan(demand: list[Attachment], kinds: list[HostKind], failures: int = 0, seconds: float = 1.0) -> Plan:
    return make_plan(demand, kinds, PROFILE, PlanOptions(Target(seconds), num_failures=failures))


def test_as_few_hosts_as_hold_the_demand() -> None:
    demand = [stay(n, "cpu.quarter") for n in range(9)] + [stay(9, "cpu.half"), stay(10, "cpu.whole")]
    found = plan(demand, [SMALL])
    assert found.chosen is not None
    assert found.chosen.counts == {"m5.xlarge": 4}  # 9/4 + 1/2 + 1 = 3.75
    assert found.chosen.spares == {}
    assert found.chosen.usd_per_hour == 4 * Decimal("0.192")
    assert found.meets_target
    assert found.usual is not None
    assert (found.usual.num_refused, found.usual.peak_accelerators, found.usual.peak_hosts) == (0, 11, 4)
    assert found.bare is None


def test_those_who_leave_make_room() -> None:
    demand = [stay(n, "cpu.whole", start=3600.0 * n) for n in range(5)]
    found = plan(demand, [SMALL])
    assert found.chosen is not None
    assert found.chosen.counts == {"m5.xlarge": 1}
    assert found.hours == 5.0


@pytest.mark.parametrize("failures", [1, 2])
def test_spare_hosts_take_at_once_what_dying_ones_held(failures: int) -> None:
    demand = [stay(n, "cpu.quarter") for n in range(16)]
    found = plan(demand, [SMALL], failures)
    assert found.chosen is not None
    assert found.chosen.counts == {"m5.xlarge": 4 + failures}
    assert found.chosen.spares == {"m5.xlarge": failures}
    assert found.bare is not None
    assert found.spared is not None
    assert found.bare.num_moved == found.spared.num_moved == 4 * failures
    assert (found.bare.most_waiting, found.spared.most_waiting) == (4 * failures, 0)
    assert found.spared.longest_out_seconds is not None
    assert found.bare.longest_out_seconds is not None
    assert found.spared.longest_out_seconds < 4 < 500 < found.bare.longest_out_seconds
    assert found.spared.num_unanswered == 0


@pytest.mark.parametrize("seconds", [0.5, 1.0, 2.0, 60.0])
def test_a_peak_that_is_over_before_a_lease_finds_its_hosts_dead(seconds: float) -> None:
    """Hosts that died a moment before it are missing; that they may die within it harms nobody, and was all."""
    burst = [
        Attachment(f"b{number}", Request("cpu.whole"), (Piece(100.0, 100.0 + seconds, 1.0),))
        for number in range(4)
    ]
    found = plan([stay(0, "cpu.quarter"), *burst], [SMALL], failures=2)
    assert found.chosen is not None
    assert found.chosen.counts == {"m5.xlarge": 7}
    assert found.chosen.spares == {"m5.xlarge": 2}
    assert found.bare is not None
    assert found.spared is not None
    assert found.bare.num_refused + found.bare.most_waiting > 0
    assert (found.spared.num_refused, found.spared.most_waiting) == (0, 0)


def test_room_that_is_there_anyhow_is_not_bought_again() -> None:
    found = plan([stay(0, "cpu.quarter")], [SMALL], failures=1)
    assert found.chosen is not None
    assert found.chosen.counts == {"m5.xlarge": 2}
    three = [stay(n, "cpu.half", anti_affinity="x", tenant="t") for n in range(3)]
    found = plan(three, [SMALL], failures=0)
    assert found.chosen is not None
    assert found.chosen.counts == {"m5.xlarge": 3}  # half empty, because they must be apart


def test_the_cheapest_kind_that_is_quick_enough() -> None:
    own = replace(LARGE, profile=Profile({"cpu.quarter": ServiceTime(0.02, 0.2)}, "own"))
    demand = [stay(n, "cpu.quarter") for n in range(8)]
    cheap = plan(demand, [SMALL, own], seconds=1.0)
    quick = plan(demand, [SMALL, own], seconds=0.06)
    assert cheap.chosen is not None
    assert quick.chosen is not None
    assert cheap.chosen.counts == {"m5.xlarge": 2}
    assert quick.chosen.counts == {"m5.4xlarge": 2}
    assert quick.meets_target
    slow = plan(demand, [SMALL], seconds=0.06)
    assert not slow.meets_target
    assert slow.advice == {("cpu.quarter", "cpu.whole"): 8}
    none = plan(demand, [SMALL], seconds=0.001)
    assert none.advice == {("cpu.quarter", None): 8}


def test_types_go_to_the_kinds_that_have_them_and_auto_to_the_cheapest() -> None:
    demand = [stay(0, "gpu.tenth"), *(stay(n, "auto", 1.0) for n in range(1, 5)), stay(5, "auto", 20.0)]
    found = plan(demand, [SMALL, GPU], seconds=0.5)
    assert found.chosen is not None
    assert found.chosen.name == "g6.xlarge + m5.xlarge"
    assert found.chosen.counts == {"m5.xlarge": 2, "g6.xlarge": 1}
    assert [one.request.type_name for one in found.demand[1:5]] == ["cpu.quarter"] * 4
    assert found.demand[5].request.type_name == "cpu.whole"
    assert {option.name: option.problem for option in found.options}[
        "m5.xlarge"
    ] == "cannot hold type 'gpu.tenth'"


def test_features_decide_too() -> None:
    rare = replace(SMALL, name="rare", features=frozenset({"bf16"}), usd_per_hour=Decimal(1))
    found = plan([stay(0, "cpu.half", features=frozenset({"bf16"})), stay(1, "cpu.half")], [SMALL, rare])
    assert found.chosen is not None
    assert found.chosen.counts == {"rare": 1}  # which has room for both


def test_too_few_hosts_are_said() -> None:
    found = plan([stay(n, "cpu.whole") for n in range(4)], [replace(SMALL, max_hosts=3)])
    assert found.chosen is None
    assert not found.meets_target
    assert found.options[0].problem == "3 hosts of m5.xlarge are too few"
    spare = plan([stay(n, "cpu.whole") for n in range(3)], [replace(SMALL, max_hosts=3)], failures=1)
    assert spare.options[0].problem == "no host is left to spare for 1 that die"


def test_demand_that_cannot_be_planned_is_refused() -> None:
    with pytest.raises(
        InvalidInput, match=r"no kind of host can hold type 'gpu\.half'; they offer cpu\.half, "
    ):
        plan([stay(0, "gpu.half")], [SMALL])
    with pytest.raises(
        InvalidInput, match=r"no service time of type 'gpu\.half' on g6\.xlarge; known are gpu\.tenth"
    ):
        plan([stay(0, "gpu.half")], [GPU])
    with pytest.raises(InvalidInput, match="with bf16"):
        plan([stay(0, "cpu.half", features=frozenset({"bf16"}))], [SMALL])
    with pytest.raises(InvalidInput, match="no demand"):
        plan([], [SMALL])
    with pytest.raises(InvalidInput, match="'auto' needs a type with a service time"):
        make_plan([stay(0, "auto")], [SMALL], Profile({}, "none"), PlanOptions())


def test_without_prices_the_fewest_hosts_count() -> None:
    found = plan([stay(n, "cpu.quarter") for n in range(5)], [replace(SMALL, usd_per_hour=None)])
    assert found.chosen is not None
    assert found.chosen.usd_per_hour is None
    assert found.chosen.counts == {"m5.xlarge": 2}
