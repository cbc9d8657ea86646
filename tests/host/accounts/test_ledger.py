"""Capacity while it changes: many at once, and a change of which nobody knows yet how it ends."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from elastic_inference.errors import CapacityExceeded
from elastic_inference.host.accounts.capacity import Allocation, Capacity, DeviceCapacity
from elastic_inference.host.accounts.catalogue import AcceleratorType
from elastic_inference.host.accounts.ledger import Ledger
from elastic_inference.host.accounts.token_book import TokenBook

GIB = 1024**3
QUARTER = AcceleratorType("quarter", GIB, device_share=0.25)
HALF = AcceleratorType("half", 2 * GIB, device_share=0.5)
THIN = AcceleratorType("thin", 3 * GIB, device_share=0.1)


def ledger() -> Ledger:
    return Ledger(Capacity((DeviceCapacity("cpu:0", 1.0, 4 * GIB),)))


def test_many_who_take_at_once_take_no_more_than_there_is() -> None:
    book = ledger()

    def take(number: int) -> bool:
        try:
            book.take(str(number), QUARTER)
        except CapacityExceeded:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(take, range(32))) == 4
    assert book.capacity.left(book.capacity.devices[0]) == (0.0, 0)


def test_what_a_shrink_gives_back_is_held_until_it_has_worked() -> None:
    book = ledger()
    book.take("a", HALF)
    book.take("b", QUARTER)
    before, after = book.widen("a", QUARTER)
    assert (before.share, after.share) == (0.5, 0.25)
    with pytest.raises(CapacityExceeded):
        book.take("c", HALF)
    book.put("a", before)  # it failed
    book.take("c", QUARTER)
    assert book.capacity.left(book.capacity.devices[0]) == (0.0, 0)


def test_a_change_holds_the_larger_of_each() -> None:
    book = ledger()
    book.take("a", HALF)
    book.widen("a", THIN)
    assert book.capacity.held["a"] == Allocation("cpu:0", 0.5, 3 * GIB)


def test_a_change_that_does_not_fit_changes_nothing() -> None:
    book = ledger()
    book.take("a", QUARTER)
    book.take("b", HALF)
    with pytest.raises(CapacityExceeded):
        book.widen("a", THIN)
    assert book.capacity.held["a"].memory_bytes == GIB


def test_a_token_counts_until_the_next_or_the_end() -> None:
    book = TokenBook()
    book.set("a", "1")
    book.set("b", "2")
    book.set("a", "3")
    assert [book.find(h) for h in ("1", "2", "3")] == [None, "b", "a"]
    book.remove("a")
    book.remove("a")
    assert [book.find(h) for h in ("2", "3")] == ["b", None]
