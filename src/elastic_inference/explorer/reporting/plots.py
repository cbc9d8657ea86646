"""Plots of an exploration as SVG text, to stand inside a page whose style sheet gives the colours."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

from elastic_inference.explorer.reporting.result import Exploration, Row, pareto, rows, usd_text
from elastic_inference.explorer.search_result import CellResult, CellState

# matplotlib wants colours; these stand for the page's own, so that light, dark and print follow the style sheet.
_COLOURS = {
    "#0a0b01": "var(--text)",
    "#0a0b02": "var(--muted)",
    "#0a0b03": "var(--line)",
    "#0a0b04": "var(--accent)",
    "#0a0b05": "var(--good)",
    "#0a0b06": "var(--bad)",
    "#0a0b07": "var(--series-2)",
    "#0a0b08": "var(--series-3)",
    "#0a0b09": "var(--series-4)",
}
TEXT, MUTED, LINE, ACCENT, GOOD, BAD, *SERIES = _COLOURS
_WIDTH_INCHES = 5.2  # about as wide as a phone, where the text must be legible
_SETTINGS: Any = {
    "svg.fonttype": "none",  # text stays text: small, searchable, in the page's font
    "font.size": 10.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": LINE,
    "axes.labelcolor": MUTED,
    "axes.titlecolor": TEXT,
    "xtick.color": LINE,
    "ytick.color": LINE,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "text.color": TEXT,
    "grid.color": LINE,
    "grid.linewidth": 0.6,
    "axes.grid": True,
    "axes.axisbelow": True,
    "legend.frameon": False,
    "legend.labelcolor": TEXT,
}


def scatter(exploration: Exploration) -> str:
    """Latency against cost of what is measured, with the Pareto line and the target; "" where nothing is."""
    measured = _measured(exploration)
    if not measured:
        return ""

    def paint(axes: Any) -> None:
        for row in measured:
            colour, marker, size = _mark(row)
            latency, cost = _place(row.result)
            axes.scatter([latency], [cost], s=size, c=colour, marker=marker, zorder=3, linewidths=0)
        front = [(result.cell.name, _place(result)) for result in pareto(exploration)]
        shown = [_place(row.result)[0] for row in measured]
        if len(front) > 1:
            line = zip(*(place for _, place in front), strict=True)
            axes.plot(*line, color=ACCENT, linewidth=1.2, zorder=2, label="cheapest at its speed")
        if exploration.target_seconds is not None:
            target = exploration.target_seconds * 1000
            axes.axvline(target, color=BAD, linewidth=1.2, linestyle=(0, (5, 3)), label="target")
            shown.append(target)
        axes.set_xscale("log")
        _plain_log_ticks(axes, shown)
        axes.set_ylim(bottom=0)
        axes.margins(x=0.12)
        axes.set_xlabel(f"{exploration.target_name}, ms (logarithmic)")
        axes.set_ylabel("USD per 100,000 inferences")
        if axes.get_legend_handles_labels()[0]:
            axes.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=2, fontsize=9.5, borderpad=0.1)
        _label_front(axes, front, [_place(row.result) for row in measured])

    return _draw("scatter", "Latency against cost of each measured combination", 3.8, paint)


def bars(exploration: Exploration) -> str:
    """Cost of each measured combination, cheapest on top, with its interval; "" where nothing is measured."""
    measured = _measured(exploration)
    if not measured:
        return ""

    def paint(axes: Any) -> None:
        for place, row in enumerate(measured):
            cost = float(row.sequential_usd or 0)
            alpha = 0.5 if "too slow" in row.badges else 1.0
            axes.barh(place, cost, height=0.66, color=_mark(row)[0], alpha=alpha, linewidth=0)
            high = cost
            if row.interval_usd is not None:
                low, high = (float(bound) for bound in row.interval_usd)
                axes.plot([max(low, 0), high], [place, place], color=TEXT, linewidth=1.4)
            axes.annotate(
                usd_text(cost),
                (max(cost, high), place),
                (5, 0),
                textcoords="offset points",
                va="center",
                fontsize=9.5,
            )
        axes.set_yticks(range(len(measured)), [row.result.cell.name for row in measured], fontsize=9.5)
        axes.tick_params(axis="y", length=0, labelcolor=TEXT)
        axes.invert_yaxis()
        axes.grid(axis="y", visible=False)
        axes.spines["left"].set_visible(False)
        axes.margins(x=0.12, y=0.02)
        axes.set_xlabel("USD per 100,000 inferences")

    return _draw("bars", "Cost of each measured combination", 0.9 + 0.3 * len(measured), paint)


def curves(exploration: Exploration) -> str:
    """Throughput against tail latency of the combinations of which that was measured; "" where none was."""
    shown = [row for row in _measured(exploration) if len(row.detail.curve) > 1][:4]
    if not shown:
        return ""

    def paint(axes: Any) -> None:
        for row, colour in zip(shown, (ACCENT, *SERIES), strict=False):
            points = sorted((p.throughput_per_second, p.latency_seconds * 1000) for p in row.detail.curve)
            axes.plot(
                *zip(*points, strict=True), color=colour, marker="o", markersize=4, label=row.result.cell.name
            )
        if exploration.target_seconds is not None:
            axes.axhline(
                exploration.target_seconds * 1000,
                color=BAD,
                linestyle=(0, (5, 3)),
                linewidth=1.2,
                label="target",
            )
        axes.set_ylim(bottom=0)
        axes.set_xlim(left=0)
        axes.set_xlabel("inferences a second")
        axes.set_ylabel(f"{exploration.target_name}, ms")
        axes.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=2, fontsize=9.5, borderpad=0.1)

    return _draw("curves", "Tail latency at each rate of the finalists", 3.6, paint)


def _measured(exploration: Exploration) -> list[Row]:
    return [row for row in rows(exploration) if row.result.state is CellState.MEASURED]


def _mark(row: Row) -> tuple[str, str, float]:
    """Colour, marker and size that tell the badges."""
    if "winner" in row.badges:
        return GOOD, "*", 190
    if "tie" in row.badges:
        return GOOD, "o", 46
    if "too slow" in row.badges:
        return MUTED, "o", 30
    return ACCENT, "o", 36


def _place(result: CellResult) -> tuple[float, float]:
    """Where a measured combination stands: latency in ms, USD per 100,000 inferences."""
    return (result.target_latency_seconds or 0) * 1000, float(result.usd_per_100k or 0)


def _label_front(axes: Any, front: Sequence[tuple[str, tuple[float, float]]], points: Sequence[Any]) -> None:
    """Name what is on the Pareto line (all names would lie over each other), each where most room is.

    Args:
        front: Name and place of each, in the axes' data, along the line.
        points: Places of everything that is marked.
    """
    axes.figure.draw_without_rendering()  # names can be compared with what is there once the layout stands
    line = [place for _, place in front]
    taken = [_box_around(place) for place in axes.transData.transform([*points, *_along(axes, line)])]
    for name, place in front:
        label = axes.annotate(name, place, (0, 0), textcoords="offset points", fontsize=9, color=TEXT)

        def cost(where: tuple[int, int, str, str], label: Any = label) -> float:
            _move(label, where)
            box = label.get_window_extent()
            inside = _shared_area(box, axes.bbox)
            outside = float(box.width * box.height) - inside
            return outside + sum(_shared_area(box, other) for other in taken)

        _move(label, min(_PLACES, key=cost))
        taken.append(label.get_window_extent())


# Offset in points, and which side of the name is there; the nearest and most usual first.
_PLACES = tuple(
    (
        x * distance,
        y * distance,
        {1: "left", 0: "center", -1: "right"}[x],
        {1: "bottom", 0: "center", -1: "top"}[y],
    )
    for distance in (7, 16, 28)
    for x, y in ((1, 0), (1, 1), (1, -1), (0, 1), (0, -1), (-1, 0), (-1, 1), (-1, -1))
)


def _move(label: Any, where: tuple[int, int, str, str]) -> None:
    x, y, horizontal, vertical = where
    label.set(position=(x, y), horizontalalignment=horizontal, verticalalignment=vertical)


def _along(axes: Any, line: Sequence[tuple[float, float]]) -> list[Any]:
    """Places along the line, in the axes' data; it is straight on the page, not in the data."""
    corners = axes.transData.transform(line)
    steps = [start + (end - start) * k / 12 for start, end in pairwise(corners) for k in range(1, 12)]
    return list(axes.transData.inverted().transform(steps)) if steps else []


