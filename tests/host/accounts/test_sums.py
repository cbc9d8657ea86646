"""Usage summed up by type and by day: nothing counted twice, nothing lost, and what has no price apart."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from elastic_inference.host.accounts.model_sums import NO_MODEL, sum_up_models
from elastic_inference.host.accounts.sums import By, HourRow, ModelHourRow, sum_up
from elastic_inference.host.accounts.usage import summarize

DAY, HOUR = 86400.0, 3600.0


def interval(
    start: float,
    end: float | None,
    usd: str | None = "0.12",
    kind: str = "small",
    accelerator_id: str = "a",
    tenant: str = "",
) -> dict[str, Any]:
    return {
        "accelerator_id": accelerator_id, "name": "x", "accelerator_type": kind, "usd_per_hour": usd,
        "started_at": start, "ended_at": end, "tenant": tenant,
    }  # fmt: skip


def test_a_night_is_cut_at_midnight() -> None:
    found = sum_up(By.DAY, [interval(DAY - HOUR, DAY + 2 * HOUR)], [], 0.0, 9 * DAY)
    assert [(s.key, s.attached_seconds, s.cost_usd) for s in found] == [
        ("1970-01-01", HOUR, Decimal("0.12")),
        ("1970-01-02", 2 * HOUR, Decimal("0.24")),
    ]


def test_counters_go_to_the_day_and_to_the_type_of_their_hour() -> None:
    intervals = [
        interval(0.0, 4500.0),
        interval(4500.0, None, "0.24", "large"),
        interval(0, None, None, "free", "b"),
    ]
    hours = [HourRow("a", 0, 10, 1.0, 0.0), HourRow("a", 1, 20, 2.0, 0.5), HourRow("b", 1, 7, 0.0, 0.0)]
    by_type = {s.key: s for s in sum_up(By.TYPE, intervals, hours, 0.0, 3 * HOUR)}
    assert {key: s.inferences for key, s in by_type.items()} == {"small": 10, "large": 20, "free": 7}
    assert by_type["free"].unpriced_seconds == by_type["free"].attached_seconds == 3 * HOUR
    assert by_type["free"].usd_per_100k is None
    assert by_type["small"].usd_per_100k == Decimal("0.15") * 100_000 / 10
    (day,) = sum_up(By.DAY, intervals, hours, 0.0, 3 * HOUR)
    assert (day.inferences, day.unpriced_seconds, day.cost_usd) == (37, 3 * HOUR, Decimal("0.57"))


def test_tenants_pay_for_themselves_and_the_rest_is_the_operators() -> None:
    intervals = [
        interval(0.0, HOUR, tenant="vision"),
        interval(0.0, HOUR, "0.24", accelerator_id="b"),
        interval(0.0, HOUR, None, accelerator_id="c", tenant="vision"),
    ]
    hours = [HourRow("a", 0, 10, 1.0, 0.0), HourRow("b", 0, 20, 2.0, 0.5)]
    found = {s.key: s for s in sum_up(By.TENANT, intervals, hours, 0.0, DAY)}
    assert {key: (s.cost_usd, s.inferences) for key, s in found.items()} == {
        "operator": (Decimal("0.24"), 20),
        "vision": (Decimal("0.12"), 10),
    }
    # What has no price is apart, and hides nothing of what has one.
    assert (found["vision"].unpriced_seconds, found["vision"].attached_seconds) == (HOUR, 2 * HOUR)


def test_models_share_the_hours_in_which_they_ran_and_idle_hours_are_nobodys() -> None:
    model_hours = [ModelHourRow("a", 0, "large", 10, 300.0), ModelHourRow("a", 0, "small", 90, 100.0)]
    hours = [HourRow("a", 0, 100, 400.0, 40.0), HourRow("a", 1, 0, 1.0, 0.0)]
    found = {s.key: s for s in sum_up_models([interval(0.0, 2 * HOUR)], hours, model_hours, 0.0, DAY)}
    assert {key: s.cost_usd for key, s in found.items()} == {
        "large": Decimal("0.09"),
        "small": Decimal("0.03"),
        NO_MODEL: Decimal("0.12"),
    }
    assert (found["large"].inferences, found["large"].device_seconds) == (10, 300.0)
    assert (found[NO_MODEL].inferences, found[NO_MODEL].device_seconds) == (0, 1.0)


def test_what_lies_before_does_not_count() -> None:
    hours = [HourRow("a", 0, 10, 1.0, 0.0), HourRow("a", 1, 20, 2.0, 0.5)]
    (found,) = sum_up(By.TYPE, [interval(0.0, 2 * HOUR)], hours, HOUR, 9 * DAY)
    assert (found.attached_seconds, found.inferences) == (HOUR, 20)


_times = st.integers(0, int(4 * DAY))
_intervals = st.lists(
    st.builds(
        lambda start, length, usd, kind, who, whose: interval(start, start + length, usd, kind, who, whose),
        _times, st.integers(0, int(3 * DAY)), st.sampled_from([None, "0.13", "1"]), st.sampled_from("xyz"),
        st.sampled_from("abc"), st.sampled_from(["", "t", "u"]),
    ),
    max_size=6,
)  # fmt: skip


_model_hours = st.lists(
    st.builds(
        ModelHourRow, st.sampled_from("abc"), st.integers(0, 96), st.sampled_from(["m", "n", "o"]),
        st.integers(0, 9), st.floats(0, 3600),
    ),
    max_size=12,
    unique_by=lambda row: row[:3],
)  # fmt: skip


@settings(deadline=None)
@given(_intervals, _times, _model_hours)
def test_each_way_of_summing_comes_to_the_same(
    intervals: list[dict[str, Any]], since: int, model_hours: list[ModelHourRow]
) -> None:
    rows = summarize(intervals, {}, since, 9 * DAY)
    wanted = sum(row.attached_seconds for row in rows), sum(row.unpriced_seconds for row in rows)
    usd = sum((row.cost_usd for row in rows if row.cost_usd is not None), Decimal(0))
    for by in By:
        if by is By.MODEL:
            sums = sum_up_models(intervals, [], model_hours, since, 9 * DAY)
        else:
            sums = sum_up(by, intervals, [], since, 9 * DAY)
        seconds = sum(s.attached_seconds for s in sums), sum(s.unpriced_seconds for s in sums)
        assert seconds == pytest.approx(wanted, abs=1e-5)  # parts of hours are no whole numbers of seconds
        assert abs(sum((s.cost_usd for s in sums), Decimal(0)) - usd) < Decimal("1e-20")
