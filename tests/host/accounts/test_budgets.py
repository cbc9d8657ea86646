"""What tenants spend: exact to the second, and the moment at which it is too much, under a manual clock."""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from elastic_inference.errors import BudgetReached
from elastic_inference.host.accounts.budgets import Level, crossing, month_of, spending
from elastic_inference.host.accounts.catalogue import AcceleratorType
from elastic_inference.host.accounts.records import AcceleratorRecord
from elastic_inference.host.accounts.state import StateStore
from elastic_inference.host.accounts.tenants import AtLimit, Budget, Quota
from elastic_inference.host.accounts.usage import cost
from elastic_inference.host.budget_watch import BudgetWatch
from elastic_inference.host.tenancy import Tenancy
from elastic_inference.testing.clock import ManualClock

HOUR, DAY = 3600.0, 86400.0
MARCH = datetime.datetime(2026, 3, 1, tzinfo=datetime.timezone.utc).timestamp()


def interval(start: float, end: float | None, usd: str | None = "3.6") -> dict[str, Any]:
    return {"usd_per_hour": usd, "started_at": start, "ended_at": end}


def test_a_month_begins_at_midnight_in_utc() -> None:
    assert month_of(MARCH) == ("2026-03", MARCH)
    assert month_of(MARCH - 1)[0] == "2026-02"
    assert month_of(MARCH + 31 * DAY - 1) == ("2026-03", MARCH)


def test_what_was_spent_before_the_month_does_not_count() -> None:
    budget = Budget(Decimal("10"))
    spent = spending(budget, [interval(MARCH - 5 * HOUR, MARCH + HOUR)], MARCH + DAY)
    assert (spent.spent_usd, spent.level, spent.usd_per_hour) == (Decimal("3.6"), Level.ENOUGH, Decimal(0))


def test_the_moment_is_exact_and_stays_the_same() -> None:
    # A tenth of a cent a second from one, and as much again from another that comes after 1000 s.
    budget = Budget(Decimal("2"), warn_share=0.5, at_limit=AtLimit.DETACH, grace_seconds=60.0)
    intervals = [interval(MARCH, None), interval(MARCH + 1000, None), interval(MARCH, None, None)]
    levels = {
        seconds: spending(budget, intervals, MARCH + seconds).level
        for seconds in (999, 1000, 1499, 1500, 1559, 1560, 5000)
    }
    assert levels == {
        999: Level.ENOUGH, 1000: Level.WARNED, 1499: Level.WARNED, 1500: Level.REACHED, 1559: Level.REACHED,
        1560: Level.OVER, 5000: Level.OVER,
    }  # fmt: skip
    late = spending(budget, intervals, MARCH + 5000)
    assert (late.reached_at, late.ends_at) == (MARCH + 1500, MARCH + 1560)
    assert (late.unpriced_seconds, late.usd_per_hour) == (5000, Decimal("7.2"))
    only_warned = spending(Budget(Decimal("2")), intervals, MARCH + 5000)
    assert (only_warned.level, only_warned.ends_at) == (Level.REACHED, None)


def test_an_empty_budget_is_reached_from_the_start_and_that_moment_stays() -> None:
    for intervals in ([], [interval(MARCH + 7, None)]):
        for now in (MARCH + 9, MARCH + 5000):
            spent = spending(Budget(Decimal(0)), intervals, now)
            assert (spent.level, spent.reached_at) == (Level.REACHED, MARCH)
    assert spending(Budget(Decimal(0)), [], MARCH + 9, since=MARCH + 8).reached_at == MARCH + 8


def test_what_was_spent_before_the_tenant_was_taken_in_is_not_its_own() -> None:
    intervals = [interval(MARCH + 7, MARCH + 1007), interval(MARCH + 2000, None)]
    spent = spending(Budget(Decimal("1.9")), intervals, MARCH + 2500, since=MARCH + 1500)
    assert spent.spent_usd == spending(None, intervals[1:], MARCH + 2500).spent_usd
    assert spent.spent_usd > 0


_spans = st.lists(
    st.tuples(st.integers(0, 10**9), st.integers(1, 10**9), st.sampled_from(["0.13", "1", "0.0007"])),
    min_size=1,
    max_size=6,
)


@settings(deadline=None)
@given(_spans, st.integers(1, 99))
def test_up_to_the_crossing_exactly_that_much_was_spent(
    spans: list[tuple[int, int, str]], percent: int
) -> None:
    def spent_by(at: float) -> Decimal:
        seconds = (
            (max(0.0, min(start + length, at * 1e6) - start) / 1e6, usd) for start, length, usd in spans
        )
        return sum((cost(usd, each) or Decimal(0) for each, usd in seconds), Decimal(0))

    priced = [(start, start + length, Decimal(usd)) for start, length, usd in spans]
    end = max(stop for _, stop, _ in priced) / 1e6
    wanted = spent_by(end) * percent / 100
    at = crossing(wanted, priced, 0.0, end)
    assert at is not None
    assert abs(spent_by(at) - wanted) < Decimal("1e-8")
    assert crossing(spent_by(end) + Decimal("0.000001"), priced, 0.0, end) is None


