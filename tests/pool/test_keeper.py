"""A pool's attach whose host does not start it: where it may go then, of what is left and what is kept for others."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from elastic_inference.clock import MonotonicClock
from elastic_inference.errors import TransportError
from elastic_inference.host.accounts.calendar import Calendar
from elastic_inference.host.accounts.wanted import Waiting, Wanted
from elastic_inference.host.audit import AuditLog
from elastic_inference.host.tenancy import Tenancy
from elastic_inference.pool.books import Books
from elastic_inference.pool.failover import FailoverRules
from elastic_inference.pool.keeper import PlacementKeeper
from elastic_inference.pool.model import HostState, Request
from elastic_inference.pool.placement import Policy
from elastic_inference.pool.service import PoolService
from elastic_inference.pool.stock import PoolStock
from elastic_inference.pool.store import HostRow, PoolStore
from elastic_inference.pool.tenant_orders import TenantParts
from tests.pool.cluster import free_port
from tests.pool.test_store import OFFER

HOUR = 3600.0


@pytest.fixture
def books() -> Books:
    """Two hosts of which none ever answers: `a1` is half full and `b2` has three quarters left."""
    known = Books(MonotonicClock(), FailoverRules(report_seconds=1.0, lease_seconds=HOUR, margin_seconds=1.0))
    for host_id, held in (("a1", "cpu.half"), ("b2", "cpu.quarter")):
        url = f"http://127.0.0.1:{free_port()}"
        known.admit(HostRow(host_id, "", url, "t", 1, HostState.READY, OFFER))
        known.take(f"on-{host_id}", Request(held), without={"a1", "b2"} - {host_id})
    return known


@pytest.fixture
def service(books: Books, tmp_path: Path) -> Iterator[PoolService]:
    store = PoolStore.at_path(tmp_path / "pool.db")
    store.open()
    store.take_over()
    calendar = Calendar(tmp_path / "calendar", is_free=True)
    tenancy = Tenancy(store, calendar.now)
    parts = TenantParts(books, tenancy)
    made = PoolService(
        store,
        books,
        PoolStock(books, Policy.PACK),
        tenancy,
        lambda tell: PlacementKeeper(store, books, parts.of, None, tell, drain_seconds=1.0),
        AuditLog(tmp_path / "audit.log"),
        calendar,
    )
    try:
        yield made
    finally:
        made.close()
        store.close()


def asked(books: Books) -> set[str]:
    """Hosts that may have started it after all, and are told to end it until they answer."""
    return {host_id for host_id in ("a1", "b2") if len(books.on_host(host_id)) > 1}


def test_every_host_with_room_is_tried(service: PoolService, books: Books) -> None:
    with pytest.raises(TransportError):
        service.ask(Wanted("cpu.half"))
    assert asked(books) == {"a1", "b2"}


def test_it_never_goes_where_room_is_kept_for_who_stands_in_front(service: PoolService, books: Books) -> None:
    # Of the whole one that waits, b2 lacks the least, so b2 is kept for it.
    waits = service.ask(Wanted("cpu.whole", may_wait=True))
    assert isinstance(waits, Waiting)
    with pytest.raises(TransportError):
        service.ask(Wanted("cpu.half"))
    assert asked(books) == {"a1"}


def test_who_stands_in_front_itself_is_kept_from_nothing(service: PoolService, books: Books) -> None:
    assert isinstance(service.ask(Wanted("cpu.whole", may_wait=True)), Waiting)
    with pytest.raises(TransportError):
        service.ask(Wanted("cpu.half", may_wait=True, priority=9))
    assert asked(books) == {"a1", "b2"}
