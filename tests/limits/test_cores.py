"""Cores are given so that whole shares are alone and nobody moves without need."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from elastic_inference.errors import LimitError
from elastic_inference.limits.affinity import keep_to_cores
from elastic_inference.limits.cores import CoreRequest, plan_cores
from tests.waiting import read_line


def plan(*num_cores: float, cores: int = 2, **more: object) -> list[frozenset[int]]:
    requests = {f"a{i}": CoreRequest(n) for i, n in enumerate(num_cores)}
    return list(plan_cores(requests, range(cores), **more).values())  # type: ignore[arg-type]


def test_halves_of_two_cores_get_a_core_each() -> None:
    assert plan(1.0, 1.0) == [{0}, {1}]


def test_tenth_and_nine_tenths_share_one_core_only() -> None:
    small, large = plan(0.2, 1.8)
    assert large == {0, 1}
    assert len(small) == 1


def test_quarters_fill_one_core_before_the_next() -> None:
    assert plan(0.5, 0.5, 1.0) == [{1}, {1}, {0}]


def test_the_fullest_core_that_has_room_is_taken_though_it_is_not_the_first() -> None:
    requests = {"a": CoreRequest(0.8), "b": CoreRequest(0.6), "c": CoreRequest(0.15)}
    assert plan_cores(requests, (0, 1), {"a": frozenset({1})}) == {"a": {1}, "b": {0}, "c": {1}}


def test_rest_that_fits_on_no_core_is_spread() -> None:
    assert plan(0.6, 0.6, 0.6, cores=2)[2] == {0, 1}


def test_bursting_accelerator_may_use_all_cores() -> None:
    requests = {"a": CoreRequest(1.0, may_burst=True), "b": CoreRequest(1.0)}
    assert plan_cores(requests, (4, 7)) == {"a": {4, 7}, "b": {4}}


def test_newcomer_moves_no_one() -> None:
    previous = {"b": frozenset({0})}
    requests = {"a": CoreRequest(1.0), "b": CoreRequest(1.0)}
    assert plan_cores(requests, (0, 1), previous) == {"a": {1}, "b": {0}}


def test_newcomer_with_part_of_a_core_moves_no_one() -> None:
    previous = {"b": frozenset({0})}
    requests = {"a": CoreRequest(0.95), "b": CoreRequest(0.95)}
    assert plan_cores(requests, (0, 1), previous) == {"a": {1}, "b": {0}}


@given(st.lists(st.floats(0.01, 4.0), max_size=8), st.integers(1, 8), st.data())
def test_nobody_is_left_without_a_core_and_whole_cores_are_alone(
    sizes: list[float], cores: int, data: st.DataObject
) -> None:
    total = sum(sizes)
    fitted = [size * min(1.0, cores / total) for size in sizes]
    some_cores = st.frozensets(st.integers(0, cores - 1))
    previous = {f"a{i}": data.draw(some_cores) for i in range(len(sizes)) if data.draw(st.booleans())}
    given_cores = plan(*fitted, cores=cores, previous=previous)
    users = Counter(core for own in given_cores for core in own)
    for size, own in zip(fitted, given_cores, strict=True):
        assert own
        assert len(own) + 1e-6 >= size
        assert sum(users[core] == 1 for core in own) >= int(size + 1e-6)


@given(st.lists(st.floats(0.01, 4.0), max_size=8), st.integers(1, 8))
def test_a_plan_made_again_moves_no_one(sizes: list[float], cores: int) -> None:
    total = sum(sizes)
    fitted = [size * min(1.0, cores / total) for size in sizes]
    first = plan(*fitted, cores=cores)
    assert plan(*fitted, cores=cores, previous={f"a{i}": own for i, own in enumerate(first)}) == first


def test_all_threads_of_a_process_are_moved() -> None:
    code = (
        "import threading, sys\n"
        "stop = threading.Event()\n"
        "[threading.Thread(target=stop.wait, daemon=True).start() for _ in range(4)]\n"
        "print(flush=True); sys.stdin.read()"
    )
    core = min(os.sched_getaffinity(0))
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert read_line(process) == ""
        keep_to_cores([process.pid], frozenset({core}))
        threads = [int(name) for name in os.listdir(f"/proc/{process.pid}/task")]
        assert len(threads) == 5
        assert all(os.sched_getaffinity(thread) == {core} for thread in threads)


def test_cores_that_the_machine_does_not_have_are_refused() -> None:
    before = os.sched_getaffinity(0)
    with pytest.raises(LimitError, match=r"cannot be kept to cores \[9999\]: Invalid argument"):
        keep_to_cores([os.getpid()], frozenset({9999}))
    assert os.sched_getaffinity(0) == before


def test_the_smallest_plan_that_needs_a_choice_follows_the_documented_order() -> None:
    assert plan(1.0, 2.0, cores=3) == [{2}, {0, 1}]  # the largest first
    assert plan(0.3, 0.3, 0.7, 0.7) == [{0}, {1}, {0}, {1}]  # the largest rest first, so that all fit
    assert plan(0.9, 0.8, 0.7, 0.45, cores=3)[3] == {1, 2}  # over those with most room where none has enough
    assert plan(1.25, 0.5, 0.25, cores=2) == [{0, 1}, {1}, {1}]


def test_an_accelerator_keeps_its_cores_while_others_come_and_go() -> None:
    one, half = CoreRequest(1.0), CoreRequest(0.5)
    assert plan_cores({"a": one}, range(3), {"a": frozenset({2})}) == {"a": {2}}
    assert plan_cores({"a": half}, range(3), {"a": frozenset({2})}) == {"a": {2}}
    assert plan_cores({"a": CoreRequest(2.0)}, range(3), {"a": frozenset({2})}) == {"a": {0, 2}}
    # Those that are there choose before a larger newcomer, and one that has gone keeps nothing.
    before = {"a": frozenset({1}), "gone": frozenset({0})}
    assert plan_cores({"a": half, "b": CoreRequest(0.75)}, range(3), before) == {"a": {1}, "b": {0}}
    assert plan_cores({"a": one, "b": one}, range(3), before) == {"a": {1}, "b": {0}}


def test_shares_that_binary_cannot_hold_are_whole_cores_all_the_same() -> None:
    assert plan(0.1 * 3 * 10, 1.0, cores=4) == [{0, 1, 2}, {3}]
    assert plan(0.9, 0.1, cores=2) == [{0}, {0}]  # 1 - 0.9 is a little less than 0.1
    assert plan(0.29 * 100, 1.0, cores=30)[0] == set(range(29))  # 28.999999999999996
