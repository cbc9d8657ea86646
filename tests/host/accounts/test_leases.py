"""Leases on a clock that only the test moves."""

from __future__ import annotations

import pytest

from elastic_inference.errors import InvalidInput
from elastic_inference.host.accounts.leases import LeaseBook


class ManualClock:
    def __init__(self) -> None:
        self.seconds = 0.0

    def now(self) -> float:
        return self.seconds


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


def test_a_lease_without_heartbeat_expires(clock: ManualClock) -> None:
    book = LeaseBook(clock)
    book.grant("a", 10.0)
    clock.seconds = 9.9
    assert book.expired() == ()
    assert book.left_seconds("a") == pytest.approx(0.1)
    clock.seconds = 10.0
    assert book.expired() == ("a",)
    assert book.left_seconds("a") == 0.0


def test_a_heartbeat_begins_the_lease_anew(clock: ManualClock) -> None:
    book = LeaseBook(clock)
    book.grant("a", 10.0)
    clock.seconds = 8.0
    assert book.renew("a") == 10.0
    clock.seconds = 17.9
    assert book.expired() == ()


def test_an_accelerator_without_lease_stays(clock: ManualClock) -> None:
    book = LeaseBook(clock)
    book.grant("a", None)
    clock.seconds = 1e9
    assert book.expired() == ()
    assert book.renew("a") is None
    assert book.left_seconds("a") is None


def test_those_that_waited_longest_come_first_and_released_ones_not(clock: ManualClock) -> None:
    book = LeaseBook(clock)
    for name, seconds in (("a", 30.0), ("b", 10.0), ("c", 20.0)):
        book.grant(name, seconds)
    clock.seconds = 100.0
    book.release("c")
    book.release("unknown")
    assert book.expired() == ("b", "a")


@pytest.mark.parametrize("seconds", [0.0, -1.0, float("nan"), 1e9])
def test_a_lease_beyond_its_limits_is_refused(clock: ManualClock, seconds: float) -> None:
    with pytest.raises(InvalidInput, match=r"lease_seconds .* is not between 1 and 2592000"):
        LeaseBook(clock).grant("a", seconds)
