"""Who waits for room at a pool, and who waits in a simulation: the same are served, in the same order and place."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, field, replace
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from elastic_inference.host.accounts.wanted import Waiting, Wanted
from elastic_inference.host.entrance import Entrance
from elastic_inference.host.tenancy import Tenancy
from elastic_inference.pool.books import Books
from elastic_inference.pool.failover import FailoverRules
from elastic_inference.pool.model import HostState, Request
from elastic_inference.pool.placement import Policy
from elastic_inference.pool.simulation.attachment import Attachment, Piece
from elastic_inference.pool.simulation.control import ControlRules, Course, Failure, run_control
from elastic_inference.pool.simulation.service_time import ServiceTime
from elastic_inference.pool.stock import PoolStock
from elastic_inference.pool.store import HostRow, PoolStore
from elastic_inference.testing.clock import ManualClock
from tests.pool.pools import CPU_TYPES, cpu_host
from tests.pool.test_store import OFFER

KINDS = {kind.name: kind for kind in CPU_TYPES}
RULES = ControlRules(attach_wait_seconds=1e6, start_seconds=0.0)
SERVICE = ServiceTime(0.01)


@dataclass
class Seen:
    """What came of a demand: where each was placed, in order, and how long it waited."""

    places: list[tuple[str, str]] = field(default_factory=list)
    waits: dict[str, float] = field(default_factory=dict)


def new_books(clock: ManualClock, num_hosts: int) -> Books:
    books = Books(clock, FailoverRules(report_seconds=1.0, lease_seconds=4.0, margin_seconds=1.0))
    for number in range(num_hosts):
        books.admit(HostRow(f"h{number}", "", "http://h", "t", 1, HostState.READY, OFFER))
    return books


class LivePool:
    """A pool's own entrance, books and database under a manual clock; whoever waits asks after each change."""

    def __init__(self, folder: Path, num_hosts: int) -> None:
        self.clock = ManualClock()
        self.store = PoolStore.at_path(folder / "pool.db")
        self.store.open()
        self.books = new_books(self.clock, num_hosts)
        tenancy = Tenancy(self.store, self.clock.now)
        self.entrance = Entrance(PoolStock(self.books, Policy.PACK), tenancy, self.clock)
        self.tickets: dict[str, str] = {}
        self.seen = Seen()

    def run(self, demand: list[Attachment]) -> Seen:
        moments = [(one.start, 1, number) for number, one in enumerate(demand)]
        moments += [(one.end, 0, number) for number, one in enumerate(demand)]
        for when, is_start, number in sorted(moments):
            self.clock.advance(when - self.clock.now())
            one = demand[number]
            if is_start:
                self.ask(one)
            else:
                self.books.forget(one.name)
                if (ticket := self.tickets.pop(one.name, None)) is not None:
                    self.entrance.leave(ticket)
                while any(self.ask(each) for each in self.in_line(demand)):
                    pass
        self.store.close()
        return self.seen

    def in_line(self, demand: list[Attachment]) -> list[Attachment]:
        """Those that wait, the next in front."""
        by_since = {round(each.start): each for each in demand if each.name in self.tickets}
        return [by_since[row["since"]] for row in self.entrance.rows()]

    def ask(self, one: Attachment) -> bool:
        """Ask for it, or again; whether it got its place."""
        kind = KINDS[one.request.type_name]
        ticket = self.tickets.get(one.name)
        wanted = Wanted(kind.name, may_wait=True, priority=one.request.priority, ticket=ticket)
        found = self.entrance.take(one.name, kind, wanted)
        if isinstance(found, Waiting):
            self.tickets[one.name] = found.ticket
            return False
        if self.tickets.pop(one.name, None) is not None:
            self.entrance.leave(ticket or "")
        place = self.books.place_of(one.name)
        assert place is not None
        self.seen.places.append((kind.name, place.host_id))
        self.seen.waits[one.name] = self.clock.now() - one.start
        return True


