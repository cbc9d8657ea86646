"""What every benchmark shares: taking turns, medians with their spread, rows with a verdict, table and JSON.

A measurement here is always a comparison inside one run: contestants take turns, so that whatever the machine
does meanwhile hits all of them. Nothing here knows what is measured.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

import psutil

from elastic_inference.percentiles import percentile

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Summary:
    """Samples of one contestant, in the samples' own unit."""

    median: float
    p10: float
    p90: float
    count: int

    @classmethod
    def of(cls, samples: Sequence[float]) -> Summary:
        """Median, 10th and 90th percentile of at least one sample."""
        low, high = percentile(samples, 0.1), percentile(samples, 0.9)
        return cls(statistics.median(samples), low, high, len(samples))


def interleave(
    contestants: Mapping[str, Callable[[], Sequence[float]]],
    rounds: int,
    progress: Callable[[str], None] = lambda _: None,
) -> dict[str, list[list[float]]]:
    """Let the contestants take turns.

    Every second round goes backwards, so that nobody always runs after the same neighbour.

    Args:
        contestants: name -> one turn; it warms up by itself and returns its samples.
        rounds: Turns of each.
        progress: Called with a line before each round.

    Returns:
        name -> one list of samples per round.
    """
    taken: dict[str, list[list[float]]] = {name: [] for name in contestants}
    for index in range(rounds):
        progress(f"round {index + 1} of {rounds}: {', '.join(contestants)}")
        order = list(contestants.items())
        for name, turn in order if index % 2 == 0 else reversed(order):
            taken[name].append(list(turn()))
    return taken


@dataclass(frozen=True)
class Ratio:
    """Ours over another's: the medians of all samples, and how the ratio spread from round to round."""

    median: float
    lowest_round: float
    highest_round: float

    @classmethod
    def of(cls, ours: Sequence[Sequence[float]], other: Sequence[Sequence[float]]) -> Ratio:
        """Compare the rounds of two contestants that took turns."""
        rounds = [statistics.median(a) / statistics.median(b) for a, b in zip(ours, other, strict=True)]
        return cls(statistics.median(flat(ours)) / statistics.median(flat(other)), min(rounds), max(rounds))


def flat(rounds: Iterable[Sequence[float]]) -> list[float]:
    """All samples of all rounds."""
    return [sample for one in rounds for sample in one]


@dataclass(frozen=True)
class Row:
    """One line of a benchmark's table.

    Attributes:
        measure: What was measured, with unit.
        ours, other: Figures as text, such as `1.36 ms (1.31-1.52)`.
        ratio: The figure to be judged.
        must, aim: Bounds on `ratio`, which has to stay below them if `is_upper`, else above. None: no bound.
        spread: Lowest and highest ratio of a round.
        detail: Whatever else belongs in the JSON, such as all summaries.
    """

    measure: str
    ours: str
    other: str
    ratio: float | None
    must: float | None = None
    aim: float | None = None
    is_upper: bool = True
    spread: tuple[float, float] | None = None
    detail: Mapping[str, Any] = field(default_factory=dict)

    @property
    def verdict(self) -> str:
        """`aim`, `met` or `MISSED`; `shown` for a row without bounds."""
        if self.ratio is None or self.must is None:
            return "shown"
        if self.aim is not None and self._holds(self.aim):
            return "aim"
        return "met" if self._holds(self.must) else "MISSED"

    def _holds(self, bound: float) -> bool:
        assert self.ratio is not None
        return self.ratio <= bound if self.is_upper else self.ratio >= bound

    def cells(self) -> tuple[str, ...]:
        """The row as the table shows it."""
        sign = "<=" if self.is_upper else ">="
        ratio = "" if self.ratio is None else f"{self.ratio:.3g}"
        if self.spread is not None:
            ratio += f" ({self.spread[0]:.3g}-{self.spread[1]:.3g})"
        bounds = ["" if bound is None else f"{sign} {bound:g}" for bound in (self.must, self.aim)]
        return (self.measure, self.ours, self.other, ratio, *bounds, self.verdict)


HEADINGS = ("measure", "ours", "other", "ratio", "must", "aim", "verdict")


def table(rows: Sequence[Row], headings: Sequence[str] = HEADINGS) -> str:
    """The rows as a Markdown table that also lines up in a terminal."""
    lines = [tuple(headings), *(row.cells() for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(headings))]
    texts = [
        " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in lines
    ]
    texts.insert(1, "-|-".join("-" * width for width in widths))
    return "\n".join(f"| {text} |" if index != 1 else f"|-{text}-|" for index, text in enumerate(texts))


def milliseconds(samples_ns: Sequence[float]) -> str:
    """Nanoseconds as `median ms (p10-p90)`."""
    summary = Summary.of([sample / 1e6 for sample in samples_ns])
    return f"{summary.median:.3g} ms ({summary.p10:.3g}-{summary.p90:.3g})"


def describe_machine(distributions: Iterable[str] = ()) -> dict[str, Any]:
    """What a reader needs to repeat a figure: machine, kernel, versions, commit and command."""
    return {
        "cpu": _cpu_name(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in ("numpy", "elastic-inference", *distributions)},
        "commit": _git("rev-parse", "--short=12", "HEAD"),
        "has_uncommitted_changes": bool(_git("status", "--porcelain", "--untracked-files=no", "src")),
        "load_average_1min": os.getloadavg()[0],
        "command": " ".join(["python", "-m", "benchmarks", *sys.argv[1:]]),
    }


class Bystanders:
    """How much of the machine others used meanwhile: figures from a busy machine are not measurements."""

    def __init__(self) -> None:
        self._start = self._look()

    def share(self) -> float:
        """0..1 of all cores since the start, by processes that are not this one's, nor ended children of it."""
        busy, own, elapsed = (now - then for now, then in zip(self._look(), self._start, strict=True))
        return max(0.0, (busy - own) / (elapsed * (os.cpu_count() or 1)))

    @staticmethod
    def _look() -> tuple[float, float, float]:
        fields = [int(field) for field in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
        busy = (sum(fields) - fields[3] - fields[4]) / os.sysconf(
            "SC_CLK_TCK"
        )  # without idle and waiting for disks
        times = os.times()
        return busy, sum(times[:4]), time.monotonic()


def take_the_machine() -> None:
    """Let this process and its accelerators go before all others.

    Engines that give each thread an equal part, as OpenVINO does, suffer more from others than those that do not.
    """
    own = psutil.Process()
    for process in (own, *own.children(recursive=True)):
        priority = (
            "6" if process == own else "5"
        )  # a client that is answered need not wait until engines stop spinning
        subprocess.run(["chrt", "--all-tasks", "--fifo", "--pid", priority, str(process.pid)], check=True)


def write_json(path: str | Path, rows: Sequence[Row], machine: Mapping[str, Any], **more: Any) -> None:
    """Write machine and rows (with verdict and detail) as one JSON object."""
    value = {"machine": machine, "rows": [{**asdict(row), "verdict": row.verdict} for row in rows], **more}
    Path(path).write_text(json.dumps(value, indent=1, default=str) + "\n")


def shared_asset(relative: str) -> Path | None:
    """A large asset that the repository does not hold (EI_SHARED, or `shared` beside the checkout); None: absent."""
    path = Path(os.environ.get("EI_SHARED", ROOT.parent / "shared")) / relative
    return path if path.exists() else None


def _cpu_name() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.machine()


def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip()
