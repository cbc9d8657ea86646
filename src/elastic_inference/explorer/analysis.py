"""Analysis alone: given measurements instead of measuring, which combination is cheapest."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path

from elastic_inference.errors import InvalidInput
from elastic_inference.explorer.cost import ThroughputPoint
from elastic_inference.explorer.observation import Observation
from elastic_inference.explorer.prices import OLD_AFTER_DAYS, PriceRow, PriceTable
from elastic_inference.explorer.reporting.result import Detail, Exploration
from elastic_inference.explorer.search import rank
from elastic_inference.explorer.search_result import SearchOptions
from elastic_inference.explorer.space import DEFAULT_PRECISION, Cell, space_of
from elastic_inference.explorer.walk_back import WalkBackResult, smallest_first, walk_back

REQUIRED_COLUMNS = ("client", "accelerator", "latency_ms")
TAIL_COLUMN = "target_latency_ms"
THROUGHPUT_COLUMN = "throughput_per_second"


@dataclass(frozen=True)
class MeasuredRow:
    """One row of a measurements file; several rows of one cell are several runs of it."""

    cell: Cell
    observation: Observation
    throughput_per_second: float | None = None


def read_measurements(path: str | Path) -> list[MeasuredRow]:
    """Read a CSV file of given measurements.

    Columns: `client`, `accelerator` (empty for none), `latency_ms`; and, where they are there, `precision`,
    `target_latency_ms` (the percentile that the target is about) and `throughput_per_second`. Others are left.

    A latency that no measurement can give (zero, negative, not finite) marks its row, which then cannot win.

    Raises:
        InvalidInput: The file cannot be read, lacks a column, or a field is no number; names row, field and value.
    """
    try:
        text = Path(path).read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"measurements file {str(path)!r} cannot be read: {error}") from error
    return parse_measurements(text.splitlines(), str(path))


def parse_measurements(lines: Iterable[str], name: str) -> list[MeasuredRow]:
    """Read CSV lines as `read_measurements` does; `name` is what errors call the file."""
    reader = csv.DictReader(lines)
    missing = [column for column in REQUIRED_COLUMNS if column not in (reader.fieldnames or [])]
    if missing:
        raise InvalidInput(f"{name}: columns missing: {', '.join(missing)}")
    found = []
    for record in reader:
        where = f"{name}, line {reader.line_num}"
        if None in record or None in record.values():
            raise InvalidInput(f"{where}: does not have as many fields as the first line")
        found.append(_measured_row({key: value.strip() for key, value in record.items()}, where))
    if not found:
        raise InvalidInput(f"{name}: holds no measurement")
    return found


def _measured_row(record: Mapping[str, str], where: str) -> MeasuredRow:
    if not record["client"]:
        raise InvalidInput(f"{where}, field client: is empty")
    cell = Cell(record["client"], record["accelerator"] or None, record.get("precision") or DEFAULT_PRECISION)
    latency = _number(record, "latency_ms", where)
    if latency is None:
        raise InvalidInput(f"{where}, field latency_ms: is empty")
    tail = _number(record, TAIL_COLUMN, where)
    bad = [
        f"{where}, field {field}: {record[field]} ms is not a positive finite time"
        for field, value in (("latency_ms", latency), (TAIL_COLUMN, tail))
        if value is not None and not 0 < value < math.inf
    ]
    seconds = None if tail is None else tail / 1000
    throughput = _number(record, THROUGHPUT_COLUMN, where)
    if throughput is not None and not 0 < throughput < math.inf:
        bad.append(
            f"{where}, field {THROUGHPUT_COLUMN}: {record[THROUGHPUT_COLUMN]} is not positive and finite"
        )
    return MeasuredRow(cell, Observation(latency / 1000, seconds, "; ".join(bad)), throughput)


def _number(record: Mapping[str, str], field: str, where: str) -> float | None:
    text = record.get(field, "")
    if not text:
        return None
    try:
        return float(text)
    except ValueError as error:
        raise InvalidInput(f"{where}, field {field}: {text!r} is not a number") from error


def analyse(
    measured: Iterable[MeasuredRow],
    prices: PriceTable,
    options: SearchOptions,
    *,
    subject: str = "given measurements",
    today: date | None = None,
    demand_per_second: float | None = None,
    command: str = "",
    facts: Mapping[str, str] | None = None,
) -> Exploration:
    """Rank given measurements; cells without price and rows marked bad are shown and set aside.

    Args:
        today: What the age of prices is counted to; None warns of none.
    """
    runs: dict[Cell, list[Observation]] = {}
    details: dict[Cell, Detail] = {}
    for row in measured:
        runs.setdefault(row.cell, []).append(row.observation)
        if row.throughput_per_second is not None:
            latency = row.observation.target_latency_seconds or row.observation.latency_seconds or math.inf
            point = ThroughputPoint(row.throughput_per_second, latency)
            known = details.get(row.cell, Detail())
            details[row.cell] = replace(known, curve=(*known.curve, point))
    result = rank(space_of(list(runs), prices), runs, options)
    used = prices_of(list(runs), prices)
    warnings = [] if today is None else old_price_warnings(used, today)
    if max(len(observations) for observations in runs.values()) == 1:
        warnings.append(
            "One run of each combination is given, so nothing is known of their spread and of ties."
        )
    return Exploration(
        subject,
        result,
        used,
        details,
        demand_per_second=demand_per_second,
        facts=facts or {},
        warnings=tuple(warnings),
        command=command,
    )


def walk_back_of(
    measured: Iterable[MeasuredRow], prices: PriceTable, target_seconds: float | None
) -> WalkBackResult:
    """Go the article's own way through given measurements.

    Raises:
        InvalidInput: No measurement has both a client and an accelerator.
    """
    seen: dict[Cell, Observation] = {}
    for row in measured:
        seen.setdefault(row.cell, row.observation)
    space = space_of(list(seen), prices)
    clients, accelerators = smallest_first(space, prices)
    if not accelerators:
        raise InvalidInput("walk-back needs measurements of a client with an accelerator; there are none")
    absent = Observation(None, problem="not among the measurements")
    return walk_back(space, clients, accelerators, lambda cell: seen.get(cell, absent), target_seconds)


def prices_of(cells: Iterable[Cell], prices: PriceTable) -> tuple[PriceRow, ...]:
    """Return the price rows that these cells use, each once."""
    names = [name for cell in cells for name in (cell.client, cell.accelerator) if name is not None]
    return tuple(prices.get(name) for name in dict.fromkeys(names) if name in prices)


def old_price_warnings(used: Iterable[PriceRow], today: date) -> list[str]:
    """One sentence that names the prices which should be looked up again; none where there are none."""
    old = [row for row in used if row.is_old(today)]
    if not old:
        return []
    named = ", ".join(f"{row.name} ({row.as_of})" for row in old)
    return [f"Prices older than {OLD_AFTER_DAYS} days or undated, look them up again: {named}."]