def _box_around(place: Any) -> Any:
    from matplotlib.transforms import Bbox

    return Bbox.from_bounds(place[0] - 4, place[1] - 4, 8, 8)


def _shared_area(one: Any, other: Any) -> float:
    from matplotlib.transforms import Bbox

    shared = Bbox.intersection(one, other)
    return 0.0 if shared is None else float(shared.width * shared.height)


def _plain_log_ticks(axes: Any, values: Sequence[float]) -> None:
    """Ticks at 1, 2 and 5 of each decade, written plainly; a narrow range would else show none or clutter."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    low, high = min(values) * 0.7, max(values) * 1.5
    ticks = [m * 10**e for e in range(-6, 9) for m in (1, 2, 5) if low <= m * 10**e <= high]
    if len(ticks) < 3:
        ticks = [m * 10**e for e in range(-6, 9) for m in range(1, 10) if low <= m * 10**e <= high]
    axes.xaxis.set_major_locator(FixedLocator(ticks))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def _draw(name: str, title: str, height_inches: float, paint: Callable[[Any], None]) -> str:
    """Paint on new axes under our settings and give the SVG element, without a fixed size."""
    import matplotlib
    from matplotlib.figure import Figure

    buffer = io.StringIO()
    with matplotlib.rc_context(_SETTINGS | {"svg.hashsalt": name}):
        figure = Figure(figsize=(_WIDTH_INCHES, height_inches), layout="constrained")
        paint(figure.add_subplot())
        metadata = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        figure.savefig(buffer, format="svg", transparent=True, metadata=metadata)
    return _for_page(buffer.getvalue(), name, title)


def _for_page(text: str, name: str, title: str) -> str:
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    for placeholder, colour in _COLOURS.items():
        text = text.replace(placeholder, colour)
    # Several plots share one page, so each gets ids of its own.
    text = re.sub(r'\bid="', f'id="{name}-', text)
    text = re.sub(r'(xlink:href="#|url\(#)', rf"\g<1>{name}-", text)
    text = re.sub(r"font: ([\d.]+)px [^;\"]*", r"font-size: \1px", text)
    text = re.sub(r'<svg ([^>]*?)width="[^"]*" height="[^"]*"', r"<svg \1", text)
    text = re.sub(r'<svg ([^>]*?)height="[^"]*"([^>]*?)width="[^"]*"', r"<svg \1\2", text)
    return text.replace("<svg ", f'<svg role="img" aria-label="{title}" ', 1).strip()
