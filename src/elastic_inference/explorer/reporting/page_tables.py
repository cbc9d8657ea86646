"""The tables of the page as values: what stands in each cell and by what it sorts. The templates say how it looks."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal

from elastic_inference.explorer.article import Claim
from elastic_inference.explorer.reporting.result import Exploration, Row, rows
from elastic_inference.explorer.search_result import CellState


@dataclass(frozen=True)
class Entry:
    """One cell of a table.

    Attributes:
        small: A second line beneath it.
        badges: Marks beneath it, such as `winner`.
        kind: CSS class: "number", "reason" or "" for plain text.
        sort_by: What the column sorts by, "" for nothing (which stays last); None: by the text itself.
    """

    text: str
    small: str = ""
    badges: tuple[str, ...] = ()
    kind: str = ""
    sort_by: str | None = None


@dataclass(frozen=True)
class Line:
    """One line; its first entry is its head."""

    entries: Sequence[Entry]
    is_winner: bool = False


@dataclass(frozen=True)
class Table:
    """A table that sorts by each column.

    Attributes:
        kind: CSS class of the table.
        texts: Places of the columns that hold text; the others hold figures and are flush right.
    """

    kind: str
    heads: Sequence[str]
    texts: Sequence[int]
    lines: Sequence[Line]


def costs(exploration: Exploration) -> Table | None:
    """Return what each measured combination costs; None where none was measured."""
    measured = [row for row in rows(exploration) if row.result.state is CellState.MEASURED]
    if not measured:
        return None
    has_rates, demand = has_throughput(exploration), shown_demand(exploration)
    heads = ["Combination", "USD/hour", "Latency, ms"]
    heads += [] if exploration.percentile is None else [f"{exploration.target_name}, ms"]
    heads += ["(a) sequential"]
    heads += ["Rate /s", "(b) at that rate"] if has_rates else []
    heads += [] if demand is None else [f"(c) at {demand:g}/s"]
    lines = [
        Line(_cost_entries(exploration, row, has_rates, demand is not None), "winner" in row.badges)
        for row in measured
    ]
    return Table("costs", heads, (0,), lines)


def has_throughput(exploration: Exploration) -> bool:
    """Whether the throughput of any combination is known, and so cost (b)."""
    return any(row.throughput_usd is not None for row in rows(exploration))


def shown_demand(exploration: Exploration) -> float | None:
    """Return the demand for cost (c); None where that cost is not asked for or not known."""
    return exploration.demand_per_second if has_throughput(exploration) else None


def _cost_entries(exploration: Exploration, row: Row, has_rates: bool, has_demand: bool) -> list[Entry]:
    result = row.result
    mean = None if result.interval is None else result.interval.mean
    entries = [
        _name(result.cell.name, row.badges),
        _number(result.usd_per_hour, "{:f}"),
        _number(_ms(mean), "{:.2f}", _latency_interval(row)),
    ]
    if exploration.percentile is not None:
        entries.append(_number(_ms(result.target_latency_seconds), "{:.2f}"))
    entries.append(_number(row.sequential_usd, "{:.4f}", _usd_interval(row)))
    if has_rates:
        entries += [_number(row.throughput_per_second, "{:.3g}"), _number(row.throughput_usd, "{:.4f}")]
    if has_demand:
        count = "" if row.demand_count is None else f"{row.demand_count} needed"
        entries.append(_number(row.demand_usd, "{:.4f}", count))
    return entries


def skipped(exploration: Exploration) -> Table | None:
    """Return what was not measured, and why; None where everything was."""
    results = [row.result for row in rows(exploration) if row.result.state is not CellState.MEASURED]
    if not results:
        return None
    lines = [
        Line(
            [
                _name(result.cell.name, (result.state.value,)),
                _number(result.usd_per_hour, "{:f}"),
                _number(_ms(result.bound_seconds), "{:.1f}"),
                Entry(result.reason, kind="reason"),
            ]
        )
        for result in results
    ]
    return Table("skipped", ["Combination", "USD/hour", "At least, ms", "Why"], (0, 3), lines)


def timing(exploration: Exploration) -> Table | None:
    """Of what each latency consists; None where no times were taken."""
    timed = [row for row in rows(exploration) if row.detail.num_samples]
    if not timed:
        return None
    shares = sorted(
        {name for row in timed for name in row.detail.percentiles}, key=lambda name: float(name[1:])
    )
    parts = ["queue, ms", "service, ms", "wire, ms", "load, s", "first call, s", "samples", "set aside"]
    heads = ["Combination", *parts, *(f"{name}, ms" for name in shares)]
    return Table("timing", heads, (0,), [Line(_timing_entries(row, shares)) for row in timed])


def _timing_entries(row: Row, shares: Sequence[str]) -> list[Entry]:
    detail = row.detail
    parts = (detail.queue_seconds, detail.service_seconds, detail.wire_seconds)
    return [
        Entry(row.result.cell.name),
        *(_number(_ms(part), "{:.2f}") for part in parts),
        *(_number(seconds, "{:.3g}") for seconds in (detail.load_seconds, detail.first_call_seconds)),
        *(_number(count, "{}") for count in (detail.num_samples, detail.num_warm_up)),
        *(_number(_ms(detail.percentiles.get(name)), "{:.2f}") for name in shares),
    ]


def claims(listed: Iterable[Claim]) -> Table | None:
    """Return the article's claims beside what is computed; None for none."""
    lines = [
        Line(
            [
                Entry(claim.text),
                Entry(claim.published_text, kind="number"),
                Entry(claim.computed_text, kind="number"),
                Entry("", badges=("holds" if claim.holds else "fails",)),
            ]
        )
        for claim in listed
    ]
    return Table("claims", ["Claim", "published", "computed", "verdict"], (0, 3), lines) if lines else None


def prices(exploration: Exploration) -> Table | None:
    """Every price that was used, with its source; None for none."""
    lines = [
        Line(
            [
                Entry(row.name),
                _number(row.usd_per_hour, "{:f}"),
                *(Entry(text) for text in (row.vendor, row.region, row.as_of, row.source)),
            ]
        )
        for row in exploration.prices
    ]
    heads = ["Name", "USD/hour", "Vendor", "Region", "As of", "Source"]
    return Table("prices", heads, (0, 2, 3, 4, 5), lines) if lines else None


def _name(text: str, badges: Sequence[str]) -> Entry:
    return Entry(text, badges=tuple(badges), sort_by=text)


def _number(value: float | int | Decimal | None, form: str, small: str = "") -> Entry:
    if value is None:
        return Entry("", kind="number", sort_by="")
    return Entry(form.format(value), small, kind="number", sort_by=str(value))


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else seconds * 1000


def _latency_interval(row: Row) -> str:
    interval = row.result.interval
    if interval is None or not math.isfinite(interval.low) or interval.high == interval.low:
        return ""
    return f"± {(interval.high - interval.low) / 2 * 1000:.2g}"


def _usd_interval(row: Row) -> str:
    return "" if row.interval_usd is None else f"± {(row.interval_usd[1] - row.interval_usd[0]) / 2:.2g}"
