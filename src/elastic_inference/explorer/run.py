"""One exploration from start to end: choose a cell, measure it or recall it, keep it, judge."""

from __future__ import annotations

import hashlib
import os
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import fmean
from typing import Any

from elastic_inference.client.accelerator import Accelerator, Attach, HostAccess, Local
from elastic_inference.client.load_options import LoadOptions
from elastic_inference.engines import registry
from elastic_inference.errors import InvalidInput
from elastic_inference.explorer.analysis import old_price_warnings, prices_of
from elastic_inference.explorer.grid import Grid
from elastic_inference.explorer.measuring.in_process import RunTask
from elastic_inference.explorer.measuring.journal import NAME as JOURNAL_NAME
from elastic_inference.explorer.measuring.journal import Journal
from elastic_inference.explorer.measuring.task import INVALID, Outcome, Task
from elastic_inference.explorer.observation import Observation
from elastic_inference.explorer.reporting.result import Detail, Exploration
from elastic_inference.explorer.search import find_cheapest, rank
from elastic_inference.explorer.search_result import CellState, SearchOptions, SearchResult
from elastic_inference.explorer.space import Cell, space_of
from elastic_inference.explorer.walk_back import smallest_first, walk_back
from elastic_inference.models.package import ModelPackage

FINALIST_LOADS = (0.5, 0.7, 0.9)
_RUNS_BEFORE_CURVE = 10  # the mean is known already; these only set the rates
NUM_FINALISTS = 3


@dataclass(frozen=True)
class Event:
    """For progress: a run begins or ended.

    Attributes:
        num_measured: Cells measured so far. num_cells: All of them; most are usually skipped.
        seconds_left: A guess at the time to the end if every undecided cell had to be measured.
    """

    cell: Cell
    is_done: bool
    num_measured: int
    num_cells: int
    seconds_left: float | None = None
    outcome: Outcome | None = None


@dataclass(frozen=True)
class Plan:
    """What to explore and how.

    Attributes:
        model: Path of the model.
        input: See `Task.input`.
        load: How every cell loads the model, but for its precision.
        host: That gives accelerators; None where there is none.
        has_curves: Whether the finalists' throughput is measured, for costs (b) and (c).
        demand_per_second: For cost (c).
        is_walk_back: Whether to go the article's way instead, for comparison; it proves nothing.
    """

    model: str
    input: str
    grid: Grid
    options: SearchOptions
    load: LoadOptions = field(default_factory=LoadOptions)
    host: HostAccess | None = None
    percentile: float | None = None
    demand_per_second: float | None = None
    has_curves: bool = True
    is_walk_back: bool = False
    max_seconds: float = 60.0
    command: str = ""

    def task(self, cell: Cell) -> Task:
        """Return what a measuring process is told for a cell."""
        place: Accelerator = Local()
        if cell.accelerator is not None:
            place = Attach(cell.accelerator, self.host or HostAccess())
        return Task(
            cell,
            self.model,
            self.input,
            place,
            replace(self.load, precision=cell.precision, warm_up=False),
            self.grid.client(cell.client).cores,
            self.percentile,
            self.options.target_latency_seconds,
            max_seconds=self.max_seconds,
        )

    def question(self) -> dict[str, Any]:
        """Return what makes a journal's runs answers to this exploration; grid and prices do not matter to that."""
        return {
            "model": ModelPackage.read(self.model).content_hash,
            "input": _content(self.input),
            "predictor": {"engine": self.load.engine},
            "host": self.host and self.host.url,
            "target_latency_seconds": self.options.target_latency_seconds,
            "percentile": self.percentile,
            "machine": platform.node(),
        }


def _content(text: str) -> str:
    """Return an input file by what it holds, made-up input by its shape."""
    path = Path(text)
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else text


def explore(
    plan: Plan,
    directory: Path,
    run_task: RunTask,
    on_event: Callable[[Event], None] = lambda _: None,
) -> Exploration:
    """Explore, resuming what the directory's journal holds.

    Args:
        run_task: Measures one cell; `measure.run_in_process`, or one that sends it to a client elsewhere.
        on_event: Called before and after each run.

    Raises:
        InvalidInput: The model cannot be read, or the journal is of another exploration.
        KeyboardInterrupt: As it came; what is measured is kept.
    """
    with Journal(directory / JOURNAL_NAME, plan.question()) as journal:
        session = _Session(plan, journal, run_task, on_event)
        result = session.search()
        curves = session.curves(result) if plan.has_curves else {}
        return _exploration(plan, result, journal, curves)


