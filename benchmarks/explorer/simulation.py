"""How often each search method names the right winner, and after how many runs, on random grids with known truth.

Run: python -m benchmarks.explorer.simulation [--grids 200] [--seed 1] [--repeats 400] [-o simulation.json]

A grid has clients and accelerators of doubling size. Its true latency is a fixed part, a client part that
shrinks with the client and a device part that shrinks with the accelerator, each with its own exponent (1 would
be perfect scaling), and every cell departs from that by up to 2%. A run of a cell gives the truth with 1.5%
normal noise. Prices rise with size (monotone) or are also multiplied by log-normal factors of 35% (not monotone).
A third of the grids have no latency target; the others draw one between the fastest cell and the 90th percentile.

Columns: exact: the named winner is the true one; or tie: or the answer calls the true one a tie or too near the
target to call; <=5%: the named one truly costs at most 5% more and misses the target by at most 5%; or told: or
the answer says so, as with ties; worst: the greatest excess; cells and runs: medians, runs with repeats; max: most
runs; share: cells of all cells.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import shlex
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from decimal import Decimal
from functools import partial
from pathlib import Path

from elastic_inference.explorer.observation import Observation
from elastic_inference.explorer.search import find_cheapest
from elastic_inference.explorer.search_result import SearchOptions
from elastic_inference.explorer.space import Cell, Space
from elastic_inference.explorer.walk_back import walk_back

SIZES = ((4, 3), (6, 7), (8, 8))
NOISE_SHARE = 0.015
CELL_SHARE = 0.02


@dataclass
class Grid:
    """One simulated market: its space, the true latency of each cell, and the target."""

    space: Space
    clients: list[str]
    accelerators: list[str]
    latency_seconds: dict[Cell, float]
    target_seconds: float | None
    noise: random.Random
    runs: int = 0

    def measure(self, cell: Cell) -> Observation:
        self.runs += 1
        return Observation(self.latency_seconds[cell] * self.noise.gauss(1.0, NOISE_SHARE))

    def cost(self, cell: Cell) -> float:
        return float(self.space.usd_per_hour[cell]) * self.latency_seconds[cell]

    def is_feasible(self, cell: Cell) -> bool:
        return self.target_seconds is None or self.latency_seconds[cell] <= self.target_seconds

    def winner(self) -> Cell | None:
        return min((c for c in self.space.cells if self.is_feasible(c)), key=self.cost, default=None)


@dataclass(frozen=True)
class Answer:
    """What a method named, and whether it called the truth a tie with it."""

    winner: Cell | None
    ties: tuple[Cell, ...] = ()
    cells: int = 0


def make_grid(num_clients: int, num_accelerators: int, monotone: bool, seed: int) -> Grid:
    chance = random.Random(seed)
    clients = [f"c{i}" for i in range(num_clients)]
    accelerators = [f"a{j}" for j in range(num_accelerators)]
    client_size = {name: 2.0**i for i, name in enumerate(clients)}
    accelerator_size = {name: 2.0**j for j, name in enumerate(accelerators)}
    fixed, client_part = chance.uniform(0, 0.05), chance.choice([0.0, 0.02, 0.1, 0.3]) * chance.random()
    device_part = chance.uniform(0.3, 2.0)
    client_power, device_power = chance.uniform(0.5, 1.0), chance.uniform(0.5, 1.0)
    client_usd = {n: 0.1 * s ** chance.uniform(0.8, 1.0) for n, s in client_size.items()}
    device_rate = chance.uniform(0.05, 0.3)
    device_usd = {n: device_rate * s ** chance.uniform(0.8, 1.0) for n, s in accelerator_size.items()}
    if not monotone:
        for usd in (client_usd, device_usd):
            for name in usd:
                usd[name] *= chance.lognormvariate(0, 0.35)
    cells = tuple(Cell(c, a) for c in clients for a in accelerators)
    latency = {
        cell: (
            fixed
            + client_part / client_size[cell.client] ** client_power
            + device_part / accelerator_size[str(cell.accelerator)] ** device_power
        )
        * chance.uniform(1 - CELL_SHARE, 1 + CELL_SHARE)
        for cell in cells
    }
    space = Space(
        cells,
        {c: Decimal(str(round(client_usd[c.client] + device_usd[str(c.accelerator)], 4))) for c in cells},
        lambda a, b: (
            client_size[a.client] >= client_size[b.client]
            and accelerator_size[str(a.accelerator)] >= accelerator_size[str(b.accelerator)]
        ),
        lambda c: (
            1.0,
            1 / client_size[c.client],
            client_size[c.client] ** -0.5,
            1 / accelerator_size[str(c.accelerator)],
            accelerator_size[str(c.accelerator)] ** -0.5,
        ),
        (0.1, 0.5, 0.5, 4.0, 4.0),  # as `space_of` gives it
    )
    target = None
    if chance.random() > 1 / 3:
        ordered = sorted(latency.values())
        target = chance.uniform(ordered[0], ordered[int(0.9 * (len(ordered) - 1))])
    return Grid(space, clients, accelerators, latency, target, random.Random(seed + 1))


def ours(repeats: int, grid: Grid, _seed: int) -> Answer:
    options = SearchOptions(target_latency_seconds=grid.target_seconds, repeats=repeats)
    result = find_cheapest(grid.space, grid.measure, options)
    return Answer(result.winner, (*result.ties, *result.doubtful), result.num_measured)


def brute_force(grid: Grid, _seed: int) -> Answer:
    seen = {cell: grid.measure(cell).latency_seconds or math.nan for cell in grid.space.cells}
    return Answer(_cheapest(grid, seen), cells=len(seen))


def walk(grid: Grid, _seed: int) -> Answer:
    result = walk_back(grid.space, grid.clients, grid.accelerators, grid.measure, grid.target_seconds)
    return Answer(result.winner, cells=len(result.measured))


def tpe(share: float, grid: Grid, seed: int) -> Answer:
    """Optuna's TPE over the two names, a missed target as a constraint, with trials for this share of cells."""
    import optuna

    trials = round(share * len(grid.space.cells))
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    seen: dict[Cell, float] = {}

    def objective(trial: optuna.Trial) -> float:
        cell = Cell(
            trial.suggest_categorical("client", grid.clients),
            trial.suggest_categorical("accelerator", grid.accelerators),
        )
        latency = grid.measure(cell).latency_seconds or math.nan
        seen.setdefault(cell, latency)
        excess = 0.0 if grid.target_seconds is None else latency - grid.target_seconds
        trial.set_user_attr("excess", [excess])
        return float(grid.space.usd_per_hour[cell]) * latency

    sampler = optuna.samplers.TPESampler(
        seed=seed, constraints_func=lambda trial: trial.user_attrs["excess"], n_startup_trials=min(5, trials)
    )
    study = optuna.create_study(sampler=sampler)
    study.optimize(objective, n_trials=trials)
    return Answer(_cheapest(grid, seen), cells=len(seen))


