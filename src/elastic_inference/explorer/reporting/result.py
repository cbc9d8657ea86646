"""One finished exploration: the search's result with what was measured beside it, as rows, sentences and JSON."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from decimal import Decimal
from typing import Any

from elastic_inference.explorer.cost import (
    ThroughputPoint,
    demand_usd,
    greatest_throughput,
    num_combinations,
    sequential_usd,
    throughput_usd,
)
from elastic_inference.explorer.prices import PriceRow
from elastic_inference.explorer.search_result import CellResult, CellState, SearchResult
from elastic_inference.explorer.space import Cell

SCHEMA = "elastic-inference exploration 1"


@dataclass(frozen=True)
class Detail:
    """What was measured of one cell beside its mean latency. Times in seconds; None where not measured.

    Attributes:
        num_samples: Sequential inferences behind the mean, warm-up set aside.
        num_warm_up: Inferences set aside.
        load_seconds, first_call_seconds: Reported apart, in no mean.
        queue_seconds, service_seconds, wire_seconds: Means; they add up to the mean latency.
        call_parts: Computation and wire of calls, each as likely, by rising computation; of calls that come as the
            percentiles' do, for after a pause they take longer than one upon the other. Without such, the sequential.
        percentiles: `p50`, `p95`, ... of the latency from the intended start, under open-loop arrivals.
        offered_per_second: Rate of those arrivals.
        schedule_delay_seconds: 99th percentile of how late the generator itself started a request.
        curve: Throughput and tail latency at each rate tried.
    """

    num_samples: int = 0
    num_warm_up: int = 0
    load_seconds: float | None = None
    first_call_seconds: float | None = None
    queue_seconds: float | None = None
    service_seconds: float | None = None
    wire_seconds: float | None = None
    call_parts: tuple[tuple[float, float], ...] = ()
    percentiles: Mapping[str, float] = field(default_factory=dict)
    offered_per_second: float | None = None
    schedule_delay_seconds: float | None = None
    curve: tuple[ThroughputPoint, ...] = ()
    notes: tuple[str, ...] = ()

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Detail:
        """Read what `asdict` wrote."""
        curve = tuple(ThroughputPoint(**point) for point in value.get("curve", ()))
        parts = tuple((computation, wire) for computation, wire in value.get("call_parts", ()))
        notes = tuple(value.get("notes", ()))
        return cls(**{**value, "curve": curve, "notes": notes, "call_parts": parts})


@dataclass(frozen=True)
class Exploration:
    """What a report is made of.

    Attributes:
        subject: The model and input, in words.
        percentile: What the target is about, such as 0.95; None where means or given figures are compared.
        demand_per_second: For cost (c); None leaves that cost out.
        prices: Rows of every machine that occurs.
        facts: What else to print: machine, versions, date, host; name -> value.
        warnings: Sentences that a reader must see, such as old prices or core limits standing in for machines.
        command: To repeat it.
    """

    subject: str
    result: SearchResult
    prices: tuple[PriceRow, ...]
    details: Mapping[Cell, Detail] = field(default_factory=dict)
    percentile: float | None = None
    demand_per_second: float | None = None
    facts: Mapping[str, str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    command: str = ""

    @property
    def target_seconds(self) -> float | None:
        return self.result.options.target_latency_seconds

    @property
    def target_name(self) -> str:
        """`p95` or `latency`."""
        return "latency" if self.percentile is None else f"p{self.percentile * 100:g}"


@dataclass(frozen=True)
class Row:
    """One line of the cost table; costs in USD per 100,000 inferences, None where unknown.

    Attributes:
        interval_usd: Where cost (a) lies; None where the spread is not known.
        badges: Of `winner`, `tie`, `feasible`, `too slow`, `near target`, `dominated`.
    """

    result: CellResult
    detail: Detail
    sequential_usd: Decimal | None
    interval_usd: tuple[Decimal, Decimal] | None
    throughput_per_second: float | None
    throughput_usd: Decimal | None
    demand_usd: Decimal | None
    demand_count: int | None
    badges: tuple[str, ...]


def rows(exploration: Exploration) -> list[Row]:
    """Every cell: the measured by cost, then the skipped and the unusable in their own order."""
    everything = [_row(exploration, result) for result in exploration.result.cells.values()]
    return sorted(
        everything, key=lambda row: row.sequential_usd if row.sequential_usd is not None else Decimal("inf")
    )


def _row(exploration: Exploration, result: CellResult) -> Row:
    detail = exploration.details.get(result.cell, Detail())
    interval = rate = by_rate = by_demand = count = None
    if result.state is CellState.MEASURED and result.usd_per_hour is not None:
        price, found = result.usd_per_hour, result.interval
        if found is not None and math.isfinite(found.low) and found.high > found.low:
            low = max(found.low, 1e-12)  # a wide interval of few runs may reach below any possible time
            interval = (sequential_usd(price, low), sequential_usd(price, found.high))
        rate = greatest_throughput(detail.curve, exploration.target_seconds)
        if rate:
            by_rate = throughput_usd(price, rate)
        if rate and exploration.demand_per_second:
            by_demand = demand_usd(price, rate, exploration.demand_per_second)
            count = num_combinations(rate, exploration.demand_per_second)
    return Row(
        result,
        detail,
        result.usd_per_100k,
        interval,
        rate,
        by_rate,
        by_demand,
        count,
        _badges(exploration, result),
    )


def _badges(exploration: Exploration, result: CellResult) -> tuple[str, ...]:
    if result.state is not CellState.MEASURED:
        return ()
    search = exploration.result
    badges = []
    if result.cell == search.winner:
        badges.append("winner")
    if result.cell in search.ties:
        badges.append("tie")
    if exploration.target_seconds is not None:
        badges.append("feasible" if result.is_feasible else "too slow")
    if result.cell in search.doubtful:
        badges.append("near target")
    if any(_dominates(other, result) for other in search.cells.values()):
        badges.append("dominated")
    return tuple(badges)


def _dominates(one: CellResult, other: CellResult) -> bool:
    """Whether one measured cell is both cheaper and faster than another, of the same precision."""
    if one.state is not CellState.MEASURED or one.cell.precision != other.cell.precision:
        return False
    mine, its = one.target_latency_seconds, other.target_latency_seconds
    cost, its_cost = one.usd_per_100k, other.usd_per_100k
    if mine is None or its is None or cost is None or its_cost is None:
        return False
    return cost <= its_cost and mine <= its and (cost, mine) != (its_cost, its)


def usd_text(usd: Decimal | float) -> str:
    """USD where there is little room: cents, or four digits below one dollar."""
    return f"{usd:.2f}" if usd >= 1 else f"{usd:.4f}"


def remarks(exploration: Exploration) -> list[str]:
    """Return what a reader should know of single measurements, such as a mean known less well than wished for."""
    return [f"{cell.name}: {note}" for cell, detail in exploration.details.items() for note in detail.notes]


def pareto(exploration: Exploration) -> list[CellResult]:
    """Measured cells than which none is both cheaper and faster, fastest first."""
    measured = [r for r in exploration.result.cells.values() if r.state is CellState.MEASURED]
    ordered = sorted(measured, key=lambda r: (r.target_latency_seconds or 0, r.usd_per_100k or 0))
    front: list[CellResult] = []
    for result in ordered:
        if not front or (result.usd_per_100k or 0) < (front[-1].usd_per_100k or 0):
            front.append(result)
    return front


def verdict(exploration: Exploration) -> str:
    """Return the answer in one to three sentences."""
    result, target = exploration.result, exploration.target_seconds
    name = exploration.target_name
    asked = "" if target is None else f" with {name} within {_ms(target)}"
    if result.winner is None:
        return _no_winner(exploration, asked)
    row = next(row for row in rows(exploration) if row.result.cell == result.winner)
    interval = ""
    if row.interval_usd is not None:
        low, high = row.interval_usd
        interval = f" ({result.options.confidence:.0%} interval {low:.4f} to {high:.4f})"
    usd = f"{row.sequential_usd:.4f} USD per 100,000 inferences"
    text = f"{result.winner.name} is the cheapest combination{asked}: {usd}"
    text += interval
    if target is not None and row.result.target_latency_seconds is not None:
        margin = 1 - row.result.target_latency_seconds / target
        text += f", {name} {_ms(row.result.target_latency_seconds)}, {margin:.1%} below the target"
    text += "."
    if result.ties:
        text += f" It is a tie with {_names(result.ties)}: their cost intervals overlap."
    if result.winner in result.doubtful:
        text += " Its latency is too near the target to be sure of it."
    cheaper = [cell for cell in result.doubtful if cell != result.winner]
    if cheaper:
        text += f" {_names(cheaper)} would be cheaper, but lies too near the target to call."
    return text


def _no_winner(exploration: Exploration, asked: str) -> str:
    result, target = exploration.result, exploration.target_seconds
    if result.closest is None or target is None:
        return f"No combination{asked} can be named: none could be measured and priced."
    closest = result.cells[result.closest]
    latency = closest.target_latency_seconds or math.nan
    text = f"No combination measured has {exploration.target_name} within {_ms(target)}"
    if result.is_complete and not any(r.state in _UNUSABLE for r in result.cells.values()):
        text = f"No combination has {exploration.target_name} within {_ms(target)}"
    return (
        f"{text}. The closest is {result.closest.name} with {_ms(latency)}, "
        f"{latency / target - 1:.1%} over the target, at {closest.usd_per_100k:.4f} USD per 100,000 inferences."
    )


_UNUSABLE = (CellState.FAILED, CellState.NO_PRICE)


def to_json(exploration: Exploration) -> dict[str, Any]:
    """All of it as a JSON object; money as text, exact."""
    result = exploration.result
    return {
        "schema": SCHEMA,
        "subject": exploration.subject,
        "verdict": verdict(exploration),
        "proof": result.proof,
        "winner": result.winner and asdict(result.winner),
        "ties": [asdict(cell) for cell in result.ties],
        "near_target": [asdict(cell) for cell in result.doubtful],
        "closest": result.closest and asdict(result.closest),
        "options": asdict(result.options),
        "percentile": exploration.percentile,
        "demand_per_second": exploration.demand_per_second,
        "num_runs": result.num_runs,
        "is_complete": result.is_complete,
        "combinations": [_row_json(row) for row in rows(exploration)],
        "prices": [asdict(row) | {"usd_per_hour": str(row.usd_per_hour)} for row in exploration.prices],
        "facts": dict(exploration.facts),
        "warnings": list(exploration.warnings),
        "command": exploration.command,
    }


def _row_json(row: Row) -> dict[str, Any]:
    result = row.result
    interval = result.interval
    known = interval is not None and math.isfinite(interval.low)
    return {
        **asdict(result.cell),
        "state": result.state.value,
        "reason": result.reason,
        "badges": list(row.badges),
        "usd_per_hour": _text(result.usd_per_hour),
        "latency_seconds": None if interval is None else interval.mean,
        "latency_interval_seconds": [interval.low, interval.high] if known and interval else None,
        "target_latency_seconds": result.target_latency_seconds,
        "bound_seconds": result.bound_seconds,
        "bound_by": result.bound_by and asdict(result.bound_by),
        "sequential_usd_per_100k": _text(row.sequential_usd),
        "throughput_per_second": row.throughput_per_second,
        "throughput_usd_per_100k": _text(row.throughput_usd),
        "demand_usd_per_100k": _text(row.demand_usd),
        "demand_combinations": row.demand_count,
        "detail": asdict(row.detail),
    }


def _text(value: Decimal | None) -> str | None:
    return None if value is None else format(value, "f")  # never 0E-17


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.5g} ms"


def _names(cells: Sequence[Cell]) -> str:
    names = [cell.name for cell in cells]
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
