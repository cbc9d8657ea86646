"""The report as one page that needs no network, and the files beside it."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterable, Sequence
from decimal import Decimal
from html import escape
from importlib.resources import files
from pathlib import Path

from elastic_inference.errors import InvalidInput
from elastic_inference.explorer.article import Claim
from elastic_inference.explorer.reporting import plots
from elastic_inference.explorer.reporting.heat_map import heat_maps
from elastic_inference.explorer.reporting.result import Exploration, Row, remarks, rows, to_json, verdict
from elastic_inference.explorer.search_result import CellState
from elastic_inference.explorer.space import Cell

REPORT, MEASUREMENTS, COMBINATIONS = "report.html", "measurements.json", "combinations.csv"
# The page may load nothing at all; what it needs stands in it.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:"


def write_report(exploration: Exploration, directory: str | Path, claims: Sequence[Claim] = ()) -> list[Path]:
    """Write `report.html`, `measurements.json` and `combinations.csv`; gives their paths.

    Raises:
        InvalidInput: The directory cannot be written.
    """
    directory = Path(directory)
    contents = {
        REPORT: render_html(exploration, claims),
        MEASUREMENTS: json.dumps(to_json(exploration), indent=1, ensure_ascii=False) + "\n",
        COMBINATIONS: render_csv(exploration),
    }
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for name, text in contents.items():
            (directory / name).write_text(text, "utf-8")
    except OSError as error:
        raise InvalidInput(f"report cannot be written to {str(directory)!r}: {error}") from error
    return [directory / name for name in contents]


def render_csv(exploration: Exploration) -> str:
    """One line a combination: what is shown in the table, unrounded."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(
        [
            "client", "accelerator", "precision", "state", "badges", "usd_per_hour", "latency_seconds",
            "latency_low_seconds", "latency_high_seconds", "target_latency_seconds", "sequential_usd_per_100k",
            "throughput_per_second", "throughput_usd_per_100k", "demand_combinations", "demand_usd_per_100k",
            "reason",
        ]
    )  # fmt: skip
    for row in rows(exploration):
        result, interval = row.result, row.result.interval
        known = interval is not None and math.isfinite(interval.low)
        cell = result.cell
        values = [
            cell.client, cell.accelerator, cell.precision, result.state.value, "; ".join(row.badges),
            result.usd_per_hour, interval and interval.mean, interval.low if known and interval else None,
            interval.high if known and interval else None, result.target_latency_seconds, row.sequential_usd,
            row.throughput_per_second, row.throughput_usd, row.demand_count, row.demand_usd, result.reason,
        ]  # fmt: skip
        writer.writerow(["" if value is None else value for value in values])
    return buffer.getvalue()


def render_html(exploration: Exploration, claims: Sequence[Claim] = ()) -> str:
    """The page; everything from outside is escaped."""
    data = files("elastic_inference.explorer") / "data"
    style, script = ((data / name).read_text("utf-8") for name in ("report.css", "report.js"))
    parts = [
        _head(exploration),
        _plots(exploration),
        _cost_table(exploration),
        _skipped_table(exploration),
        heat_maps(exploration),
        _timing_table(exploration),
        _curves(exploration),
        _remarks(exploration),
        _claims(claims),
        _price_table(exploration),
        _method(exploration),
    ]
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        f"<title>{escape(exploration.subject)}: cheapest combination</title>\n"
        '<link rel="icon" href="data:,">\n'
        f"<style>\n{style}</style>\n</head>\n<body>\n"
        + "\n".join(part for part in parts if part)
        + f"\n<script>\n{script}</script>\n</body>\n</html>\n"
    )


def _head(exploration: Exploration) -> str:
    none = " none" if exploration.result.winner is None else ""
    warnings = "".join(f'<p class="warning"><b>Note.</b> {escape(text)}</p>' for text in exploration.warnings)
    return (
        f'<h1>Cheapest combination</h1>\n<p class="subject">{escape(exploration.subject)}</p>\n'
        f'<div class="verdict{none}"><p>{escape(verdict(exploration))}</p>'
        f"<p>{escape(exploration.result.proof)}.</p></div>\n{warnings}"
    )


def _plots(exploration: Exploration) -> str:
    scatter, bars = plots.scatter(exploration), plots.bars(exploration)
    if not scatter:
        return ""
    return (
        '<div class="plots">'
        f"<section><h2>Latency and cost</h2><figure>{scatter}<figcaption>Down and left is better. The star is the "
        "winner; grey misses the target.</figcaption></figure></section>"
        f"<section><h2>Cost</h2><figure>{bars}<figcaption>Price × sequential latency"
        f"{_interval_words(exploration)}.</figcaption></figure></section></div>"
    )


