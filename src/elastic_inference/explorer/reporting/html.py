"""The report as one page that needs no network, and the files beside it."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Sequence
from pathlib import Path

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from elastic_inference.errors import InvalidInput
from elastic_inference.explorer.article import Claim
from elastic_inference.explorer.reporting import page_tables, plots
from elastic_inference.explorer.reporting.heat_map import heat_maps
from elastic_inference.explorer.reporting.result import Exploration, remarks, rows, to_json, verdict

REPORT, MEASUREMENTS, COMBINATIONS = "report.html", "measurements.json", "combinations.csv"


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
    """Return the page; everything from outside is escaped, because the templates escape all but our own plots."""
    return _templates().get_template("report.html.jinja").render(
        exploration=exploration,
        options=exploration.result.options,
        verdict=verdict(exploration),
        has_intervals=any(row.interval_usd is not None for row in rows(exploration)),
        plots={
            "scatter": Markup(plots.scatter(exploration)),
            "bars": Markup(plots.bars(exploration)),
            "curves": Markup(plots.curves(exploration)),
        },
        costs=page_tables.costs(exploration),
        has_throughput=page_tables.has_throughput(exploration),
        demand=page_tables.shown_demand(exploration),
        skipped=page_tables.skipped(exploration),
        heat_maps=heat_maps(exploration),
        timing=page_tables.timing(exploration),
        remarks=remarks(exploration),
        claims=page_tables.claims(claims),
        prices=page_tables.prices(exploration),
    )  # fmt: skip


def _templates() -> Environment:
    # A name that is misspelt in a template is an error, not an empty place on the page.
    own, shared = (
        PackageLoader("elastic_inference.explorer.reporting"),
        PackageLoader("elastic_inference", "data"),
    )
    return Environment(
        loader=ChoiceLoader([own, shared]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
