"""The turns of one device on a manual clock: who runs, who is cut, who waits how long, what a lost lease leaves."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from elastic_inference.limits.lease.policy import DeviceTurns
from elastic_inference.limits.lease.tenant import Tenant
from elastic_inference.limits.lease.use import Use

MS = 0.001


def two(first: float = 0.5, second: float = 0.5, may_burst: bool = False) -> DeviceTurns:
    turns = DeviceTurns()
    for slot, weight in enumerate((first, second)):
        turns.join(slot, Tenant(weight, may_burst), now=0.0)
    return turns


def learn(turns: DeviceTurns, slot: int, seconds: float, until: float) -> None:
    """One request of `seconds`, so that the tenant's longest is known, and idle time until its credit is whole."""
    start = turns.tenants[slot].settled_at
    assert turns.ask(slot, start)
    assert turns.release(slot, turns.epoch, start + seconds, has_more=False)
    turns.look(until)


def test_a_free_device_is_had_at_once() -> None:
    turns = two()
    assert turns.ask(0, 1.0)
    assert (turns.holder, turns.epoch) == (0, 1)


def test_a_release_hands_the_device_to_whoever_waits() -> None:
    turns = two()
    turns.ask(0, 0.0)
    assert not turns.ask(1, 1 * MS)
    assert turns.release(0, 1, 5 * MS, has_more=False)
    assert turns.holder == 1
    assert turns.tenants[1].wait_seconds == pytest.approx(4 * MS)


def test_a_holder_that_is_behind_keeps_the_device_by_renewing() -> None:
    turns = two(0.9, 0.1)
    turns.ask(1, 0.0)
    turns.ask(0, 0.0)
    turns.release(1, 1, 10 * MS, has_more=True)
    for number in range(1, 9):  # 9 to 1: the first has nine requests of the same length
        assert turns.holder == 0
        turns.release(0, turns.epoch, (10 + 10 * number) * MS, has_more=True)
    assert turns.holder == 0


def test_the_running_request_is_charged_as_it_runs() -> None:
    turns = two()
    turns.ask(0, 0.0)
    turns.ask(1, 1 * MS)
    turns.must_yield(0, 1, 10 * MS)
    assert turns.tenants[0].level_seconds == pytest.approx(-5 * MS)
    assert turns.tenants[0].device_seconds == pytest.approx(10 * MS)


def test_only_one_that_is_ahead_is_cut_and_only_for_one_whose_credit_carries_its_request() -> None:
    turns = two()
    learn(turns, 1, 20 * MS, until=0.1)
    turns.ask(0, 0.1)
    turns.ask(1, 0.1)
    assert not turns.must_yield(0, turns.epoch, 0.1 + 1 * MS)  # its idle time carries it so far
    assert turns.must_yield(0, turns.epoch, 0.1 + 10 * MS)
    turns.interrupt(0, turns.epoch, 0.1 + 10 * MS)
    assert turns.holder == 1
    for passed in range(1, 20):  # the whole request at once, whatever has been saved up meanwhile
        assert not turns.must_yield(1, turns.epoch, 0.11 + passed * MS)


def test_one_without_credit_for_its_request_waits_for_the_end_of_the_running_one() -> None:
    turns = two()
    learn(turns, 1, 100 * MS, until=0.1)  # it has just run and is ahead
    turns.ask(0, 0.1)
    turns.ask(1, 0.1)
    assert not turns.must_yield(0, turns.epoch, 0.13)


def test_one_that_always_asks_waits_for_credit_for_a_whole_turn() -> None:
    turns = two()
    turns.turn_seconds = 20 * MS
    turns.ask(0, 0.0)
    turns.release(0, 1, 2 * MS, has_more=True)  # short requests, the next waits already
    turns.turn_seconds = 0.0
    turns.ask(1, 2 * MS)
    turns.release(0, turns.epoch, 4 * MS, has_more=True)
    assert turns.holder == 1
    turns.turn_seconds = 20 * MS
    now = 4 * MS
    assert turns.yields_at(now) - now == pytest.approx((10 * MS - turns.tenants[0].level_seconds) / 0.5)
    turns.tenants[0].is_newcomer = True
    assert turns.yields_at(now) - now < 10 * MS