def _cheapest(grid: Grid, seen: dict[Cell, float]) -> Cell | None:
    target = grid.target_seconds or math.inf
    return min(
        (c for c in seen if seen[c] <= target),
        key=lambda c: float(grid.space.usd_per_hour[c]) * seen[c],
        default=None,
    )


@dataclass
class Row:
    """One line of the table: a method on all grids of one size and kind of prices."""

    method: str
    grid: str
    prices: str
    grids: int
    exact_share: float
    exact_or_tie_share: float
    within_5_percent_share: float
    within_5_percent_or_told_share: float
    worst_excess_share: float | None  # None: no answer where there is one
    median_cells: float
    median_runs: float
    max_runs: int
    median_share_of_cells: float


def excess(grid: Grid, answer: Answer) -> float:
    """How much more the answer truly costs than the true winner, or how far it truly misses the target if more.

    No answer where there is one, or an answer where there is none by more than the miss itself, counts as inf.
    """
    truth = grid.winner()
    if answer.winner is None:
        return 0.0 if truth is None else math.inf
    target = grid.target_seconds or math.inf
    miss = max(0.0, grid.latency_seconds[answer.winner] / target - 1)
    if truth is None:
        return miss
    return max(miss, grid.cost(answer.winner) / grid.cost(truth) - 1)


