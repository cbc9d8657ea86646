"""The journal: resumed, torn, foreign, held, and what failed is tried again."""

from __future__ import annotations

from pathlib import Path

import pytest

from elastic_inference.errors import InvalidInput
from elastic_inference.explorer.measuring.journal import Journal
from elastic_inference.explorer.measuring.task import Outcome
from elastic_inference.explorer.observation import Observation
from elastic_inference.explorer.reporting.result import Detail
from elastic_inference.explorer.space import Cell
from elastic_inference.explorer.statistics import mean_interval

CELL = Cell("cores=1", "cpu.half", "bf16")
QUESTION = {"model": "abc", "target": 0.2}


def outcome(latency: float) -> Outcome:
    interval = mean_interval([latency, latency * 1.01, latency * 0.99])
    detail = Detail(num_samples=3, percentiles={"p50": latency}, notes=("a note",))
    return Outcome(Observation(latency, latency * 2, interval=interval), detail, {"engine": "testing"})


def test_runs_come_back_as_they_were_kept(tmp_path: Path) -> None:
    path = tmp_path / "new" / "journal.jsonl"
    with Journal(path, QUESTION) as journal:
        journal.add(CELL, outcome(0.1))
        journal.add(CELL, outcome(0.2))
    with Journal(path, QUESTION) as journal:
        assert journal.runs(CELL) == [outcome(0.1), outcome(0.2)]
        assert journal.runs(Cell("cores=1")) == []
        assert journal.num_runs == 2


def test_torn_last_line_loses_that_run_only(tmp_path: Path) -> None:
    path = tmp_path / "j"
    with Journal(path, QUESTION) as journal:
        journal.add(CELL, outcome(0.1))
        journal.add(CELL, outcome(0.2))
    content = path.read_bytes()
    path.write_bytes(content[:-20])
    with Journal(path, QUESTION) as journal:
        assert journal.runs(CELL) == [outcome(0.1)]
        journal.add(CELL, outcome(0.3))
    with Journal(path, QUESTION) as journal:
        assert journal.runs(CELL) == [outcome(0.1), outcome(0.3)]


def test_journal_of_another_exploration_is_refused_with_the_difference(tmp_path: Path) -> None:
    with Journal(tmp_path / "j", QUESTION):
        pass
    with pytest.raises(InvalidInput, match="another exploration: target differ"):
        Journal(tmp_path / "j", {**QUESTION, "target": 0.3}).open()


def test_file_that_is_no_journal_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "j"
    path.write_text("precious\n")
    with pytest.raises(InvalidInput, match="line 1"):
        Journal(path, QUESTION).open()
    assert path.read_text() == "precious\n"


def test_journal_is_held_by_one_process_at_a_time(tmp_path: Path) -> None:
    with Journal(tmp_path / "j", QUESTION), pytest.raises(InvalidInput, match="in use"):
        Journal(tmp_path / "j", QUESTION).open()
    with Journal(tmp_path / "j", QUESTION):
        pass


def test_failed_run_is_not_recalled(tmp_path: Path) -> None:
    with Journal(tmp_path / "j", QUESTION) as journal:
        journal.add(CELL, Outcome.failed("the host was away"))
    with Journal(tmp_path / "j", QUESTION) as journal:
        assert journal.runs(CELL) == []


def test_directory_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InvalidInput, match="cannot be written"):
        Journal(tmp_path / "file" / "j", QUESTION).open()