def _interval_words(exploration: Exploration) -> str:
    if all(row.interval_usd is None for row in rows(exploration)):
        return ""
    return f"; the stroke is the {exploration.result.options.confidence:.0%} interval"


def _cost_table(exploration: Exploration) -> str:
    measured = [row for row in rows(exploration) if row.result.state is CellState.MEASURED]
    if not measured:
        return ""
    has_curves = any(row.throughput_usd is not None for row in measured)
    demand = exploration.demand_per_second if has_curves else None
    heads = ["Combination", "USD/hour", "Latency, ms"]
    heads += [] if exploration.percentile is None else [f"{exploration.target_name}, ms"]
    heads += ["(a) sequential"]
    heads += ["Rate /s", "(b) at that rate"] if has_curves else []
    heads += [] if demand is None else [f"(c) at {demand:g}/s"]
    body = [_cost_line(exploration, row, has_curves, demand is not None) for row in measured]
    notes = "USD per 100,000 inferences. (a) price × latency, one after another, as the article counts."
    if has_curves:
        notes += " (b) price ÷ greatest throughput that meets the target."
    if demand is not None:
        notes += " (c) as many combinations as the demand takes, idle time included."
    return f'<h2>Measured</h2><p class="note">{notes}</p>{_table(heads, body, "costs", texts=(0,))}'


def _cost_line(exploration: Exploration, row: Row, has_curves: bool, has_demand: bool) -> str:
    result = row.result
    mean = None if result.interval is None else result.interval.mean
    cells = [
        _name_cell(result.cell, row.badges),
        _number(result.usd_per_hour, "{:f}"),
        _number(None if mean is None else mean * 1000, "{:.2f}", _latency_interval(row)),
    ]
    if exploration.percentile is not None:
        tail = result.target_latency_seconds
        cells.append(_number(None if tail is None else tail * 1000, "{:.2f}"))
    cells.append(_number(row.sequential_usd, "{:.4f}", _usd_interval(row)))
    if has_curves:
        cells += [_number(row.throughput_per_second, "{:.3g}"), _number(row.throughput_usd, "{:.4f}")]
    if has_demand:
        count = "" if row.demand_count is None else f"{row.demand_count} needed"
        cells.append(_number(row.demand_usd, "{:.4f}", count))
    kind = ' class="winner"' if "winner" in row.badges else ""
    return f"<tr{kind}>{''.join(cells)}</tr>"


def _skipped_table(exploration: Exploration) -> str:
    skipped = [row.result for row in rows(exploration) if row.result.state is not CellState.MEASURED]
    if not skipped:
        return ""
    body = [
        f"<tr>{_name_cell(result.cell, (result.state.value,))}{_number(result.usd_per_hour, '{:f}')}"
        f"{_number(None if result.bound_seconds is None else result.bound_seconds * 1000, '{:.1f}')}"
        f'<td class="reason">{escape(result.reason)}</td></tr>'
        for result in skipped
    ]
    heads = ["Combination", "USD/hour", "At least, ms", "Why"]
    return f"<h2>Not measured, and why</h2>{_table(heads, body, 'skipped', texts=(0, 3))}"


def _name_cell(cell: Cell, badges: Sequence[str]) -> str:
    shown = " ".join(_badge(name) for name in badges)
    name = escape(cell.name)
    return f'<th scope=row data-value="{name}">{name}<span class="badges">{shown}</span></th>'


def _badge(name: str) -> str:
    return f'<span class="badge {name.replace(" ", "-")}">{escape(name)}</span>'


def _latency_interval(row: Row) -> str:
    interval = row.result.interval
    if interval is None or not math.isfinite(interval.low) or interval.high == interval.low:
        return ""
    return f"± {(interval.high - interval.low) / 2 * 1000:.2g}"


def _usd_interval(row: Row) -> str:
    return "" if row.interval_usd is None else f"± {(row.interval_usd[1] - row.interval_usd[0]) / 2:.2g}"


def _timing_table(exploration: Exploration) -> str:
    timed = [row for row in rows(exploration) if row.detail.num_samples]
    if not timed:
        return ""
    heads = [
        "Combination",
        "queue, ms",
        "service, ms",
        "wire, ms",
        "load, s",
        "first call, s",
        "samples",
        "set aside",
    ]
    shares = sorted(
        {name for row in timed for name in row.detail.percentiles}, key=lambda name: float(name[1:])
    )
    heads += [f"{name}, ms" for name in shares]
    body = [_timing_line(row, shares) for row in timed]
    return (
        '<h2>Where the time goes</h2><p class="note">Means of sequential inferences after warm-up; load and first '
        "call are in no mean. Percentiles are from the intended start of each request under open-loop arrivals.</p>"
        + _table(heads, body, "timing", texts=(0,))
    )


