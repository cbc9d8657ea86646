"""Usage summed up by type and by day: nothing counted twice, nothing lost, and what has no price apart."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from elastic_inference.host.accounts.sums import By, HourRow, sum_up
from elastic_inference.host.accounts.usage import summarize

DAY, HOUR = 86400.0, 3600.0


def interval(
    start: float, end: float | None, usd: str | None = "0.12", kind: str = "small", accelerator_id: str = "a"
) -> dict[str, Any]:
    return {
        "accelerator_id": accelerator_id, "name": "x", "accelerator_type": kind, "usd_per_hour": usd,
        "started_at": start, "ended_at": end,
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


def test_what_lies_before_does_not_count() -> None:
    hours = [HourRow("a", 0, 10, 1.0, 0.0), HourRow("a", 1, 20, 2.0, 0.5)]
    (found,) = sum_up(By.TYPE, [interval(0.0, 2 * HOUR)], hours, HOUR, 9 * DAY)
    assert (found.attached_seconds, found.inferences) == (HOUR, 20)


_times = st.integers(0, int(4 * DAY))
_intervals = st.lists(
    st.builds(
        lambda start, length, usd, kind, who: interval(start, start + length, usd, kind, who),
        _times, st.integers(0, int(3 * DAY)), st.sampled_from([None, "0.13", "1"]), st.sampled_from("xyz"),
        st.sampled_from("abc"),
    ),
    max_size=6,
)  # fmt: skip


@settings(deadline=None)
@given(_intervals, _times)
def test_each_way_of_summing_comes_to_the_same(intervals: list[dict[str, Any]], since: int) -> None:
    rows = summarize(intervals, {}, since, 9 * DAY)
    wanted = sum(row.attached_seconds for row in rows), sum(row.unpriced_seconds for row in rows)
    usd = sum((row.cost_usd for row in rows if row.cost_usd is not None), Decimal(0))
    for by in By:
        sums = sum_up(by, intervals, [], since, 9 * DAY)
        assert (sum(s.attached_seconds for s in sums), sum(s.unpriced_seconds for s in sums)) == wanted
        assert abs(sum((s.cost_usd for s in sums), Decimal(0)) - usd) < Decimal("1e-20")