def simulated(demand: list[Attachment], num_hosts: int) -> Seen:
    seen = Seen()

    def service_of(type_name: str, host_id: str) -> ServiceTime:
        seen.places.append((type_name, host_id))
        return SERVICE

    hosts = new_books(ManualClock(), num_hosts).views()
    course = run_control(hosts, demand, service_of, RULES)
    waits = {name: stay.wait_seconds for name, stay in course.stays.items()}
    seen.waits = {name: wait for name, wait in waits.items() if wait is not None}
    return seen


def demand_of(asked: list[tuple[str, int, int]]) -> list[Attachment]:
    """One comes each second and is there, or waits, for so long; no two go at the same moment."""
    return [
        Attachment(
            f"a{number:02}",
            Request(f"cpu.{name}", priority=priority),
            (Piece(float(number), number + stay + 0.5 + number / 1000, 1.0),),
        )
        for number, (name, priority, stay) in enumerate(asked)
    ]


ASKED = st.tuples(st.sampled_from(["whole", "half", "quarter"]), st.integers(0, 2), st.integers(1, 40))


@given(st.lists(ASKED, min_size=4, max_size=40), st.integers(1, 3))
@settings(max_examples=60, deadline=None)
def test_a_pool_and_a_simulation_of_it_serve_alike(asked: list[tuple[str, int, int]], num_hosts: int) -> None:
    demand = demand_of(asked)
    with tempfile.TemporaryDirectory() as folder:
        lived = LivePool(Path(folder), num_hosts).run(demand)
    found = simulated(demand, num_hosts)
    assert found.places == lived.places
    assert found.waits.keys() == lived.waits.keys()
    for name, wait in found.waits.items():
        assert abs(wait - lived.waits[name]) < 1e-6


def stay(name: str, start: float, end: float, kind: str, priority: int = 0) -> Attachment:
    return Attachment(name, Request(kind, priority=priority), (Piece(start, end, 1.0),))


def run(demand: list[Attachment], num_hosts: int, *failures: Failure, rules: ControlRules = RULES) -> Course:
    hosts = [cpu_host(f"h{number}") for number in range(num_hosts)]
    return run_control(hosts, demand, lambda *_: SERVICE, rules, failures)


def test_one_device_is_kept_for_a_large_one_and_small_ones_pass_on_the_rest() -> None:
    held = [stay("a", 0.0, 50.0, "cpu.half"), stay("b", 1.0, 100.0, "cpu.whole")]
    large = stay("large", 2.0, 200.0, "cpu.whole")
    small = stay("small", 3.0, 60.0, "cpu.quarter")  # fits beside a, where room is kept for the large one
    course = run([*held, large, small], 2)
    assert course.stays["large"].wait_seconds == 48.0
    assert course.stays["small"].wait_seconds is None
    course = run([*held[:1], stay("b", 1.0, 100.0, "cpu.quarter"), large, small], 2)  # b and small beside a
    assert course.stays["small"].wait_seconds == 0.0


def test_what_lost_its_host_comes_before_all_that_wait_or_come() -> None:
    demand = [
        stay("a", 0.0, 100.0, "cpu.whole"),
        stay("b", 0.0, 60.0, "cpu.whole"),
        stay("waits", 1.0, 90.0, "cpu.whole", priority=9),
        stay("comes", 70.0, 80.0, "cpu.quarter", priority=9),
    ]
    course = run(demand, 2, Failure(50.0, "h0", down_seconds=1000.0))
    assert len(course.stays["a"].servings) == 2  # on h1, when b has gone
    assert course.stays["waits"].wait_seconds is None
    assert course.stays["comes"].wait_seconds is None


def test_what_fits_no_host_is_refused_at_once() -> None:
    small_hosts = replace(RULES, stops_at_refusal=False)
    demand = [Attachment("a", Request("cpu.half", features=frozenset({"bf16"})), (Piece(0.0, 9.0, 1.0),))]
    course = run(demand, 1, rules=small_hosts)
    assert (course.stays["a"].was_refused, course.num_refused) == (True, 1)
    assert len(course.uses) == 0