# The watch, on a real database

KIND = AcceleratorType("priced", 1 << 30, device_share=0.5, usd_per_hour=Decimal("3.6"))


class Watched:
    """Tenants in a database, and what a watch tells of them."""

    def __init__(self, path: Path, clock: ManualClock) -> None:
        self.clock = clock
        self.store = StateStore.at_path(path)
        self.store.open()
        self.store.claim("host", [])
        self.told: list[tuple[str, Level, str]] = []
        self.ended: list[str] = []
        self.begin()

    def begin(self) -> None:
        """As a host that starts."""
        self.tenancy = Tenancy(self.store, self.clock.now)
        tell = lambda *told: self.told.append(told)  # noqa: E731
        self.watch = BudgetWatch(self.tenancy, self.clock.now, tell, self.ended.append)

    def attach(self, number: int, tenant: str) -> None:
        record = AcceleratorRecord(
            f"eia-{number:032x}", f"n{number}", KIND, "cpu:0", 0.5, "ab" * 32, self.clock.now(), tenant=tenant
        )
        self.store.add(record)
        self.store.begin_interval(record, self.clock.now())
        self.watch.touch(tenant)

    def run(self, seconds: int) -> None:
        """Look each second."""
        for _ in range(seconds):
            self.clock.advance(1.0)
            self.watch.look()


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[Watched]:
    one = Watched(tmp_path / "state.db", ManualClock(MARCH + DAY))
    yield one
    one.store.close()


def test_a_tenant_is_warned_refused_and_ended_on_time_and_told_once(watched: Watched) -> None:
    budget = Budget(Decimal("0.1"), warn_share=0.8, at_limit=AtLimit.DETACH, grace_seconds=30.0)
    watched.tenancy.add("vision", Quota(), budget)
    watched.tenancy.add("free", Quota(), None)
    watched.attach(1, "vision")
    watched.attach(2, "free")
    watched.run(79)
    assert (watched.told, watched.watch.warning("vision")) == ([], "")
    watched.run(1)
    assert [(name, level) for name, level, _ in watched.told] == [("vision", Level.WARNED)]
    assert "has spent 80% of its budget of 0.1 USD for 2026-03" in watched.watch.warning("vision")
    watched.tenancy.check_budget("vision")
    watched.run(19)
    watched.tenancy.check_budget("vision")
    watched.run(1)
    assert [level for _, level, _ in watched.told] == [Level.WARNED, Level.REACHED]
    with pytest.raises(
        BudgetReached, match=r"has spent 0.10 USD in 2026-03, and its budget is 0.1 USD a month"
    ):
        watched.tenancy.check_budget("vision")
    watched.begin()  # the host starts again, and finds the same
    watched.run(29)
    assert watched.ended == []
    watched.run(1)
    assert set(watched.ended) == {"vision"}
    assert [level for _, level, _ in watched.told] == [Level.WARNED, Level.REACHED, Level.OVER]
    assert watched.watch.warning("free") == ""
    # What is billed is attached time x price, to the second.
    spent = watched.tenancy.spending("vision")
    assert spent.spent_usd == Decimal("0.130")
    watched.tenancy.change("vision", Quota(), Budget(Decimal("1")))
    watched.run(1)
    assert watched.watch.warning("vision") == ""
    watched.tenancy.check_budget("vision")


def test_a_grace_begins_no_earlier_than_the_budget_was_changed(watched: Watched) -> None:
    """A budget that was lowered below what was spent ended what ran at once, without a warning."""
    began, tenancy = watched.clock.now(), watched.tenancy
    tenancy.add("lowered", Quota(), Budget(Decimal(100), at_limit=AtLimit.DETACH, grace_seconds=60))
    watched.clock.advance(HOUR)
    lowered = Budget(Decimal("1"), at_limit=AtLimit.DETACH, grace_seconds=60)
    for _ in range(2):  # saying the same again begins no new grace
        budget = tenancy.change("lowered", Quota(), lowered).budget
        spent = spending(budget, [interval(began, None)], began + HOUR + 30)
        assert (spent.level, spent.ends_at) == (Level.REACHED, began + HOUR + 60)
        watched.clock.advance(20)
    assert spending(budget, [interval(began, None)], began + HOUR + 60).level is Level.OVER


def test_a_new_month_begins_anew(watched: Watched) -> None:
    watched.tenancy.add("vision", Quota(), Budget(Decimal("0.01")))
    watched.attach(1, "vision")
    watched.run(10)
    assert watched.told[-1][1] is Level.REACHED
    watched.clock.advance(MARCH + 31 * DAY - watched.clock.now())
    watched.run(6)
    watched.tenancy.check_budget("vision")
    watched.run(4)
    assert [level for _, level, _ in watched.told] == [Level.WARNED, Level.REACHED] * 2
    with pytest.raises(BudgetReached):
        watched.tenancy.check_budget("vision")
