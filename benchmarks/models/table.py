"""Outcomes as the table of docs/models.md: a line for each package."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import groupby

from benchmarks.models.run import BOTH, NOT_RUN, REFUSED, TOLD, WORKS, Outcome

_MAX_TOLD = 200
_HEAD = "| package | models | works on | differs, told | refused |\n|---|---|---|---|---|"


def markdown(outcomes: Sequence[Outcome]) -> str:
    """The table, and a line with all counts above it."""
    verdicts = Counter(outcome.verdict for outcome in outcomes)
    counts = ", ".join(f"{number} {verdict}" for verdict, number in verdicts.most_common())
    lines = [_line(package, list(group)) for package, group in groupby(outcomes, key=_package)]
    return f"{len(outcomes)} models: {counts}.\n\n{_HEAD}\n" + "\n".join(lines)


def _package(outcome: Outcome) -> str:
    registry, _, rest = outcome.key.partition(":")
    name, version = rest.split("==")[0], rest.split("==")[1].partition(":")[0]
    return f"{name} {version} ({'npm' if registry == 'npm' else 'PyPI'})"


def _line(package: str, outcomes: Sequence[Outcome]) -> str:
    formats = Counter(outcome.format for outcome in outcomes)
    works = Counter(outcome.engine for outcome in outcomes if outcome.verdict == WORKS)
    told = [outcome for outcome in outcomes if outcome.verdict == TOLD]
    refused = [outcome for outcome in outcomes if outcome.verdict not in (WORKS, TOLD)]
    cells = (
        package,
        ", ".join(f"{number} {name}" for name, number in formats.items()),
        ", ".join(f"{number} {name}" for name, number in works.most_common()),
        f"{len(told)} until {told[0].engine} took over" if told else "",
        "; ".join(dict.fromkeys(_told(outcome) for outcome in refused)),
    )
    return f"| {' | '.join(cells)} |"


def _told(outcome: Outcome) -> str:
    """What is said of a model that does not work; of one that its own runtime refuses too, our own words."""
    text = outcome.detail.rpartition("; ours: ")[2] if outcome.verdict == BOTH else outcome.detail
    text = " ".join(text.replace("|", "/").split())
    marks = {REFUSED: "", BOTH: "by both: ", NOT_RUN: "not run: "}
    cut = text if len(text) <= _MAX_TOLD else f"{text[:_MAX_TOLD].rpartition(' ')[0]} ..."
    return marks.get(outcome.verdict, f"**{outcome.verdict}**: ") + cut
