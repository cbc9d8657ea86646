"""What accelerators cost: exact money from attached time, and counters that begin anew with a process."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from elastic_inference.host.accounts.usage import Sample, summarize


def interval(
    start: float, end: float | None, usd: str | None = "0.13", kind: str = "small"
) -> dict[str, Any]:
    return {
        "accelerator_id": "a",
        "name": "first",
        "accelerator_type": kind,
        "usd_per_hour": usd,
        "started_at": start,
        "ended_at": end,
    }


def test_cost_is_attached_time_times_price_exactly() -> None:
    (row,) = summarize([interval(0.0, 5400.0)], {"a": (50_000, 12.0, 0.5)}, since=0.0, now=9999.0)
    assert row.cost_usd == Decimal("0.195")
    assert row.usd_per_100k == Decimal("0.39")
    assert (row.attached_seconds, row.inferences, row.device_seconds) == (5400.0, 50_000, 12.0)
    assert not row.is_attached


def test_a_resize_costs_each_type_for_its_time() -> None:
    rows = [interval(0.0, 3600.0), interval(3600.0, None, "0.26", "large")]
    (row,) = summarize(rows, {}, since=0.0, now=7200.0)
    assert row.cost_usd == Decimal("0.39")
    assert row.accelerator_types == ("small", "large")
    assert row.is_attached
    assert row.usd_per_100k is None  # no inference, so no price for one


def test_time_before_since_does_not_count() -> None:
    (row,) = summarize([interval(0.0, None)], {}, since=3600.0, now=7200.0)
    assert (row.attached_seconds, row.cost_usd) == (3600.0, Decimal("0.13"))


def test_without_a_price_there_is_no_cost() -> None:
    (row,) = summarize([interval(0.0, 3600.0, None)], {"a": (10, 0.0, 0.0)}, since=0.0, now=7200.0)
    assert (row.cost_usd, row.usd_per_100k, row.unpriced_seconds) == (None, None, 3600.0)


def test_time_without_a_price_hides_no_other_time() -> None:
    rows = [interval(0.0, 3600.0), interval(3600.0, 7200.0, None)]
    (row,) = summarize(rows, {"a": (10, 0.0, 0.0)}, since=0.0, now=7200.0)
    assert (row.cost_usd, row.unpriced_seconds) == (Decimal("0.13"), 3600.0)
    assert row.usd_per_100k is None  # some of the inferences cost something that nobody knows


def test_a_counter_that_went_back_began_anew() -> None:
    assert Sample(12, 3.0, 1.0).since(Sample(10, 2.0, 1.0)) == Sample(2, 1.0, 0.0)
    assert Sample(4, 3.0, 0.0).since(Sample(10, 2.0, 1.0)) == Sample(4, 1.0, 0.0)
