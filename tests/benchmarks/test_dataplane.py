"""Each row of the data plane's benchmark runs, with few exchanges; how fast is not asked here."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from benchmarks.common import ROOT, Ratio, Row, Summary, interleave, table
from benchmarks.dataplane.contestant import Contestant, ContestantFailed
from benchmarks.dataplane.growth import slope
from benchmarks.dataplane.link import why_not

ROWS = ["loopback", "link", "pipeline", "growth", "overhead"]


@pytest.mark.parametrize("rows", ROWS)
def test_a_row_runs_and_is_written_down(rows: str, tmp_path: Path) -> None:
    if rows == "link" and (reason := why_not()):
        pytest.skip(f"a link of its own {reason}")
    result = tmp_path / "result.json"
    command = [
        "-m",
        "benchmarks.dataplane",
        "--quick",
        "--without-peers",
        "--rows",
        rows,
        "--json",
        str(result),
    ]
    done = subprocess.run(
        [sys.executable, *command], cwd=ROOT, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr[-3000:]
    written = json.loads(result.read_text())
    assert written["machine"]["cores"] >= 1
    assert written["rows"]
    for row in written["rows"]:
        assert row["ratio"] is None or row["ratio"] >= 0
        assert row["measure"] in done.stdout


def test_a_driver_that_cannot_start_says_why() -> None:
    with pytest.raises(ContestantFailed, match="invalid choice"), Contestant("ours", ["by pigeon"]):
        pass


def test_contestants_take_turns_in_changing_order() -> None:
    order: list[str] = []

    def turn(name: str) -> list[float]:
        order.append(name)
        return [1.0]

    taken = interleave({"a": lambda: turn("a"), "b": lambda: turn("b")}, rounds=3)
    assert order == ["a", "b", "b", "a", "a", "b"]
    assert taken == {"a": [[1.0]] * 3, "b": [[1.0]] * 3}


def test_figures_of_samples() -> None:
    assert Summary.of([4.0, 1.0, 3.0, 2.0]) == Summary(2.5, 1.0, 4.0, 4)
    assert Summary.of([float(n) for n in range(101)]) == Summary(50.0, 10.0, 90.0, 101)
    ratio = Ratio.of([[2.0, 2.0, 2.0], [9.0]], [[1.0, 1.0, 1.0], [3.0]])
    assert ratio == Ratio(median=2.0, lowest_round=2.0, highest_round=3.0)
    assert slope([0, 10, 20], [5, 25, 45]) == 2.0


@pytest.mark.parametrize(
    ("ratio", "is_upper", "verdict"),
    [
        (1.0, True, "aim"),
        (1.2, True, "met"),
        (1.4, True, "MISSED"),
        (1.4, False, "aim"),
        (None, True, "shown"),
    ],
)
def test_the_verdict_follows_the_bounds(ratio: float | None, is_upper: bool, verdict: str) -> None:
    must, aim = (1.3, 1.05) if is_upper else (1.0, 1.3)
    row = Row("something", "1", "1", ratio, must, aim, is_upper)
    assert row.verdict == verdict
    assert verdict in table([row])
