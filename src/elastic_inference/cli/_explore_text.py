"""An exploration as a value that can be printed: the table of combinations, the verdict, what was written."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from elastic_inference.cli.exit_codes import ExitCode
from elastic_inference.cli.rendering import Block, Column, Table
from elastic_inference.explorer.article import Claim
from elastic_inference.explorer.reporting.result import Exploration, Row, remarks, rows, to_json, verdict
from elastic_inference.explorer.search_result import CellState

_CLAIM_COLUMNS = (
    Column("CLAIM OF THE ARTICLE", lambda c: c.text),
    Column("PUBLISHED", lambda c: c.published_text, ""),
    Column("COMPUTED", lambda c: c.computed_text, ""),
    Column("VERDICT", lambda c: "holds" if c.holds else "does not hold"),
)


@dataclass(frozen=True)
class Explored:
    """What `ei explore` found.

    Attributes:
        claims: The article's, where its measurements were analysed.
        files: What was written.
    """

    exploration: Exploration
    claims: Sequence[Claim] = ()
    files: Sequence[Path] = ()

    @property
    def exit_code(self) -> ExitCode:
        """Not met where no combination is named: none is fast enough, or none could be measured and priced."""
        return ExitCode.TARGET_NOT_MET if self.exploration.result.winner is None else ExitCode.OK

    def blocks(self) -> Iterable[Block]:
        """Show every combination by cost, skipped ones with the reason; then the verdict and its proof."""
        yield Table(_combination_columns(self.exploration), rows(self.exploration))
        if self.claims:
            yield ""
            yield Table(_CLAIM_COLUMNS, self.claims)
        yield ""
        yield verdict(self.exploration)
        yield f"{self.exploration.result.proof}."
        yield from (str(path) for path in self.files)

    def to_json(self) -> dict[str, Any]:
        """Give the whole exploration, as `measurements.json` has it."""
        claims = [asdict(claim) for claim in self.claims]
        more = {"remarks": remarks(self.exploration), "claims": claims, "files": list(self.files)}
        return to_json(self.exploration) | more


def _combination_columns(exploration: Exploration) -> list[Column]:
    has_rate = any(row.throughput_usd is not None for row in rows(exploration))
    demand = exploration.demand_per_second if has_rate else None
    columns = [
        Column("COMBINATION", lambda row: row.result.cell.name),
        Column("USD/HOUR", lambda row: row.result.usd_per_hour, "f"),
        Column("MEAN ms", _mean_ms, ".2f"),
    ]
    if exploration.percentile is not None:
        columns.append(Column(f"{exploration.target_name} ms", _target_ms, ".2f"))
    columns.append(Column("(a) USD/100K", lambda row: row.sequential_usd, ".4f"))
    if has_rate:
        columns.append(Column("(b) USD/100K", lambda row: row.throughput_usd, ".4f"))
    if demand is not None:
        columns.append(Column(f"(c) USD/100K at {demand:g}/s", lambda row: row.demand_usd, ".4f"))
    return [*columns, Column("", _remark)]


def _mean_ms(row: Row) -> float | None:
    return None if row.result.interval is None else row.result.interval.mean * 1000


def _target_ms(row: Row) -> float | None:
    seconds = row.result.target_latency_seconds
    return None if seconds is None else seconds * 1000


def _remark(row: Row) -> str:
    if row.result.state is CellState.MEASURED:
        return ", ".join(row.badges)
    return f"{row.result.state.value}: {row.result.reason}"


def say_warnings(exploration: Exploration, say: Callable[[str], None]) -> None:
    """Say beside the result what a reader must know of it."""
    count = len(remarks(exploration))
    if count:
        say(f"{count} remarks on single measurements are in the report")
    for warning in exploration.warnings:
        say(f"warning: {warning}")
