"""Client x accelerator as a table of cells: measured ones shaded by cost, skipped ones with the reason."""

from __future__ import annotations

import math
from html import escape

from elastic_inference.explorer.reporting.result import Exploration, usd_text
from elastic_inference.explorer.search_result import CellResult, CellState
from elastic_inference.explorer.space import Cell

_NONE = "no accelerator"
# Shading goes up to this share of the accent colour; more would make the text hard to read.
_DARKEST_PERCENT = 46


def heat_maps(exploration: Exploration) -> str:
    """One table for each precision; "" where no accelerator occurs, since a single column shows nothing."""
    cells = list(exploration.result.cells)
    if len({cell.accelerator for cell in cells}) < 2:
        return ""
    precisions = list(dict.fromkeys(cell.precision for cell in cells))
    tables = [_heat_map(exploration, precision, len(precisions) > 1) for precision in precisions]
    return (
        "<h2>Measured and skipped</h2>"
        '<p class="note">USD per 100,000 inferences and latency; darker costs more. Hatched was not measured: '
        "≥ says what it cannot undercut.</p>" + "".join(tables)
    )


def _heat_map(exploration: Exploration, precision: str, is_named: bool) -> str:
    results = {
        (cell.client, cell.accelerator): result
        for cell, result in exploration.result.cells.items()
        if cell.precision == precision
    }
    clients = list(dict.fromkeys(client for client, _ in results))
    accelerators = sorted({a for _, a in results if a is not None}, key=[a for _, a in results].index)
    columns: list[str | None] = [*accelerators, *([None] if any(a is None for _, a in results) else [])]
    costs = [float(r.usd_per_100k) for r in results.values() if r.usd_per_100k is not None]
    span = (min(costs, default=0.0), max(costs, default=0.0))
    heads = "".join(f"<th scope=col>{escape(column or _NONE)}</th>" for column in columns)
    body = "".join(
        f"<tr><th scope=row>{escape(client)}</th>"
        + "".join(_cell(results.get((client, column)), span, exploration.result.winner) for column in columns)
        + "</tr>"
        for client in clients
    )
    name = f"<p><b>{escape(precision)}</b></p>" if is_named else ""
    return (
        f'{name}<div class="scroll"><table class="heat"><thead><tr><th scope=col>Client</th>{heads}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def _cell(result: CellResult | None, span: tuple[float, float], winner: Cell | None) -> str:
    if result is None:
        return '<td class="absent">·</td>'
    reason = escape(result.reason, quote=True)
    if result.state is CellState.MEASURED and result.usd_per_100k is not None and result.interval is not None:
        heat = _heat(float(result.usd_per_100k), span)
        best = " best" if result.cell == winner else ""
        usd = usd_text(result.usd_per_100k)
        return (
            f'<td class="measured{best}" style="--heat:{heat:.0f}%" title="{reason}"><b>{usd}</b>'
            f"<small>{result.interval.mean * 1000:.4g} ms</small></td>"
        )
    bound = (
        "" if result.bound_seconds is None else f"<br><small>≥ {result.bound_seconds * 1000:.4g} ms</small>"
    )
    return f'<td class="skipped" title="{reason}">{result.state.value}{bound}</td>'


def _heat(cost: float, span: tuple[float, float]) -> float:
    low, high = span
    if not 0 < low < high:
        return 0.0
    return _DARKEST_PERCENT * math.log(cost / low) / math.log(high / low)
