"""Find the cheapest combination that meets the target with few measurements, and prove it. Pure.

Measuring is an argument; time, files and chance do not occur here. The only assumption is the one that the
proof states: a combination that is at least as capable is at most `slack_share` slower. From each measured cell
follows a lower bound on the latency of all weaker ones; a cell whose bound misses the target, or costs more than
the best measured one, need not be measured.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from statistics import fmean

import numpy as np

from elastic_inference.explorer.cost import sequential_usd
from elastic_inference.explorer.cost_model import predict_latencies
from elastic_inference.explorer.observation import Measure, Observation
from elastic_inference.explorer.search_result import CellResult, CellState, SearchOptions, SearchResult
from elastic_inference.explorer.space import Cell, Space
from elastic_inference.explorer.statistics import Interval, pooled_intervals

MIN_RUNS_NEAR_TARGET = 3


def find_cheapest(space: Space, measure: Measure, options: SearchOptions | None = None) -> SearchResult:
    """Measure until every cell is measured or excluded, and repeat the best until they part or are a tie."""
    state = _Search(space, options or SearchOptions())
    while True:
        while (cell := state.next_probe()) is not None:
            state.add(cell, measure(cell))
        contenders = state.contenders()
        if not contenders:
            return state.result()
        for cell in contenders:  # by turns, so that a drift of the machine reaches both alike
            state.add(cell, measure(cell))


def rank(space: Space, runs: Mapping[Cell, Sequence[Observation]], options: SearchOptions) -> SearchResult:
    """Judge what is measured already, without measuring: the same verdict, intervals and reasons as `find_cheapest`."""
    most = max((len(found) for found in runs.values()), default=1)
    state = _Search(space, replace(options, repeats=max(1, most)))
    for cell, observations in runs.items():
        for observation in observations if cell in space.usd_per_hour else ():
            state.add(cell, observation)
    return state.result()


class _Search:
    """What is known so far. Arrays run over priced cells; index i is `self.cells[i]`."""

    def __init__(self, space: Space, options: SearchOptions) -> None:
        self.space, self.options = space, options
        self.cells = [cell for cell in space.cells if cell in space.usd_per_hour]
        size = len(self.cells)
        self.index = {cell: i for i, cell in enumerate(self.cells)}
        self.price = np.array([float(space.usd_per_hour[cell]) for cell in self.cells])
        # dominates[i, j]: i is at least as capable as j, so j is not much faster than i.
        self.dominates = np.array(
            [[space.is_at_least(a, b) for b in self.cells] for a in self.cells], dtype=bool
        ).reshape(size, size)
        self.features = np.array([list(space.features(cell)) for cell in self.cells], dtype=np.float64)
        self.latencies: list[list[float]] = [[] for _ in range(size)]
        self.first_intervals: list[Interval | None] = [None] * size
        self.target_latencies: list[list[float]] = [[] for _ in range(size)]
        self.problems: dict[int, str] = {}
        self.order: list[Cell] = []
        self.num_runs = 0

    def add(self, cell: Cell, observation: Observation) -> None:
        i = self.index[cell]
        self.num_runs += 1
        if cell not in self.order:
            self.order.append(cell)
        latency = observation.latency_seconds
        if observation.problem or latency is None:
            self.problems[i] = observation.problem
            return
        if not self.latencies[i]:
            self.first_intervals[i] = observation.interval
        self.latencies[i].append(latency)
        self.target_latencies[i].append(observation.target_latency_seconds or latency)

    @property
    def valid(self) -> list[int]:
        """Measured cells; one bad run makes a cell unusable, since its other runs may be wrong too."""
        return [i for i in range(len(self.cells)) if self.latencies[i] and i not in self.problems]

    def mean(self, i: int) -> float:
        return fmean(self.latencies[i])

    def target_mean(self, i: int) -> float:
        return fmean(self.target_latencies[i])

    def is_feasible(self, i: int) -> bool:
        target = self.options.target_latency_seconds
        return target is None or self.target_mean(i) <= target

    def cost(self, i: int) -> float:
        return float(self.price[i]) * self.mean(i)

    def best(self) -> int | None:
        def rank(i: int) -> tuple[float, float]:
            return self.cost(i), self.target_mean(
                i
            )  # among those that cost the same, such as nothing, the quickest

        return min((i for i in self.valid if self.is_feasible(i)), key=rank, default=None)

    def bounds(self, of_target: bool) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
        """Return the latency that each cell cannot undercut, from all measured cells that are as capable."""
        bound = np.zeros(len(self.cells))
        for i in self.valid:
            latency = self.target_mean(i) if of_target else self.mean(i)
            weaker = self.dominates[i]
            bound[weaker] = np.maximum(bound[weaker], latency / (1 + self.options.slack_share))
        return bound

    def undecided(self) -> list[int]:
        """Cells that are neither measured nor excluded."""
        done = {self.index[cell] for cell in self.order}
        open_cells = [i for i in range(len(self.cells)) if i not in done]
        if self.options.exhaustive:
            return open_cells
        best = self.best()
        best_cost = math.inf if best is None else self.cost(best)
        target = self.options.target_latency_seconds or math.inf
        bound, target_bound = self.bounds(False), self.bounds(True)
        return [i for i in open_cells if target_bound[i] <= target and self.price[i] * bound[i] < best_cost]

    def next_probe(self) -> Cell | None:
        """Return the cell whose measurement should exclude most others, if the cost model guesses its latency well."""
        budget = self.options.budget
        candidates = self.undecided()
        if not candidates or (budget is not None and len(self.order) >= budget):
            return None
        if self.options.exhaustive:
            return self.cells[candidates[0]]
        if not self.valid:  # The most capable first: it bounds most, and tells whether the target can be met.
            return self.cells[max(candidates, key=lambda i: (int(self.dominates[i].sum()), -self.price[i]))]
        valid = self.valid
        guess = predict_latencies(self.features, valid, [self.mean(i) for i in valid], self.space.prior)
        ratio = max(self.target_mean(i) / self.mean(i) for i in valid)
        target = self.options.target_latency_seconds or math.inf
        best = self.best()
        best_cost = math.inf if best is None else self.cost(best)
        bound = self.bounds(False)

        def remaining(i: int) -> tuple[int, float]:
            cost = self.price[i] * guess[i] if guess[i] * ratio <= target else math.inf
            raised = np.where(
                self.dominates[i], np.maximum(bound, guess[i] / (1 + self.options.slack_share)), bound
            )
            left = (raised * ratio <= target) & (self.price * raised < min(best_cost, cost))
            return sum(bool(left[j]) for j in candidates if j != i), float(self.price[i] * guess[i])

        return self.cells[min(candidates, key=remaining)]

    def contenders(self) -> list[Cell]:
        """Whom to repeat next: the best and its strongest rival that may still be repeated; none when all is clear.

        The strongest is the one that could cost least. Those behind it are repeated only if they come to the
        front, so runs go where they decide.
        """
        best, costs = self.best(), self.cost_intervals()
        rivals = [i for i in self._rivals(best) if len(self.latencies[i]) < self.options.repeats]
        if not rivals:
            return []
        rival = min(rivals, key=lambda i: (costs[i].low, len(self.latencies[i]), self.cost(i)))
        pair = [rival] if best is None or best == rival else [best, rival]
        most = len(self.latencies[rival])
        return [self.cells[i] for i in pair if len(self.latencies[i]) <= most]

    def _rivals(self, best: int | None) -> list[int]:
        """Cells that could be the winner instead: costs overlap, or the side of the target is open."""
        costs = self.cost_intervals()
        limit = math.inf if best is None else self.cost(best) * (1 + self.options.slack_share)
        rivals = self.doubtful(best)
        for i in self.valid:
            is_near = i != best and i not in rivals and self.is_feasible(i) and self.cost(i) <= limit
            if is_near and best is not None and costs[best].overlaps(costs[i]):
                rivals.append(i)
        return rivals

    def doubtful(self, best: int | None) -> list[int]:
        """Return the best and cheaper cells that lie so near the target that their side of it is open."""
        target = self.options.target_latency_seconds
        if target is None:
            return []
        tails = pooled_intervals(self.target_latencies, self.options.confidence)
        limit = math.inf if best is None else self.cost(best)
        doubtful = []
        for i in self.valid:
            is_near = abs(self.target_mean(i) / target - 1) <= self.options.slack_share
            # One run says little: chance alone can put a cell on the wrong side by more than its interval.
            is_open = tails[i].low <= target <= tails[i].high or tails[i].count < MIN_RUNS_NEAR_TARGET
            if is_near and is_open and self.cost(i) <= limit:
                doubtful.append(i)
        return doubtful

    def latency_intervals(self) -> list[Interval]:
        """Of each measured cell's mean; of several runs where a cell has them, else from within its one run."""
        pooled = pooled_intervals(self.latencies, self.options.confidence)
        return [
            first if first is not None and len(self.latencies[i]) == 1 else pooled[i]
            for i, first in enumerate(self.first_intervals)
        ]

    def cost_intervals(self) -> list[Interval]:
        return [
            Interval(each.mean * price, each.low * price, each.high * price, each.count)
            for each, price in zip(self.latency_intervals(), self.price.tolist(), strict=True)
        ]

    def ties(self, best: int) -> list[int]:
        """Feasible cells whose cost interval overlaps that of the best; none where spreads are not known."""
        costs = self.cost_intervals()
        known = [i for i in self.valid if math.isfinite(costs[i].low) and self.is_feasible(i)]
        return [i for i in sorted(known, key=self.cost) if i != best and costs[best].overlaps(costs[i])]

    def result(self) -> SearchResult:
        best = self.best()
        ties = [] if best is None else self.ties(best)
        doubtful = [] if self.options.repeats <= 1 else self.doubtful(best)
        closest = min(self.valid, key=self.target_mean, default=None) if best is None else None
        undecided = {self.cells[i] for i in self.undecided()}
        return SearchResult(
            self.options,
            None if best is None else self.cells[best],
            tuple(self.cells[i] for i in ties),
            tuple(self.cells[i] for i in doubtful),
            None if closest is None else self.cells[closest],
            {cell: self._cell_result(cell, undecided) for cell in self.space.cells},
            self.num_runs,
            not undecided,
            tuple(self.order),
        )

    def _cell_result(self, cell: Cell, undecided: set[Cell]) -> CellResult:
        i = self.index.get(cell)
        if i is None:
            return CellResult(cell, CellState.NO_PRICE, self.space.missing.get(cell, "no price is known"))
        price = self.space.usd_per_hour[cell]
        if i in self.problems:
            return CellResult(cell, CellState.FAILED, self.problems[i], price)
        if self.latencies[i]:
            return self._measured_result(i, price)
        if cell in undecided:
            reason = "neither measured nor excluded: the budget ended, or the exploration was interrupted"
            return CellResult(cell, CellState.LEFT_OUT, reason, price)
        return self._skipped_result(i, price)

    def _measured_result(self, i: int, price: Decimal) -> CellResult:
        runs = len(self.latencies[i])
        reason = f"measured {runs} times" if runs > 1 else "measured once"
        return CellResult(
            self.cells[i],
            CellState.MEASURED,
            reason,
            price,
            interval=self.latency_intervals()[i],
            target_latency_seconds=self.target_mean(i),
            usd_per_100k=sequential_usd(price, self.mean(i)),
            is_feasible=self.is_feasible(i),
        )

    def _skipped_result(self, i: int, price: Decimal) -> CellResult:
        target = self.options.target_latency_seconds
        stronger = [j for j in self.valid if self.dominates[j, i]]
        if not stronger:  # no bound excludes it, so the winner's cost does: nothing is cheaper than nothing
            reason = "the winner costs 0 USD, and no other can cost less"
            return CellResult(self.cells[i], CellState.TOO_EXPENSIVE, reason, price)
        slack = 1 + self.options.slack_share
        slowest = max(stronger, key=self.target_mean)
        bound = self.target_mean(slowest) / slack
        if target is not None and bound > target:
            reason = (
                f"at least {bound * 1e3:.4g} ms, over the target of {target * 1e3:.4g} ms: "
                f"{self.cells[slowest].name}, more capable, takes {self.target_mean(slowest) * 1e3:.4g} ms"
            )
            return CellResult(
                self.cells[i],
                CellState.TOO_SLOW,
                reason,
                price,
                bound_seconds=bound,
                bound_by=self.cells[slowest],
            )
        slowest = max(stronger, key=self.mean)
        bound = self.mean(slowest) / slack
        least = sequential_usd(price, bound)
        reason = (
            f"at least {least:.4f} USD per 100,000, over the winner's: "
            f"{self.cells[slowest].name}, more capable, takes {self.mean(slowest) * 1e3:.4g} ms"
        )
        return CellResult(
            self.cells[i],
            CellState.TOO_EXPENSIVE,
            reason,
            price,
            bound_seconds=bound,
            bound_by=self.cells[slowest],
        )