Solve = Callable[[Grid, int], Answer]


def run(method: str, solve: Solve, size: tuple[int, int], monotone: bool, num: int, seed: int) -> Row:
    exact = tied = near = told = 0
    worst = 0.0
    cells: list[int] = []
    runs: list[int] = []
    for number in range(num):
        grid_seed = seed * 1_000_003 + number * 17 + size[0] * 100_000_007 + monotone
        grid = make_grid(*size, monotone, grid_seed)
        answer = solve(grid, grid_seed)
        truth = grid.winner()
        exact += answer.winner == truth
        tied += answer.winner == truth or truth in answer.ties
        much = excess(grid, answer)
        near += much <= 0.05
        told += much <= 0.05 or truth in answer.ties
        worst = max(worst, much)
        cells.append(answer.cells)
        runs.append(grid.runs)
    total = size[0] * size[1]
    return Row(
        method, f"{size[0]}x{size[1]}", "monotone" if monotone else "not monotone", num,
        exact / num, tied / num, near / num, told / num, worst if math.isfinite(worst) else None,
        statistics.median(cells), statistics.median(runs), max(runs), statistics.median(cells) / total,
    )  # fmt: skip


COLUMNS = ("exact", "or tie", "<=5%", "or told", "worst", "cells", "runs", "max", "share", "s")
HEAD = f"{'method':26} {'grid':4} {'prices':13}" + "".join(f" {name:>7}" for name in COLUMNS)


def line(row: Row) -> str:
    shares = (
        row.exact_share,
        row.exact_or_tie_share,
        row.within_5_percent_share,
        row.within_5_percent_or_told_share,
        row.worst_excess_share,
    )
    counts = (
        f" {row.median_cells:7.1f} {row.median_runs:7.1f} {row.max_runs:7d} {row.median_share_of_cells:7.1%}"
    )
    return (
        f"{row.method:26} {row.grid:4} {row.prices:13}"
        + "".join("    none" if share is None else f" {share:7.1%}" for share in shares)
        + counts
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--grids", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=400, help="runs of what could win, at most")
    parser.add_argument("--no-tpe", action="store_true")
    parser.add_argument("-o", "--output", type=Path)
    arguments = parser.parse_args()
    methods: dict[str, Solve] = {
        "ours": partial(ours, arguments.repeats),
        "ours, at most 12 repeats": partial(ours, 12),
        "ours, no repeats": partial(ours, 1),
        "brute force": brute_force,
        "walk-back": walk,
    }
    if not arguments.no_tpe:
        for share in (0.2, 1.0):
            methods[f"Optuna TPE, {share:.0%} trials"] = partial(tpe, share)
    rows = []
    print(HEAD)
    for method, solve in methods.items():
        for size in SIZES:
            for monotone in (True, False):
                begin = time.monotonic()
                row = run(method, solve, size, monotone, arguments.grids, arguments.seed)
                rows.append(row)
                print(line(row), f"{time.monotonic() - begin:7.1f}", flush=True)
    if arguments.output is not None:
        record = {
            "command": shlex.join(["python", "-m", "benchmarks.explorer.simulation", *sys.argv[1:]]),
            "grids": arguments.grids,
            "seed": arguments.seed,
            "noise_share": NOISE_SHARE,
            "repeats": arguments.repeats,
            "rows": [asdict(row) for row in rows],
        }
        arguments.output.write_text(json.dumps(record, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
