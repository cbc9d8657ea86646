"""The storm of faults: its schedule, and a short one that runs to its end; what it shows is not asked here."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from benchmarks.common import ROOT
from benchmarks.storm.faults import KINDS
from benchmarks.storm.schedule import make_schedule


def test_the_same_seed_gives_the_same_storm() -> None:
    assert make_schedule(KINDS, 120, 15, seed=1) == make_schedule(KINDS, 120, 15, seed=1)
    assert make_schedule(KINDS, 120, 15, seed=1) != make_schedule(KINDS, 120, 15, seed=2)


@pytest.mark.parametrize("seed", range(20))
def test_every_kind_comes_and_none_twice_at_once(seed: int) -> None:
    events = make_schedule(KINDS, 120, 15, seed)
    assert {event.fault for event in events} == set(KINDS)
    assert max(event.at_seconds + event.lasts_seconds for event in events) <= 105
    for kind, (least, most) in KINDS.items():
        own = [event for event in events if event.fault == kind]
        assert all(least <= event.lasts_seconds <= most for event in own)
        for before, after in itertools.pairwise(own):
            assert before.at_seconds + before.lasts_seconds < after.at_seconds


def test_a_storm_of_no_kind_is_none() -> None:
    assert make_schedule({}, 120, 15, seed=1) == ()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: faults of accelerators that are other users")
def test_a_short_storm_runs_and_is_written_down(tmp_path: Path) -> None:
    result = tmp_path / "result.json"
    faults = "accelerator killed,host killed,accelerator stopped,host at its descriptor limit"
    command = ["-m", "benchmarks.storm", "--seconds", "25", "--timeout", "120", "--database", "sqlite"]
    done = subprocess.run(
        [sys.executable, *command, "--faults", faults, "--json", str(result)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=280,
    )
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
    written = json.loads(result.read_text())
    assert {row["verdict"] for row in written["rows"]} == {"aim", "shown"}
