"""A plan as one page that loads nothing: the blocks that the terminal shows, and what was in use over time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from html import escape
from importlib.resources import files
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from elastic_inference.cli.rendering import Block, Pairs, Table
from elastic_inference.errors import InvalidInput

if TYPE_CHECKING:
    from elastic_inference.cli._plan_text import Planned
    from elastic_inference.pool.simulation.control import Use

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
_WIDTH, _HEIGHT, _LEFT, _BOTTOM = 760, 220, 46, 28
_MOST_POINTS = 600
_CSS = """
.plot { width: 100%; max-width: 52rem; height: auto; }
.plot text { fill: var(--muted); font-size: 12px; }
.plot path { fill: none; stroke-width: 1.6; }
.plot line { stroke: var(--line); }
td:first-child { white-space: nowrap; }
"""


def write_page(planned: Planned, path: Path) -> None:
    """Write the page.

    Raises:
        InvalidInput: The file cannot be written.
    """
    try:
        path.write_text(render_page(planned), "utf-8")
    except OSError as error:
        raise InvalidInput(f"report {path}: {error.strerror or error}") from error


def render_page(planned: Planned) -> str:
    """Return the page; everything from outside is escaped."""
    style = (files("elastic_inference") / "data" / "style.css").read_text("utf-8")
    simulation = planned.plan.simulation
    plot = "" if simulation is None else _plot(simulation.uses)
    body = "\n".join(_block(block) for block in planned.blocks() if block != "")
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        f'<title>Plan of a pool</title>\n<link rel="icon" href="data:,">\n<style>{style}{_CSS}</style>\n</head>\n'
        f"<body>\n<h1>Plan of a pool</h1>\n{body}\n{plot}\n</body>\n</html>\n"
    )


def _block(block: Block) -> str:
    if isinstance(block, str):
        return f"<p>{escape(block.strip())}</p>"
    if isinstance(block, Pairs):
        inner = "".join(
            f"<dt>{escape(name)}</dt><dd>{escape(str(value))}</dd>" for name, value in block.pairs
        )
        return f"<dl>{inner}</dl>"
    return _table(block)


def _table(block: Table) -> str:
    classes = [' class="number"' if column.is_number else "" for column in block.columns]
    head = "".join(
        f'<th scope="col"{kind}>{escape(column.title)}</th>'
        for column, kind in zip(block.columns, classes, strict=True)
    )
    lines = "".join(
        "<tr>"
        + "".join(f"<td{kind}>{escape(text)}</td>" for text, kind in zip(cells, classes, strict=True))
        + "</tr>"
        for cells in block.cells()
    )
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{lines}</tbody></table></div>'


def _plot(uses: Sequence[Use]) -> str:
    """Draw accelerators and hosts in use as steps over time."""
    if len(uses) < 2:
        return ""
    most = max(use.num_accelerators for use in uses)
    hours = uses[-1].at / 3600
    accelerators = _steps(uses, lambda use: use.num_accelerators, most)
    hosts = _steps(uses, lambda use: use.used_hosts, most)
    y_of_zero = _HEIGHT - _BOTTOM
    return (
        "<h2>In use over time</h2>\n<figure>"
        f'<svg class="plot" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" '
        f'aria-label="Accelerators and hosts in use over {hours:.3g} hours, at most {most} accelerators">'
        f'<line x1="{_LEFT}" y1="{y_of_zero}" x2="{_WIDTH}" y2="{y_of_zero}"/>'
        f'<text x="{_LEFT - 6}" y="14" text-anchor="end">{most}</text>'
        f'<text x="{_LEFT - 6}" y="{y_of_zero}" text-anchor="end">0</text>'
        f'<text x="{_LEFT}" y="{_HEIGHT - 8}">0 h</text>'
        f'<text x="{_WIDTH}" y="{_HEIGHT - 8}" text-anchor="end">{hours:.3g} h</text>'
        f'<path d="{accelerators}" stroke="var(--accent)"/><path d="{hosts}" stroke="var(--series-2)"/></svg>\n'
        "<figcaption>Blue: accelerators; orange: hosts that hold one. In a usual time.</figcaption></figure>"
    )


def _steps(uses: Sequence[Use], value: Callable[[Use], int], most: int) -> str:
    scale = (_HEIGHT - _BOTTOM - 8) / max(1, most)
    width = (_WIDTH - _LEFT) / uses[-1].at
    shown: Iterable[Use] = _fewer(uses, value)
    parts = [f"{_LEFT + use.at * width:.1f},{_HEIGHT - _BOTTOM - value(use) * scale:.1f}" for use in shown]
    # A step: keep the level until the next moment.
    path = f"M{parts[0]}"
    for before, now in pairwise(parts):
        path += f"L{now.split(',')[0]},{before.split(',')[1]}L{now}"
    return path


def _fewer(uses: Sequence[Use], value: Callable[[Use], int]) -> list[Use]:
    """Of many uses keep, in each stretch, the one with the most: peaks must be seen."""
    size = -(-len(uses) // _MOST_POINTS)
    return [max(uses[start : start + size], key=value) for start in range(0, len(uses), size)]
