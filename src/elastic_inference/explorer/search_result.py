"""What a search is asked and what it answers: value objects only; the search itself is `search`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from enum import Enum

from elastic_inference.errors import InvalidInput
from elastic_inference.explorer.space import Cell
from elastic_inference.explorer.statistics import Interval


class CellState(Enum):
    """What became of a cell."""

    MEASURED = "measured"
    TOO_SLOW = "too slow"  # skipped: its lower bound misses the target
    TOO_EXPENSIVE = "too expensive"  # skipped: its lower bound costs more than the winner
    FAILED = "failed"  # measured without a valid result; no conclusion is drawn from it
    NO_PRICE = "no price"  # never measured, cannot be ranked
    LEFT_OUT = "left out"  # neither measured nor excluded when the exploration ended


@dataclass(frozen=True)
class CellResult:
    """One cell's outcome, with the reason in words.

    Attributes:
        interval: Of the latency for cost; None unless measured.
        target_latency_seconds: Mean over the runs; None unless measured.
        usd_per_100k: From the mean latency; None unless measured.
        bound_seconds: Skipped cells: the latency that it cannot undercut.
        bound_by: Skipped cells: the measured, more capable cell from which that follows.
    """

    cell: Cell
    state: CellState
    reason: str
    usd_per_hour: Decimal | None = None
    interval: Interval | None = None
    target_latency_seconds: float | None = None
    usd_per_100k: Decimal | None = None
    is_feasible: bool = False
    bound_seconds: float | None = None
    bound_by: Cell | None = None


@dataclass(frozen=True)
class SearchOptions:
    """How to search.

    Attributes:
        target_latency_seconds: None asks for the cheapest whatever its latency.
        slack_share: How much slower a more capable cell may be; covers noise and real exceptions.
        budget: Greatest number of cells to measure; None measures until the proof is complete.
        repeats: Runs of each cell that could be the cheapest, at most; 1 repeats none.
        exhaustive: Measure every cell.
        confidence: Of the intervals that decide what is a tie.
    """

    target_latency_seconds: float | None = None
    slack_share: float = 0.08
    budget: int | None = None
    repeats: int = 3
    exhaustive: bool = False
    confidence: float = 0.99

    def __post_init__(self) -> None:
        target = self.target_latency_seconds
        if target is not None and not 0 < target < math.inf:
            raise InvalidInput(f"target latency {target} s must be finite and above 0")
        if not 0 <= self.slack_share < 1:
            raise InvalidInput(f"slack_share {self.slack_share} must be 0 or more and below 1")
        if self.repeats < 1 or (self.budget is not None and self.budget < 1):
            raise InvalidInput(f"repeats {self.repeats} and budget {self.budget} must be 1 or more")


@dataclass(frozen=True)
class SearchResult:
    """Verdict and proof.

    Attributes:
        winner: The cheapest measured cell that meets the target; None where none does.
        ties: Others that meet it and whose cost interval overlaps the winner's, cheapest first.
        doubtful: The winner or cheaper cells whose interval holds the target, so that their side of it is open;
            only where runs are repeated.
        closest: Where there is no winner, the measured cell nearest to the target.
        cells: Every cell of the space.
        num_runs: Measurements, repeats included.
        is_complete: Whether every unmeasured cell is excluded by a bound.
        order: Cells as they were first measured.
    """

    options: SearchOptions
    winner: Cell | None
    ties: tuple[Cell, ...]
    doubtful: tuple[Cell, ...]
    closest: Cell | None
    cells: Mapping[Cell, CellResult]
    num_runs: int
    is_complete: bool
    order: tuple[Cell, ...] = ()

    @property
    def num_measured(self) -> int:
        """Cells with at least one valid measurement."""
        return sum(result.state is CellState.MEASURED for result in self.cells.values())

    @property
    def proof(self) -> str:
        """One sentence: what was measured and what would have to be true for another cell to win."""
        counted = f"{self.num_measured} of {len(self.cells)} combinations measured"
        undecided = sum(r.state is CellState.LEFT_OUT for r in self.cells.values())
        unusable = [r for r in self.cells.values() if r.state in (CellState.FAILED, CellState.NO_PRICE)]
        aside = f"; {len(unusable)} could not be measured or priced and are set aside" if unusable else ""
        if undecided:
            return f"{counted}; {undecided} are undecided, so a cheaper one may be among them{aside}"
        if self.num_measured + len(unusable) == len(self.cells):
            return f"{counted}{aside}"
        meets = "meet the target" if self.winner is None else "be cheaper"
        slack = f"{self.options.slack_share:.0%}"
        return f"{counted}; for any other to {meets}, a more capable one must be over {slack} slower{aside}"
