"""The requests a second that accelerators share: what is taken in all, whoever takes it and since when it is there."""

from __future__ import annotations

import multiprocessing
import os
import random
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection

import pytest

from elastic_inference.clock import MonotonicClock
from elastic_inference.errors import CapacityExceeded, ComputeQuotaExceeded, InvalidInput
from elastic_inference.limits import memory_file
from elastic_inference.limits.request_rate import NUM_SLOTS, RateConfig, RatePage, RequestRate
from elastic_inference.testing.clock import ManualClock


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def page(clock: ManualClock) -> Iterator[RatePage]:
    page = RatePage.create("vision", clock)
    yield page
    page.close()


def join(page: RatePage, number: int, clock: ManualClock) -> RequestRate:
    """Return what accelerator `number` takes its requests from."""
    slot = page.admit(number.to_bytes(16, "big"))
    return RequestRate(RateConfig(os.dup(page.fd), slot), clock)


def taken(rate: RequestRate, tries: int) -> int:
    """How many of so many requests are taken."""
    num_taken = 0
    for _ in range(tries):
        try:
            rate.take()
        except ComputeQuotaExceeded:
            continue
        num_taken += 1
    return num_taken


def test_without_a_limit_all_are_taken(page: RatePage, clock: ManualClock) -> None:
    rate = join(page, 1, clock)
    assert rate.per_second is None
    assert taken(rate, 10_000) == 10_000


def test_one_second_of_requests_is_for_all_accelerators_together(page: RatePage, clock: ManualClock) -> None:
    page.put(10.0)
    first, second = join(page, 1, clock), join(page, 2, clock)
    assert first.per_second == second.per_second == 10.0
    assert taken(first, 7) == 7
    assert taken(second, 20) == 3
    assert taken(first, 20) == 0
    clock.advance(0.5)
    assert taken(second, 20) == 5
    with pytest.raises(ComputeQuotaExceeded, match=r"the quota is 10 requests .* try again in 0\.100 s"):
        first.take()


def test_a_bucket_that_nobody_uses_holds_one_second_and_no_more(page: RatePage, clock: ManualClock) -> None:
    page.put(10.0)
    first, second = join(page, 1, clock), join(page, 2, clock)
    clock.advance(3600.0)
    assert taken(first, 100) == 10
    clock.advance(3600.0)
    assert [taken(second, 100), taken(first, 100)] == [10, 0]


def test_in_the_long_run_exactly_the_rate_is_taken_by_any_mix_of_accelerators(
    page: RatePage, clock: ManualClock
) -> None:
    page.put(50.0)
    rates = [join(page, number, clock) for number in range(8)]
    chance = random.Random(20260801)
    moments, num_taken = [(0.0, 0)], 0
    while clock.now() < moments[0][0] + 200.0:
        clock.advance(chance.choice((0.0, 0.001, 0.02, 0.1)))
        num_taken += taken(chance.choice(rates), chance.choice((1, 1, 5, 60)))
        moments.append((clock.now(), num_taken))
    begin = moments[0][0]
    assert num_taken <= 50 + 50 * (clock.now() - begin)
    for (since, before), (until, after) in zip(moments[::7], moments[70::7], strict=False):
        assert after - before <= 50 + 50 * (until - since) + 1e-6
    greedy = join(page, 99, clock)
    num_before, since = taken(greedy, 1000), clock.now()
    assert num_before <= 50
    num_taken = 0
    for _ in range(1000):
        clock.advance(0.01)
        num_taken += taken(greedy, 3)
    assert num_taken == pytest.approx(50 * (clock.now() - since), abs=1)


def test_who_is_attached_anew_finds_the_bucket_as_it_is(page: RatePage, clock: ManualClock) -> None:
    page.put(5.0)
    assert taken(join(page, 1, clock), 10) == 5
    page.dismiss((1).to_bytes(16, "big"))
    assert taken(join(page, 2, clock), 10) == 0
    clock.advance(0.2)
    page.put(5.0)  # as a host does that starts again
    assert taken(join(page, 3, clock), 10) == 1


def test_another_limit_counts_at_once_and_goes_on_with_what_is_left(
    page: RatePage, clock: ManualClock
) -> None:
    rate = join(page, 1, clock)
    clock.advance(1e6)
    page.put(3.0)  # the first one's bucket is full
    assert taken(rate, 2) == 2
    for per_second, most in ((1000.0, 1), (0.001, 0), (3.0, 0)):
        page.put(per_second)
        assert rate.per_second == per_second
        assert taken(rate, 2000) == most
    clock.advance(1.0)
    page.put(2.0)  # of the three that came meanwhile it holds two
    assert taken(rate, 2000) == 2
    page.put(None)
    assert rate.per_second is None
    assert taken(rate, 2000) == 2000
    page.put(5.0)
    assert taken(rate, 2000) == 5


