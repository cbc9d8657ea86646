"""What is measured, kept as it comes: one JSON line a run, on disk before the next begins.

A process that ends anyhow loses at most the run it was in. The first line says what is explored; a journal of
another exploration is refused, since its runs would answer another question.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from elastic_inference.errors import InvalidInput
from elastic_inference.explorer.measuring.task import Outcome
from elastic_inference.explorer.space import Cell

NAME = "journal.jsonl"
SCHEMA = "elastic-inference journal 1"


class Journal:
    """The runs of one exploration, old and new.

    Args:
        path: The file; created if absent.
        question: What makes two explorations the same: model, input, rules. JSON values only.
    """

    def __init__(self, path: Path, question: Mapping[str, Any]) -> None:
        self._path = path
        self._head = {"schema": SCHEMA, "question": json.loads(json.dumps(dict(question)))}
        self._file: IO[bytes] | None = None
        self._runs: dict[str, list[Outcome]] = {}

    def open(self) -> Journal:
        """Read what is there and hold the file against other processes.

        Raises:
            InvalidInput: It belongs to another exploration, is held by another process, or a line but the last
                is no run.
        """
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._file = open(self._path, "a+b")  # noqa: SIM115  # held open until close()
        except OSError as error:
            raise InvalidInput(f"journal {str(self._path)!r} cannot be written: {error}") from error
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._read()
        except BlockingIOError as error:
            self.close()
            raise InvalidInput(f"journal {str(self._path)!r} is in use by another exploration") from error
        except BaseException:
            self.close()
            raise
        return self

    def _read(self) -> None:
        assert self._file is not None
        self._file.seek(0)
        content = self._file.read()
        # A kill in the middle of a write leaves a line without its end; that run is lost, and only that one.
        whole = content[: content.rfind(b"\n") + 1]
        if len(whole) < len(content):
            self._file.truncate(len(whole))
        lines = whole.splitlines()
        if not lines:
            self._append(self._head)
            return
        for number, line in enumerate(lines, 1):
            try:
                value = json.loads(line)
                if number == 1:
                    self._check_head(value)
                    continue
                cell, outcome = Cell(**value["cell"]), Outcome.from_json(value)
            except (ValueError, KeyError, TypeError) as error:
                if isinstance(error, InvalidInput) and number == 1:
                    raise
                raise InvalidInput(
                    f"journal {str(self._path)!r}, line {number}: is no run: {error}"
                ) from error
            if not outcome.observation.problem:  # what failed is tried again: its cause may be gone
                self._runs.setdefault(_key(cell), []).append(outcome)

    def _check_head(self, head: Any) -> None:
        if head == self._head:
            return
        theirs = head.get("question", {}) if isinstance(head, dict) else {}
        ours = self._head["question"]
        assert isinstance(ours, dict)
        differing = [name for name in {*theirs, *ours} if theirs.get(name) != ours.get(name)]
        raise InvalidInput(
            f"journal {str(self._path)!r} belongs to another exploration: {', '.join(sorted(differing)) or 'format'} "
            "differ; give another output directory, or remove the journal to begin anew"
        )

    def runs(self, cell: Cell) -> list[Outcome]:
        """Return the runs of a cell so far, in order."""
        return self._runs.get(_key(cell), [])

    @property
    def num_runs(self) -> int:
        """Runs of all cells."""
        return sum(len(outcomes) for outcomes in self._runs.values())

    def add(self, cell: Cell, outcome: Outcome) -> None:
        """Keep a run; on disk when this returns."""
        self._append({"cell": asdict(cell), **outcome.to_json()})
        self._runs.setdefault(_key(cell), []).append(outcome)

    def _append(self, value: Mapping[str, Any]) -> None:
        assert self._file is not None, "the journal is not open"
        self._file.write(json.dumps(value).encode() + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Let the file go; twice is fine."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def __enter__(self) -> Journal:
        return self.open()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _key(cell: Cell) -> str:
    return json.dumps(asdict(cell), sort_keys=True)