def test_nobody_is_cut_for_nobody() -> None:
    turns = two(may_burst=True)
    turns.ask(0, 0.0)
    assert not turns.must_yield(0, 1, 10.0)


def test_a_tenant_held_to_its_share_rests_although_the_device_is_free() -> None:
    turns = two(0.25, 0.75)
    learn(turns, 0, 30 * MS, until=30 * MS)
    now = 30 * MS
    assert not turns.ask(0, now)
    assert turns.holder is None
    again = turns.look_again_at(0, now)
    assert again == pytest.approx(120 * MS)
    turns.look(again)
    assert turns.holder == 0


def test_one_that_may_burst_takes_a_free_device_whatever_it_used() -> None:
    turns = two(0.25, 0.75, may_burst=True)
    learn(turns, 0, 30 * MS, until=30 * MS)
    assert turns.ask(0, 30 * MS)


def closed_loop() -> tuple[DeviceTurns, float]:
    """One who sends one request at a time, the next 0.2 ms after the answer, beside one who has just come."""
    turns = DeviceTurns()
    turns.join(0, Tenant(0.9), now=0.0)
    now = 0.0
    for _ in range(5):
        turns.ask(0, now)
        turns.release(0, turns.epoch, now + 1 * MS, has_more=False)
        now += 1.2 * MS
    turns.join(1, Tenant(0.1), now)
    turns.tenants[0].level_seconds = 2 * MS
    turns.ask(0, now)
    turns.ask(1, now)
    return turns, now


def test_a_lease_lingers_for_a_closed_loop_that_is_behind() -> None:
    turns, now = closed_loop()
    epoch = turns.epoch
    assert turns.release(0, epoch, now + 1 * MS, has_more=False)
    assert (turns.holder, turns.epoch) == (0, epoch)
    assert turns.look_again_at(1, now + 1 * MS) == turns.lingers_until
    assert turns.ask(0, now + 1.2 * MS)
    assert (turns.epoch, turns.lingers_until) == (epoch, None)


def test_a_lease_that_lingered_in_vain_goes_to_whoever_waits() -> None:
    turns, now = closed_loop()
    turns.release(0, turns.epoch, now + 1 * MS, has_more=False)
    assert turns.lingers_until is not None
    turns.look(turns.lingers_until)
    assert turns.holder == 1


def test_a_holder_whose_lease_was_taken_back_finds_out_and_waits_its_turn() -> None:
    turns = two()
    turns.ask(0, 0.0)
    turns.ask(1, 0.0)
    turns.take_back(1.0)
    assert turns.holder == 1
    assert turns.tenants[0].device_seconds == pytest.approx(1.0)
    assert not turns.release(0, 1, 2.0, has_more=True)
    assert turns.must_yield(0, 1, 2.0)
    turns.interrupt(0, 1, 2.0)
    assert (turns.holder, turns.tenants[0].is_waiting) == (1, True)


def test_a_wait_that_is_broken_off_is_forgotten() -> None:
    turns = two()
    turns.ask(0, 0.0)
    turns.ask(1, 0.0)
    turns.withdraw(1, 1 * MS)
    turns.release(0, 1, 2 * MS, has_more=False)
    assert turns.holder is None


def test_idle_time_saves_up_a_request_and_a_half_and_what_waiting_brought_fades() -> None:
    turns = two()
    learn(turns, 0, 10 * MS, until=100.0)
    assert turns.tenants[0].level_seconds == pytest.approx(15 * MS)
    turns.ask(1, 100.0)
    turns.ask(0, 100.0)
    turns.withdraw(0, 101.0)  # half a second is owed to it, and it goes away
    turns.look(101.1)
    assert turns.tenants[0].level_seconds == pytest.approx(0.515 - 0.05)
    turns.look(103.0)
    assert turns.tenants[0].level_seconds == pytest.approx(15 * MS)


