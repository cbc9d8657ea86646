"""One run of NVIDIA's perf_analyzer against a server."""

from __future__ import annotations

import csv
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from benchmarks.clients import environment
from benchmarks.clients.servers import MODEL, Served

FRAME_BYTES = 1920 * 1080 * 3


@dataclass(frozen=True)
class Case:
    """What perf_analyzer sends.

    Attributes:
        protocol: "http" or "grpc".
        size_bytes: Of a row; the answer is as large.
        concurrency: Requests at once.
        is_shared: Whether tensors go through system shared memory, both ways.
        batch_size: Rows of a request.
    """

    protocol: str
    size_bytes: int
    concurrency: int = 1
    is_shared: bool = False
    batch_size: int = 1

    def __str__(self) -> str:
        size = "frame" if self.size_bytes == FRAME_BYTES else f"{self.size_bytes // 1024} KB"
        shared = " in shared memory" if self.is_shared else ""
        rows = f", {self.batch_size} rows" if self.batch_size > 1 else ""
        return f"{self.protocol}: {size}{shared}{rows}, {self.concurrency} at once"


@dataclass(frozen=True)
class Measured:
    """What perf_analyzer says of one run, in which no request failed."""

    p50_seconds: float
    inferences_per_second: float


class PerfAnalyzerFailed(RuntimeError):
    """It ended with an error, or a request did; the text is the end of what it printed."""


def run(case: Case, served: Served, window_ms: int) -> Measured:
    """Measure one case in three windows; raises PerfAnalyzerFailed."""
    with tempfile.TemporaryDirectory() as folder:
        table = Path(folder) / "table.csv"
        command = [
            environment.PERF_ANALYZER, "-m", MODEL, "-i", case.protocol,
            "-u", served.http if case.protocol == "http" else served.grpc,
            "--shape", f"x:{case.size_bytes}", "-b", str(case.batch_size),
            "--concurrency-range", str(case.concurrency), "--percentile", "50",
            "-p", str(window_ms), "--max-trials", "10", "-s", "999", "-f", table,
        ]  # fmt: skip
        for header in served.headers:
            command += ["-H", header]
        if case.is_shared:
            num_bytes = case.size_bytes * case.batch_size
            command += ["--shared-memory", "system", "--output-shared-memory-size", str(num_bytes)]
        done = subprocess.run(
            command, capture_output=True, text=True, env=environment.environ(), check=False, timeout=300
        )
        if done.returncode or not table.exists():
            raise PerfAnalyzerFailed(f"{case} at {served.name}: {(done.stdout + done.stderr)[-1500:]}")
        (row,) = csv.DictReader(table.open())
        return Measured(float(row["p50 latency"]) * 1e-6, float(row["Inferences/Second"]))