class _Session:
    def __init__(
        self, plan: Plan, journal: Journal, run_task: RunTask, on_event: Callable[[Event], None]
    ) -> None:
        self.plan, self.journal, self.run_task, self.on_event = plan, journal, run_task, on_event
        self.num_seen: dict[Cell, int] = {}
        self.run_seconds: list[float] = []

    def search(self) -> SearchResult:
        space = space_of(self.plan.grid.cells, self.plan.grid.prices)
        if not self.plan.is_walk_back:
            return find_cheapest(space, self._observe, self.plan.options)
        clients, accelerators = smallest_first(space, self.plan.grid.prices)
        if not accelerators:
            raise InvalidInput("walk-back needs a host's accelerators to walk back from")
        target = self.plan.options.target_latency_seconds
        way = walk_back(space, clients, accelerators, self._observe, target)
        runs = {cell: [run.observation for run in self.journal.runs(cell)] for cell in way.measured}
        return rank(space, runs, self.plan.options)

    def _observe(self, cell: Cell) -> Observation:
        """Return the next run of a cell: from the journal where it holds one, else measured."""
        number = self.num_seen.get(cell, 0)
        self.num_seen[cell] = number + 1
        known = self.journal.runs(cell)
        if number < len(known):
            return known[number].observation
        task = self.plan.task(cell)
        outcome = self._measure(cell, task)
        if outcome.observation.problem.startswith(INVALID):
            outcome = self._measure(
                cell, task
            )  # a busy moment of this machine looks the same; twice is no chance
        self.journal.add(cell, outcome)
        return outcome.observation

    def _measure(self, cell: Cell, task: Task) -> Outcome:
        self._tell(cell, None)
        start = time.monotonic()
        outcome = self.run_task(task)
        self.run_seconds.append(time.monotonic() - start)
        self._tell(cell, outcome)
        return outcome

    def _tell(self, cell: Cell, outcome: Outcome | None) -> None:
        num_cells, num_done = len(self.plan.grid.cells), len(self.num_seen)
        left = None
        if self.run_seconds:
            budget = self.plan.options.budget
            most = num_cells if budget is None else min(budget, num_cells)
            left = max(0, most - num_done + (outcome is None)) * fmean(self.run_seconds)
        self.on_event(Event(cell, outcome is not None, num_done, num_cells, left, outcome))

    def curves(self, result: SearchResult) -> dict[Cell, Outcome]:
        """Throughput of the cheapest few that meet the target; kept in the journal under names of their own."""
        feasible = [r for r in result.cells.values() if r.state is CellState.MEASURED and r.is_feasible]
        finalists = sorted(feasible, key=lambda r: r.usd_per_100k or 0)[:NUM_FINALISTS]
        found = {}
        for one in finalists:
            key = Cell(one.cell.client, one.cell.accelerator, f"{one.cell.precision} throughput")
            known = self.journal.runs(key)
            if not known:
                task = replace(
                    self.plan.task(one.cell),
                    percentile=None,
                    loads=FINALIST_LOADS,
                    max_runs=_RUNS_BEFORE_CURVE,
                )
                # The curve is about the same percentile as the target, whose own run is not needed again.
                known = [self._measure(one.cell, replace(task, curve_percentile=self.plan.percentile))]
                self.journal.add(key, known[0])
            found[one.cell] = known[0]
        return found


def _exploration(
    plan: Plan, result: SearchResult, journal: Journal, curves: Mapping[Cell, Outcome]
) -> Exploration:
    details: dict[Cell, Detail] = {}
    for cell in plan.grid.cells:
        runs = journal.runs(cell)
        if runs:
            curve = curves[cell].detail.curve if cell in curves else ()
            notes = [note for run in runs for note in run.detail.notes]
            details[cell] = replace(runs[0].detail, curve=curve, notes=tuple(dict.fromkeys(notes)))
    used = prices_of(plan.grid.cells, plan.grid.prices)
    warnings = [*plan.grid.warnings, *old_price_warnings(used, date.today())]
    return Exploration(
        f"{Path(plan.model).name}, input {plan.input}",
        result,
        used,
        details,
        plan.percentile,
        plan.demand_per_second,
        _facts(plan, journal),
        tuple(warnings),
        plan.command,
    )


def _facts(plan: Plan, journal: Journal) -> dict[str, str]:
    package = ModelPackage.read(plan.model)
    facts = {
        "Measured on": f"{platform.node()}, {_processor()}, {os.cpu_count()} cores, {platform.system()} "
        f"{platform.release()}",
        "Finished": datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        "Model": f"{Path(plan.model).name}, {package.size_bytes / 2**20:.1f} MiB, {package.content_hash[:16]}",
        "Host": (plan.host and plan.host.url) or "none",
        "Versions": f"Python {platform.python_version()}, " + ", ".join(_versions()),
    }
    for cell in plan.grid.cells:
        for run in journal.runs(cell)[:1]:
            facts[f"In force, {cell.name}"] = _in_force(run.report)
    return {name: value for name, value in facts.items() if value}


def _in_force(report: Mapping[str, Any]) -> str:
    if not report:
        return ""
    text = (
        f"{report['engine']} {report['engine_version']}, {report['precision']}, threads: {report['num_threads']}, "
        f"{report['transport']}"
    )
    limits = "; ".join(f"{name}: {limit}" for name, limit in report.get("limits", {}).items())
    return f"{text}; {limits}" if limits else text


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _versions() -> Sequence[str]:
    found = []
    libraries = [name for engine in registry.engines() for name in engine.distributions]
    for name in ("elastic-inference", *libraries, "numpy"):
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            continue
    return found


def journal_result(plan: Plan, directory: Path) -> Exploration:
    """Judge what an interrupted exploration measured, without measuring more."""
    with Journal(directory / JOURNAL_NAME, plan.question()) as journal:
        runs = {cell: [run.observation for run in journal.runs(cell)] for cell in plan.grid.cells}
        space = space_of(plan.grid.cells, plan.grid.prices)
        return _exploration(plan, rank(space, runs, plan.options), journal, {})
