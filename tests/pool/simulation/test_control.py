"""Attaches, deaths and returns of hosts in a simulated pool."""

from __future__ import annotations

from dataclasses import replace

import pytest

from elastic_inference.errors import InvalidInput
from elastic_inference.pool.failover import FailoverRules
from elastic_inference.pool.model import Request
from elastic_inference.pool.simulation.attachment import Attachment, Piece
from elastic_inference.pool.simulation.control import (
    ControlRules,
    Course,
    Failure,
    mean_over_time,
    peak,
    run_control,
)
from elastic_inference.pool.simulation.service_time import ServiceTime
from elastic_inference.pool.simulation.simulate import SimulationOptions, simulate
from tests.pool.pools import cpu_host

RULES = ControlRules(start_seconds=1.0, failover=FailoverRules(0.5, 2.0, 0.5), notice_seconds=0.25)
SERVICE = ServiceTime(0.1, load_seconds=2.0)


def service_of(type_name: str, host_id: str) -> ServiceTime:
    del type_name, host_id
    return SERVICE


def stay(name: str, start: float, end: float, kind: str = "cpu.half", **request: object) -> Attachment:
    return Attachment(name, replace(Request(kind, tenant=name), **request), (Piece(start, end, 1.0),))


def run(
    demand: list[Attachment], num_hosts: int = 2, rules: ControlRules = RULES, *failures: Failure
) -> Course:
    return run_control([cpu_host(f"h{n}") for n in range(num_hosts)], demand, service_of, rules, failures)


def test_it_serves_when_process_and_model_are_there_until_it_is_detached() -> None:
    course = run([stay("a", 10.0, 60.0)])
    (serving,) = course.stays["a"].servings
    assert (serving.start, serving.end, serving.is_cut, serving.service) == (13.0, 60.0, False, SERVICE)
    assert course.stays["a"].wait_seconds == 0.0
    assert [use.num_accelerators for use in course.uses] == [1, 0]


def test_a_full_pool_refuses_or_lets_wait() -> None:
    demand = [stay("a", 0.0, 100.0), stay("b", 0.0, 20.0), stay("c", 10.0, 50.0)]
    course = run(demand, 1)
    assert [name for name, each in course.stays.items() if each.was_refused] == ["c"]
    assert course.num_refused == 1
    waiting = run(demand, 1, replace(RULES, attach_wait_seconds=15.0))
    assert waiting.stays["c"].wait_seconds == 10.0
    assert waiting.stays["c"].servings[0].start == 23.0
    short = run(demand, 1, replace(RULES, attach_wait_seconds=5.0))
    assert short.stays["c"].was_refused
    assert short.num_refused == 1


def test_what_leaves_makes_room_for_what_comes_at_the_same_moment() -> None:
    assert run([stay("a", 0.0, 10.0, "cpu.whole"), stay("b", 10.0, 20.0, "cpu.whole")], 1).num_refused == 0


def test_a_silent_host_is_waited_for_and_a_known_death_is_not() -> None:
    demand = [stay("a", 0.0, 100.0)]
    silent = run(demand, 2, RULES, Failure(50.0, "h0", down_seconds=30.0))
    first, second = silent.stays["a"].servings
    assert (first.end, first.is_cut) == (50.0, True)
    assert second.start == 50.0 - 0.25 + 2.5 + 3.0  # its last report, lease and margin, process and model
    assert silent.stays["a"].out_seconds == [5.25]
    assert silent.num_moved == 1
    known = run(demand, 2, RULES, Failure(50.0, "h0", down_seconds=30.0, is_known=True))
    assert known.stays["a"].out_seconds == [0.25 + 3.0]


def test_without_room_elsewhere_it_comes_back_with_its_host() -> None:
    course = run([stay("a", 0.0, 100.0)], 1, RULES, Failure(50.0, down_seconds=30.0))
    assert course.stays["a"].servings[1].start == 83.0
    never = run([stay("a", 0.0, 70.0)], 1, RULES, Failure(50.0, down_seconds=30.0))
    assert len(never.stays["a"].servings) == 1
    assert never.stays["a"].out_seconds == [20.0]


def test_who_matters_more_comes_back_first() -> None:
    demand = [stay("a", 0.0, 100.0), stay("b", 1.0, 100.0, priority=1), stay("c", 2.0, 100.0)]
    course = run(demand, 2, RULES, Failure(50.0, "h0", down_seconds=1000.0))
    assert [len(course.stays[name].servings) for name in "abc"] == [1, 2, 1]


def test_the_host_with_most_accelerators_dies_where_none_is_named() -> None:
    demand = [stay("a", 0.0, 90.0, "cpu.whole"), stay("b", 0.0, 90.0), stay("c", 0.0, 90.0)]
    course = run(demand, 3, RULES, Failure(50.0))
    assert [len(course.stays[name].servings) for name in "abc"] == [1, 2, 2]
    assert run(demand, 2, RULES, Failure(50.0), Failure(51.0), Failure(52.0)).num_moved == 3


def test_use_over_time() -> None:
    course = run([stay("a", 0.0, 10.0), stay("b", 5.0, 10.0)])
    most = peak(course.uses)
    assert most is not None
    assert (most.at, most.held_devices, most.used_devices, most.used_hosts) == (5.0, 1.0, 1, 1)
    assert mean_over_time(course.uses, lambda use: use.held_devices) == 0.75


def test_a_type_that_no_host_has_is_an_error_of_the_demand() -> None:
    with pytest.raises(InvalidInput, match=r"no host has a type 'gpu\.half'"):
        run([stay("a", 0.0, 1.0, "gpu.half")])


def test_equal_seeds_give_equal_results_and_others_others() -> None:
    demand = [stay(f"t{n}", 10.0 * n, 500.0 + 10 * n, "cpu.quarter") for n in range(12)]
    hosts = [cpu_host(f"h{n}") for n in range(3)]
    options = SimulationOptions(RULES, failures=(Failure(100.0),), target_seconds=0.15, percentile=0.9)
    one, two = (simulate(hosts, demand, service_of, options) for _ in range(2))
    other = simulate(hosts, demand, service_of, replace(options, seed=1))
    assert one.calls == two.calls
    assert one.latencies.percentile(0.99) == two.latencies.percentile(0.99)
    assert one.calls != other.calls
    assert one.outages == two.outages
    assert one.course.num_moved == 4
    assert len(one.over_target) == one.by_type["cpu.quarter"].num_over_target > 0
    assert one.num_devices == 3
    assert 0.5 < one.held_share <= 1.0
    assert max(one.waits) == 0.0
