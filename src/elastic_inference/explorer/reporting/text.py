"""Tables for a terminal: aligned plain text, the same wherever it is written to."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from elastic_inference.explorer.article import Claim
from elastic_inference.explorer.prices import PriceRow
from elastic_inference.explorer.reporting.result import Exploration, Row, rows
from elastic_inference.explorer.search_result import CellState


def combination_table(exploration: Exploration) -> str:
    """Every combination by cost; skipped ones with the reason."""
    has_rate = any(row.throughput_usd is not None for row in rows(exploration))
    demand = exploration.demand_per_second if has_rate else None
    heads = ["combination", "USD/hour", "ms", f"{exploration.target_name} ms", "(a) USD/100k"]
    heads += ["(b) USD/100k"] if has_rate else []
    heads += [f"(c) at {demand:g}/s"] if demand is not None else []
    if exploration.percentile is None:
        heads.remove("latency ms")
    lines = [_line(exploration, row, has_rate, demand) for row in rows(exploration)]
    return table([*heads, ""], lines, right=range(1, len(heads)))


def _line(exploration: Exploration, row: Row, has_rate: bool, demand: float | None) -> list[str]:
    result = row.result
    tail = result.target_latency_seconds
    line = [
        result.cell.name,
        "" if result.usd_per_hour is None else f"{result.usd_per_hour:f}",
        "" if result.interval is None else f"{result.interval.mean * 1000:.2f}",
    ]
    if exploration.percentile is not None:
        line.append("" if tail is None else f"{tail * 1000:.2f}")
    line.append("" if row.sequential_usd is None else f"{row.sequential_usd:.4f}")
    if has_rate:
        line.append("" if row.throughput_usd is None else f"{row.throughput_usd:.4f}")
    if demand is not None:
        line.append("" if row.demand_usd is None else f"{row.demand_usd:.4f}")
    what = (
        ", ".join(row.badges)
        if result.state is CellState.MEASURED
        else f"{result.state.value}: {result.reason}"
    )
    return [*line, what]


def claim_table(claims: Iterable[Claim]) -> str:
    """The article's claims, and which hold."""
    lines = [
        [c.text, c.published_text, c.computed_text, "holds" if c.holds else "does not hold"] for c in claims
    ]
    return table(["claim of the article", "published", "computed", ""], lines, right=(1, 2))


def price_table(prices: Iterable[PriceRow], old: Iterable[PriceRow] = ()) -> str:
    """Every price with its date and source; old ones are marked."""
    old_names = {row.name for row in old}
    lines = [_price_line(row, row.name in old_names) for row in prices]
    heads = ["vendor", "name", "kind", "vCPU", "GiB", "device", "USD/hour", "region", "as of", "source"]
    return table(heads, lines, right=(3, 4, 6))


def _price_line(row: PriceRow, is_old: bool) -> list[str]:
    sizes = [_plain(row.vcpu), _plain(row.memory_gib), _device(row), f"{row.usd_per_hour:f}"]
    return [
        row.vendor,
        row.name,
        row.kind,
        *sizes,
        row.region,
        row.as_of + (" old" if is_old else ""),
        row.source,
    ]


def _device(row: PriceRow) -> str:
    if not row.accelerator:
        return "" if row.kind == "client" else f"{_plain(row.fp32_tflops)} TFLOPS fp32"
    share = row.accelerator_fraction
    return row.accelerator if share in (None, 1) else f"{_plain(share)} {row.accelerator}"


def _plain(value: float | None) -> str:
    return "" if value is None else f"{value:g}"


def table(heads: Sequence[str], lines: Sequence[Sequence[str]], right: Iterable[int] = ()) -> str:
    """Columns as wide as their widest text; those in `right` are flush right."""
    everything = [heads, *lines]
    widths = [max(len(line[i]) for line in everything) for i in range(len(heads))]
    flush_right = set(right)
    return "\n".join(
        "  ".join(
            text.rjust(widths[i]) if i in flush_right else text.ljust(widths[i])
            for i, text in enumerate(line)
        ).rstrip()
        for line in everything
    )