def _timing_line(row: Row, shares: Sequence[str]) -> str:
    detail = row.detail
    parts = [detail.queue_seconds, detail.service_seconds, detail.wire_seconds]
    cells = [f"<th scope=row>{escape(row.result.cell.name)}</th>"]
    cells += [_number(None if part is None else part * 1000, "{:.2f}") for part in parts]
    cells += [_number(part, "{:.3g}") for part in (detail.load_seconds, detail.first_call_seconds)]
    cells += [_number(detail.num_samples, "{}"), _number(detail.num_warm_up, "{}")]
    for name in shares:
        value = detail.percentiles.get(name)
        cells.append(_number(None if value is None else value * 1000, "{:.2f}"))
    return f"<tr>{''.join(cells)}</tr>"


def _curves(exploration: Exploration) -> str:
    svg = plots.curves(exploration)
    if not svg:
        return ""
    return f"<h2>Throughput and latency of the finalists</h2><figure>{svg}</figure>"


def _remarks(exploration: Exploration) -> str:
    lines = "".join(f"<li>{escape(text)}</li>" for text in remarks(exploration))
    return f'<h2>Remarks on single measurements</h2><ul class="note">{lines}</ul>' if lines else ""


def _claims(claims: Iterable[Claim]) -> str:
    body = [
        f"<tr><th scope=row>{escape(claim.text)}</th><td class=number>{claim.published_text}</td>"
        f"<td class=number>{claim.computed_text}</td><td>{_badge('holds' if claim.holds else 'fails')}</td></tr>"
        for claim in claims
    ]
    if not body:
        return ""
    table = _table(["Claim", "published", "computed", "verdict"], body, "claims", texts=(0, 3))
    return f"<h2>The article's claims, computed from its own measurements</h2>{table}"


def _price_table(exploration: Exploration) -> str:
    body = [
        f"<tr><th scope=row>{escape(row.name)}</th>{_number(row.usd_per_hour, '{:f}')}<td>{escape(row.vendor)}</td>"
        f"<td>{escape(row.region)}</td><td>{escape(row.as_of)}</td><td>{escape(row.source)}</td></tr>"
        for row in exploration.prices
    ]
    if not body:
        return ""
    heads = ["Name", "USD/hour", "Vendor", "Region", "As of", "Source"]
    return f"<h2>Prices</h2>{_table(heads, body, 'prices', texts=(0, 2, 3, 4, 5))}"


def _method(exploration: Exploration) -> str:
    options = exploration.result.options
    target = options.target_latency_seconds
    facts = {
        "Target": "none" if target is None else f"{target * 1e3:.5g} ms",
        "Target is about": "mean latency" if exploration.percentile is None else exploration.target_name,
        "Slack": f"{options.slack_share:.0%}: how much slower a more capable combination may be",
        "Confidence": f"{options.confidence:.0%}",
        "Runs": f"{exploration.result.num_runs}, repeats included",
        **exploration.facts,
    }
    lines = "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in facts.items())
    command = f"<p>To repeat it:</p><pre>{escape(exploration.command)}</pre>" if exploration.command else ""
    return (
        "<h2>Method</h2><p>A combination is skipped only where a measured one that is at least as capable shows that "
        "it cannot meet the target, or cannot be cheaper than the winner. The winner is always measured. Combinations "
        f"whose cost intervals overlap are a tie.</p><dl>{lines}</dl>{command}"
    )


def _number(value: float | int | Decimal | None, form: str, small: str = "") -> str:
    if value is None:
        return '<td class="number" data-value=""></td>'
    more = f"<br><small>{escape(small)}</small>" if small else ""
    return f'<td class="number" data-value="{value}">{form.format(value)}{more}</td>'


def _table(heads: Sequence[str], body: Sequence[str], kind: str, texts: Sequence[int]) -> str:
    cells = []
    for place, head in enumerate(heads):
        name = "" if place in texts else ' class="number"'
        cells.append(f"<th scope=col{name}><button type=button>{escape(head)}</button></th>")
    return (
        f'<div class="scroll"><table class="{kind}"><thead><tr>{"".join(cells)}</tr></thead>'
        f"<tbody>{''.join(body)}</tbody></table></div>"
    )
