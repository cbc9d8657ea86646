"""`python -m benchmarks.gpu -o DIR [--device cuda:0] [--seconds 5] [--rows device,start,...]`: what a GPU gives.

Every row runs in a process of its own with a time limit. After each, DIR/rows.jsonl is longer and DIR/table.md is
written anew; a row that breaks is an error in the table and loses no other.
"""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import psutil

from benchmarks.common import ROOT, Row, describe_machine, table

# Seconds that each may take on a GPU; a row cut at its limit keeps what it said until then. The last is the longest.
LIMITS = {"device": 60, "start": 70, "frame": 130, "graphs": 40, "latency": 110, "faults": 75, "shares": 180}
GRACE_SECONDS = 10.0  # to give accelerators back after SIGTERM


def main() -> None:
    """Run what is asked for; the exit status says whether a row broke."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cuda:0", help="cpu:0 is a dry run with small models")
    parser.add_argument("--seconds", type=float, default=5.0, help="of each run under load")
    parser.add_argument("--rows", default=",".join(LIMITS), help=f"of {', '.join(LIMITS)}")
    parser.add_argument(
        "--limit", type=float, default=470.0, help="seconds for all; rows after it are skipped"
    )
    parser.add_argument(
        "--limits", default="best", help="as of `ei host start`; default the strongest that works"
    )
    parser.add_argument("-o", "--output", required=True, type=Path, help="folder of rows.jsonl and table.md")
    options = parser.parse_args()
    wanted = options.rows.split(",")
    if unknown := [name for name in wanted if name not in LIMITS]:
        raise SystemExit(f"--rows {unknown[0]!r} is not one of {', '.join(LIMITS)}")
    options.output.mkdir(parents=True, exist_ok=True)
    report = Report(options.output)
    end = time.monotonic() + options.limit
    with tempfile.TemporaryDirectory(prefix="gpu-check-models-") as models:
        _run_all(wanted, options, models, end, report)
    print(report.text())
    sys.exit(1 if report.is_broken else 0)


def _run_all(wanted: list[str], options: argparse.Namespace, models: str, end: float, report: Report) -> None:
    for name in wanted:
        left = end - time.monotonic()
        if left < GRACE_SECONDS:
            report.add(name, _broken(name, f"skipped: the {options.limit:g} s for all rows were over"))
            continue
        arguments = [options.device, str(options.seconds), models, options.limits]
        run(name, arguments, min(LIMITS[name], left), report)


class Report:
    """Rows as they come, on the disk at once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._rows: list[Row] = []
        self.is_broken = False
        self._write({"machine": describe_machine(["torch", "torchvision"])}, "w")

    def add(self, name: str, row: Row) -> None:
        """Write one more."""
        self._rows.append(row)
        self.is_broken |= "error" in row.detail
        self._write({"row": name, **asdict(row), "verdict": row.verdict}, "a")
        (self.folder / "table.md").write_text(self.text() + "\n")
        print(f"{name}: {row.measure}: {row.ours}", file=sys.stderr, flush=True)

    def text(self) -> str:
        """All rows so far as a table."""
        return table(self._rows)

    def _write(self, value: dict[str, Any], mode: str) -> None:
        with open(self.folder / "rows.jsonl", mode) as file:
            file.write(json.dumps(value, default=str) + "\n")


def run(name: str, arguments: list[str], limit_seconds: float, report: Report) -> None:
    """Run one row's process; whatever it started is gone afterwards."""
    started = time.monotonic()
    with open(report.folder / f"{name}.log", "wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.gpu.child", name, *arguments],
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            cwd=ROOT,
        )
    watched = _Watched(process, limit_seconds)
    for line in process.stdout or ():
        report.add(name, Row(**json.loads(line)))
    why = watched.end()
    if why is not None:
        tail = (report.folder / f"{name}.log").read_text(errors="replace").strip()[-1500:]
        report.add(name, _broken(name, f"{why} after {time.monotonic() - started:.0f} s", tail))


class _Watched:
    """A process with a time limit, whose offspring goes with it."""

    def __init__(self, process: subprocess.Popen[str], limit_seconds: float) -> None:
        self._process = process
        self._is_late = False
        self._timer = threading.Timer(limit_seconds, self._stop)
        self._timer.start()

    def _stop(self) -> None:
        self._is_late = True
        offspring = psutil.Process(self._process.pid).children(recursive=True)
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
        for one in offspring:
            try:
                one.kill()
            except psutil.NoSuchProcess:
                continue

    def end(self) -> str | None:
        """Wait for its end; why it broke, None where it did not."""
        status = self._process.wait()
        self._timer.cancel()
        if self._timer.is_alive():
            self._timer.join()
        if self._is_late:
            return "cut at its time limit"
        return None if status == 0 else f"ended with status {status}"


def _broken(name: str, why: str, log: str = "") -> Row:
    lines = [line for line in log.splitlines() if line.strip()]
    text = f"BROKEN: {why}" + (f": {lines[-1][:200]}" if lines else "")
    return Row(f"row {name}", text.replace("|", "/"), "", None, detail={"error": why, "log": log})


if __name__ == "__main__":
    main()
