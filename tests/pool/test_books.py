"""What a pool knows of its hosts: who holds what, who is lost, and what an order to end may not hit."""

from __future__ import annotations

import pytest

from elastic_inference.errors import AcceleratorNotFound, CapacityExceeded, Fenced
from elastic_inference.pool.books import Books, device_name
from elastic_inference.pool.failover import FailoverRules
from elastic_inference.pool.model import HostState, Request
from tests.host.support import ManualClock
from tests.pool.test_store import HOST, OFFER

RULES = FailoverRules(report_seconds=1.0, lease_seconds=4.0, margin_seconds=1.0)
HALF = Request("cpu.half")


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def books(clock: ManualClock) -> Books:
    known = Books(clock, RULES)
    for host_id in ("a1", "b2"):
        known.admit(type(HOST)(host_id, "", "http://h", "t", 1, HostState.READY, OFFER))
    return known


def test_room_is_held_before_anybody_is_asked(books: Books) -> None:
    places = [books.take(f"eia-{number}", HALF) for number in range(4)]
    assert sorted(place.host_id for place in places) == ["a1", "a1", "b2", "b2"]
    with pytest.raises(CapacityExceeded):
        books.take("eia-4", HALF)
    books.free("eia-0")
    assert books.take("eia-4", HALF).host_id == places[0].host_id
    held = books.capacity().held
    assert held["eia-4"].device == device_name(places[0].host_id, "cpu:0")


def test_an_accelerator_never_returns_to_where_it_is_being_ended(books: Books) -> None:
    first = books.take("eia-1", HALF)
    books.rename("eia-1", f"eia-1@{first.host_id}")  # it may be left over there
    assert books.take("eia-1", HALF).host_id != first.host_id


def test_a_silent_host_is_lost_after_its_lease_and_the_margin(books: Books, clock: ManualClock) -> None:
    place = books.take("eia-1", HALF)
    clock.seconds = 4.9
    assert books.lost() == []
    books.report("b2", 1)
    clock.seconds = 5.0
    assert [row.host_id for row in books.lost()] == ["a1"]
    books.report("a1", 1)  # just in time: it is not given up
    assert books.mark_lost("a1") is None
    clock.seconds = 10.0
    assert books.mark_lost("a1") is not None
    with pytest.raises(Fenced):
        books.report("a1", 1)
    assert books.serves(place) is (place.host_id != "a1")


def test_reports_of_an_earlier_admission_are_refused(books: Books) -> None:
    place = books.take("eia-1", HALF, without=["b2"])
    again = type(HOST)("a1", "", "http://h", "t", 2, HostState.READY, OFFER)
    books.admit(again)
    with pytest.raises(Fenced):
        books.report("a1", 1)
    books.report("a1", 2)
    assert not books.serves(place)
    with pytest.raises(AcceleratorNotFound):
        books.report("c3", 1)


def test_a_host_whose_process_ended_is_lost_after_the_margin_unless_it_reports(
    books: Books, clock: ManualClock
) -> None:
    books.note_ended("a1", 2)  # of another admission: not it
    books.note_ended("b2", 1)
    clock.seconds = 0.5
    books.note_ended("a1", 1)
    books.report("b2", 1)  # it lives after all
    clock.seconds = 1.5
    assert [row.host_id for row in books.lost()] == ["a1"]
    assert books.mark_lost("b2") is None
    assert books.mark_lost("a1") is not None


def test_a_host_that_says_that_it_ended_is_not_waited_for(books: Books) -> None:
    books.note_dead("a1", 2)  # of another admission: not it
    assert books.lost() == []
    books.note_dead("a1", 1)
    assert [row.host_id for row in books.lost()] == ["a1"]
