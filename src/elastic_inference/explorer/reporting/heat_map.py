"""Client x accelerator as cells: measured ones shaded by cost, skipped ones with the reason. Values only."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from elastic_inference.explorer.reporting.result import Exploration, usd_text
from elastic_inference.explorer.search_result import CellResult, CellState
from elastic_inference.explorer.space import Cell

_NONE = "no accelerator"
# Shading goes up to this share of the accent colour; more would make the text hard to read.
_DARKEST_PERCENT = 46


@dataclass(frozen=True)
class HeatCell:
    """One combination.

    Attributes:
        kind: CSS classes: "measured", "measured best" or "skipped".
        text: Its cost, or why it was skipped, in a word or two.
        small: Its latency, or the one that it cannot undercut; "" where unknown.
        reason: The sentence behind it.
        heat_percent: How dark it is; None where it was not measured.
    """

    kind: str
    text: str
    small: str
    reason: str
    heat_percent: int | None = None


@dataclass(frozen=True)
class HeatMap:
    """The combinations of one precision; `rows` has a name and one cell (None: no such one) a column each."""

    precision: str
    columns: Sequence[str]
    rows: Sequence[tuple[str, Sequence[HeatCell | None]]]


def heat_maps(exploration: Exploration) -> list[HeatMap]:
    """One map for each precision; none where no accelerator occurs, since a single column shows nothing."""
    cells = list(exploration.result.cells)
    if len({cell.accelerator for cell in cells}) < 2:
        return []
    return [
        _heat_map(exploration, precision) for precision in dict.fromkeys(cell.precision for cell in cells)
    ]


def _heat_map(exploration: Exploration, precision: str) -> HeatMap:
    results = {
        (cell.client, cell.accelerator): result
        for cell, result in exploration.result.cells.items()
        if cell.precision == precision
    }
    accelerators = dict.fromkeys(accelerator for _, accelerator in results)
    columns = sorted(accelerators, key=lambda name: name is None)  # which keeps the others' order
    costs = [float(r.usd_per_100k) for r in results.values() if r.usd_per_100k is not None]
    span = (min(costs, default=0.0), max(costs, default=0.0))
    winner = exploration.result.winner
    rows = [
        (client, [_cell(results.get((client, column)), span, winner) for column in columns])
        for client in dict.fromkeys(client for client, _ in results)
    ]
    return HeatMap(precision, [column or _NONE for column in columns], rows)


def _cell(result: CellResult | None, span: tuple[float, float], winner: Cell | None) -> HeatCell | None:
    if result is None:
        return None
    if result.state is CellState.MEASURED and result.usd_per_100k is not None and result.interval is not None:
        return HeatCell(
            "measured best" if result.cell == winner else "measured",
            usd_text(result.usd_per_100k),
            f"{result.interval.mean * 1000:.4g} ms",
            result.reason,
            round(_heat(float(result.usd_per_100k), span)),
        )
    bound = "" if result.bound_seconds is None else f"≥ {result.bound_seconds * 1000:.4g} ms"
    return HeatCell("skipped", result.state.value, bound, result.reason)


def _heat(cost: float, span: tuple[float, float]) -> float:
    low, high = span
    if not 0 < low < high:
        return 0.0
    return _DARKEST_PERCENT * math.log(cost / low) / math.log(high / low)
