"""What a pool has left for those that wait: who keeps what, who passes whom, and what a tenant holds meanwhile."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from elastic_inference.errors import CapacityExceeded, TenantQuotaExceeded
from elastic_inference.host.accounts.capacity import Allocation
from elastic_inference.host.accounts.line import Line, Waiter
from elastic_inference.host.accounts.tenants import Quota
from elastic_inference.host.tenancy import Tenancy
from elastic_inference.pool.books import Books
from elastic_inference.pool.failover import FailoverRules
from elastic_inference.pool.model import HostState, HostView, Request
from elastic_inference.pool.placement import Policy, Table, choose
from elastic_inference.pool.placement.waiting import PoolRoom
from elastic_inference.pool.stock import PoolStock
from elastic_inference.pool.store import HostRow, PoolStore
from elastic_inference.pool.tenant_orders import TenantParts
from elastic_inference.testing.clock import ManualClock
from tests.pool.pools import CPU_TYPES, LIGHT_GPU_TYPES, cpu_host, gpu_host
from tests.pool.test_store import OFFER

KINDS = {kind.name: kind for kind in CPU_TYPES}
WHOLE, HALF, QUARTER = (Request(f"cpu.{name}") for name in ("whole", "half", "quarter"))


def table(*hosts: HostView, **held: str) -> Table:
    """Hosts on which these hold a type each, `h0_...` on host h0."""
    made = Table(hosts)
    for key, type_name in held.items():
        others = frozenset(host.host_id for host in hosts) - {key.partition("_")[0]}
        made.put(key, Request(type_name), choose(made, Request(type_name), closed=others))
    return made


def waiter(type_name: str, number: int = 1, tenant: str = "") -> Waiter:
    return Waiter(f"t{number}", tenant, type_name, 0, float(number), number)


def always(_: Allocation) -> bool:
    return True


def test_one_device_is_kept_for_what_does_not_fit_and_others_pass_on_the_rest() -> None:
    hosts = cpu_host("h0"), cpu_host("h1")
    room = PoolRoom(table(*hosts, h0_a="cpu.quarter", h1_a="cpu.half"), Policy.PACK)
    room.set_aside(waiter("cpu.whole"), always)  # h0 lacks the least
    assert room.fits("cpu.half")
    room.set_aside(waiter("cpu.half", 2), always)
    assert not room.fits("cpu.quarter")  # h0 has three of them free, and they are kept


def test_what_fits_is_held_for_whoever_is_in_front() -> None:
    room = PoolRoom(table(cpu_host("h0")), Policy.PACK)
    room.set_aside(waiter("cpu.half"), always)
    assert room.fits("cpu.half")
    assert not room.fits("cpu.whole")


def test_who_may_not_have_it_or_never_can_keeps_nothing() -> None:
    room = PoolRoom(table(cpu_host("h0"), h0_a="cpu.half"), Policy.PACK)
    room.set_aside(waiter("cpu.whole"), lambda _: False)
    room.set_aside(waiter("no.such", 2), always)
    assert room.fits("cpu.half")
    room = PoolRoom(
        table(cpu_host("h0", state=HostState.DRAINING), cpu_host("h1", types=CPU_TYPES[:1])), Policy.PACK
    )
    room.set_aside(waiter("cpu.whole"), always)
    assert room.fits(CPU_TYPES[0].name)


def test_the_part_of_a_host_beside_a_gpu_is_kept_too() -> None:
    host = gpu_host("g0", num_gpus=1, types=(*LIGHT_GPU_TYPES, *CPU_TYPES))
    whole = next(kind.name for kind in LIGHT_GPU_TYPES if kind.name.endswith("whole"))
    tenth = next(kind.name for kind in LIGHT_GPU_TYPES if kind.name.endswith("tenth"))
    room = PoolRoom(table(host, g0_a=tenth), Policy.PACK)
    assert room.fits(tenth)
    room.set_aside(waiter(whole), always)
    assert not room.fits(tenth)


def test_what_lost_its_host_comes_before_all_that_wait() -> None:
    room = PoolRoom(table(cpu_host("h0")), Policy.PACK, [("eia-1", WHOLE)])
    assert not room.fits("cpu.quarter")


@given(st.lists(st.sampled_from(["whole", "half", "quarter"]), min_size=1, max_size=12), st.integers(1, 3))
def test_everybody_is_served_and_equal_ones_in_order(names: list[str], num_hosts: int) -> None:
    """Room is given back one accelerator at a time, the oldest first, and others that do not wait come all along."""
    clock = ManualClock()
    books = Books(clock, FailoverRules(report_seconds=1.0, lease_seconds=4.0, margin_seconds=1.0))
    for number in range(num_hosts):
        books.admit(HostRow(f"h{number}", "", "http://h", "t", 1, HostState.READY, OFFER))
    stock, line = PoolStock(books, Policy.PACK), Line(clock)
    held = [f"old{number}" for number in range(4 * num_hosts)]
    for key in held:
        stock.take(key, KINDS["cpu.quarter"])
    for number, name in enumerate(names):
        clock.advance(1.0)
        line.join(waiter(f"cpu.{name}", number))
    served: list[Waiter] = []

    def take(one: Waiter) -> bool:
        room = stock.room()
        if not line.has_turn(one, room):
            return False
        stock.take(one.ticket, KINDS[one.type_name], room=room)
        held.append(one.ticket)
        return True

    def serve() -> bool:
        for one in line.waiters():
            if take(one):
                line.leave(one.ticket)
                served.append(one)
                return True
        return False

    for step in range(20 * (len(names) + 4 * num_hosts)):
        while serve():
            pass
        if not len(line):
            break
        take(Waiter(f"new{step}", "", "cpu.quarter", 0, clock.now() + 1e6, 10_000 + step))
        books.forget(held.pop(0))
    assert len(line) == 0
    for name in set(names):
        mine = [one.number for one in served if one.type_name == f"cpu.{name}"]
        assert mine == sorted(mine)


@pytest.fixture
def books() -> Books:
    known = Books(ManualClock(), FailoverRules(report_seconds=1.0, lease_seconds=4.0, margin_seconds=1.0))
    for host_id in ("a1", "b2"):
        known.admit(HostRow(host_id, "", "http://h", "t", 1, HostState.READY, OFFER))
    return known


def test_who_comes_behind_is_not_put_on_what_is_kept(books: Books) -> None:
    stock = PoolStock(books, Policy.PACK)
    books.take("eia-1", HALF, without=["b2"])
    books.take("eia-2", HALF, without=["a1"])
    free = books.take("eia-3", QUARTER)
    books.forget("eia-3")
    room = stock.room()
    room.set_aside(waiter("cpu.whole"), always)
    ((_, _, kept),) = room.kept
    assert kept.host_id == free.host_id  # where it would go if nobody waited
    stock.take("eia-3", KINDS["cpu.quarter"], room=room)
    placed = books.place_of("eia-3")
    assert placed is not None
    assert placed.host_id != kept.host_id


def test_a_quota_counts_over_all_hosts_and_what_has_no_host(books: Books) -> None:
    stock, quota = PoolStock(books, Policy.PACK), Quota(max_share=1.5)

    def take(key: str, type_name: str) -> None:
        def check(held: object, wanted: Allocation) -> None:
            quota.check("vision", held, wanted)  # type: ignore[arg-type]

        stock.take(key, KINDS[type_name], "vision", check)

    take("eia-1", "cpu.whole")
    take("eia-2", "cpu.half")
    assert {books.place_of(key).host_id for key in ("eia-1", "eia-2")} == {"a1", "b2"}  # type: ignore[union-attr]
    with pytest.raises(TenantQuotaExceeded, match="would have 175% of a device"):
        take("eia-3", "cpu.quarter")
    books.free("eia-1")  # its host was lost
    assert set(stock.held_by("vision")) == {"eia-1", "eia-2"}
    assert [key for key, _ in books.homeless()] == ["eia-1"]
    with pytest.raises(TenantQuotaExceeded):
        take("eia-3", "cpu.quarter")
    assert not stock.room().fits("cpu.whole")  # it comes back before others get anything
    books.take("eia-1@new", Request("cpu.whole", "vision"))  # while it moves it counts once
    assert len(stock.held_by("vision")) == 2
    books.forget("eia-1")
    assert stock.tenant_of("eia-1") is None
    assert stock.tenant_of("eia-2") == "vision"


def test_a_quota_holds_for_another_type_on_the_same_device(books: Books) -> None:
    place = books.take("eia-1", Request("cpu.quarter", "vision"))

    def check(held: object, wanted: Allocation) -> None:
        Quota(max_share=0.5).check("vision", held, wanted)  # type: ignore[arg-type]

    with pytest.raises(TenantQuotaExceeded):
        books.widen("eia-1", KINDS["cpu.whole"], check)
    assert books.held_by("vision") == {"eia-1": place.allocation}
    books.widen("eia-1", KINDS["cpu.half"], check)
    assert books.held_by("vision")["eia-1"].share == 0.5
    books.put("eia-1", place)  # its host did not change it
    assert books.held_by("vision") == {"eia-1": place.allocation}


def test_requests_a_second_are_divided_by_where_the_accelerators_are(books: Books, tmp_path: Path) -> None:
    store = PoolStore.at_path(tmp_path / "pool.db")
    store.open()
    tenancy = Tenancy(store, lambda: 0.0)
    parts = TenantParts(books, tenancy)
    tenancy.add("vision", Quota(requests_per_second=9.0), None)
    tenancy.add("free", Quota(), None)
    assert parts.of("vision", "a1").requests_per_second == 9.0  # the first one that it gets
    assert parts.of("gone", "a1").created_at is None
    for number, host_id in enumerate(("a1", "a1", "b2")):
        books.take(f"eia-{number}", Request("cpu.quarter", "vision"), without={"a1", "b2"} - {host_id})
    books.take("eia-9", Request("cpu.quarter", "free"), without=["a1"])
    rates = {key: part.requests_per_second for key, part in parts.all().items()}
    assert rates == {("a1", "vision"): 6.0, ("b2", "vision"): 3.0, ("b2", "free"): None}
    books.take("eia-0@new", Request("cpu.quarter", "vision"))  # it moves: each counts it until it is there
    assert sum(part.requests_per_second or 0.0 for part in parts.all().values()) == 9.0
    store.close()


def test_a_refusal_has_the_figures_and_never_comes_for_what_fits(books: Books) -> None:
    stock = PoolStock(books, Policy.PACK)
    assert stock.refusal(KINDS["cpu.whole"]) is None
    for number in range(2):
        stock.take(f"eia-{number}", KINDS["cpu.whole"])
    assert isinstance(stock.refusal(KINDS["cpu.half"]), CapacityExceeded)
    assert stock.on_its_own(KINDS["cpu.whole"]).share == 1.0