def test_nobody_gets_more_by_limits_that_change_often(page: RatePage, clock: ManualClock) -> None:
    """As those of a pool's host do while a tenant attaches and detaches elsewhere."""
    rate, num_taken, since = join(page, 1, clock), 0, clock.now()
    page.put(10.0)
    for number in range(200):  # more often than there are places for rules
        clock.advance(0.5)
        num_taken += taken(rate, 100)
        page.put((5.0, 10.0)[number % 2])
        num_taken += taken(rate, 100)
    assert num_taken <= 10 + 7.5 * (clock.now() - since)


def test_accelerators_keep_their_cells_and_those_of_others_are_not_given(
    page: RatePage, clock: ManualClock
) -> None:
    names = [number.to_bytes(16, "big") for number in range(1, NUM_SLOTS + 1)]
    assert [page.admit(name) for name in names] == list(range(NUM_SLOTS))
    assert page.admit(names[5]) == 5
    with pytest.raises(CapacityExceeded, match=f"{NUM_SLOTS} accelerators on a host at most"):
        page.admit(b"x" * 16)
    page.dismiss(names[7])
    page.dismiss(b"y" * 16)
    assert page.admit(b"x" * 16) == 7
    page.keep({names[5]})
    assert [page.admit(b"y" * 16), page.admit(names[5]), page.admit(b"x" * 16)] == [0, 5, 1]
    with pytest.raises(InvalidInput, match=f"slot {NUM_SLOTS} of requests"):
        RateConfig(0, NUM_SLOTS)
    assert taken(RequestRate(RateConfig(os.dup(page.fd), NUM_SLOTS - 1), clock), 3) == 3


def _take_until_told(fd: int, slot: int, told: Connection) -> None:
    rate = RequestRate(RateConfig(fd, slot), MonotonicClock())
    num_taken = 0
    told.send("ready")
    while not told.poll():
        num_taken += taken(rate, 50)
    told.send(num_taken)


def test_processes_that_take_at_the_same_time_take_no_more_than_the_rate_in_all() -> None:
    context = multiprocessing.get_context("fork")
    page = RatePage.create("vision", MonotonicClock())
    began = time.monotonic()
    page.put(2000.0)
    pipes, processes = [], []
    for number in range(4):
        ours, theirs = context.Pipe()
        slot = page.admit((number + 1).to_bytes(16, "big"))
        processes.append(context.Process(target=_take_until_told, args=(os.dup(page.fd), slot, theirs)))
        pipes.append(ours)
    for process in processes:
        process.start()
    try:
        assert [pipe.recv() for pipe in pipes] == ["ready"] * 4
        time.sleep(1.0)
        for pipe in pipes:
            pipe.send("stop")
        counted = [pipe.recv() for pipe in pipes]
        ended = time.monotonic()
    finally:
        for process in processes:
            process.terminate()
            process.join(30)
    page.close()
    # Of the very last requests, each of the others may have taken one at the same moment.
    assert 0 < sum(counted) <= 2000 + 2000 * (ended - began) + 3


def test_a_host_finds_the_memory_in_a_process_that_has_it_and_none_that_could_be_cut_short() -> None:
    clock = MonotonicClock()
    page = RatePage.create("tenant-1", clock)
    page.put(7.0)
    found = RatePage.find(os.getpid(), "tenant-1", clock)
    assert found is not None
    rate = RequestRate(RateConfig(os.dup(found.fd), found.admit(b"a" * 16)), clock)
    assert rate.per_second == 7.0
    found.put(8.0)
    assert RequestRate(RateConfig(os.dup(page.fd), 1), clock).per_second == 8.0
    found.close()
    page.close()
    by_the_accelerators_own = RatePage.find(os.getpid(), "tenant-1", clock)
    assert by_the_accelerators_own is not None
    by_the_accelerators_own.close()
    unsealed = os.memfd_create("elastic-inference-requests-tenant-2")
    other = memory_file.create("elastic-inference-requests-tenant-3", bytes(64))
    for tenant in ("tenant-2", "tenant-3", "tenant-4"):
        assert RatePage.find(os.getpid(), tenant, clock) is None
    os.close(unsealed)
    os.close(other)