def test_a_clock_that_seems_to_go_back_changes_nothing() -> None:
    turns = two()
    turns.ask(0, 1.0)
    turns.must_yield(0, 1, 0.5)
    assert turns.tenants[0].level_seconds == pytest.approx(0.5 * 1.0, abs=0.51)
    assert turns.tenants[0].device_seconds == 0.0


def used(granted_at: float, started_at: float) -> Use:
    use = Use()
    use.begin(granted_at, started_at)
    return use


def test_the_time_from_a_lease_to_the_start_of_its_request_is_borne_by_all() -> None:
    turns = two(0.25, 0.75)
    turns.ask(0, 0.0)
    turns.ask(1, 0.0)
    turns.note_use(0, 1, used(0.0, 0.4 * MS), now=2.4 * MS)
    turns.release(0, 1, 2.4 * MS, has_more=True)
    assert turns.tenants[0].device_seconds == pytest.approx(2 * MS)
    assert turns.tenants[0].level_seconds == pytest.approx(-0.75 * 2 * MS)
    assert turns.tenants[1].level_seconds == pytest.approx(0.75 * 2 * MS)
    assert turns.tenants[0].longest_seconds == pytest.approx(2 * MS)


def test_one_that_takes_a_lease_and_does_not_begin_pays_for_it() -> None:
    turns = two(0.25, 0.75)
    turns.ask(0, 0.0)
    turns.note_use(0, 1, used(0.0, 10 * MS), now=12 * MS)
    assert turns.tenants[0].device_seconds == pytest.approx(11.5 * MS)


def test_requests_that_went_on_in_one_lease_are_told_apart() -> None:
    turns = two()
    turns.turn_seconds = 10 * MS
    turns.ask(0, 0.0)
    use = used(0.0, 0.0)
    assert use.end_and_renew(3 * MS) == pytest.approx(3 * MS)
    use.go_on(3.2 * MS)
    turns.note_use(0, 1, use, now=5.2 * MS)
    turns.release(0, 1, 5.2 * MS, has_more=False)
    tenant = turns.tenants[0]
    assert tenant.device_seconds == pytest.approx(5 * MS)
    assert tenant.longest_seconds == pytest.approx(3 * MS, rel=0.01)
    assert tenant.num_leases == 2


@given(
    levels=st.lists(st.floats(-0.05, 0.05), min_size=2, max_size=4),
    waiting=st.lists(st.booleans(), min_size=4, max_size=4),
    may_burst=st.booleans(),
    passed=st.floats(0.0001, 0.2),
)
def test_one_that_goes_on_without_asking_would_have_been_given_the_device(
    levels: list[float], waiting: list[bool], may_burst: bool, passed: float
) -> None:
    turns = DeviceTurns(turn_seconds=0.0045)
    for slot, level in enumerate(levels):
        turns.join(slot, Tenant(1 / len(levels), may_burst, level), 1.0)
    turns.tenants[0].is_waiting = True
    turns._hand_on(1.0)
    for slot in range(1, len(levels)):
        turns.tenants[slot].is_waiting = waiting[slot]
    until = turns.renews_until(1.0)
    if turns.holder == 0 and 1.0 + passed < until:
        turns.release(0, turns.epoch, 1.0 + passed, has_more=True)
        assert turns.holder == 0


def test_looks_do_not_put_off_the_time_at_which_the_holder_says_what_it_did() -> None:
    turns = DeviceTurns()
    turns.join(0, Tenant(1.0), 0.0)
    turns.ask(0, 0.0)
    for passed in range(0, 50, 5):
        turns.look(passed * MS)
        assert turns.renews_until(passed * MS) == pytest.approx(50 * MS)
    turns.release(0, turns.epoch, 51 * MS, has_more=True)
    assert turns.renews_until(51 * MS) == pytest.approx(101 * MS)


def test_a_waiter_that_is_due_ends_going_on_without_asking() -> None:
    turns = two()
    turns.ask(0, 0.0)
    turns.ask(1, 0.0)
    until = turns.renews_until(0.0)
    turns.release(0, turns.epoch, until + 1 * MS, has_more=True)
    assert turns.holder == 1
