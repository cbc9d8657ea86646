"""Which task is whose, among clients elsewhere, and what came back; no network here. Safe for several threads."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from elastic_inference.errors import ProtocolError
from elastic_inference.explorer.measuring.task import Outcome, Task

# A client asks again after this; short, so that a connection that died is noticed.
POLL_SECONDS = 10.0
INPUT_FILE = "file:"  # before the name of an input that clients fetch from `/input`


@dataclass(frozen=True)
class Assignment:
    """A task with the number by which its outcome is known: that of one given up before must not pass for it."""

    number: int
    task: Task

    def to_json(self) -> dict[str, Any]:
        """Return a JSON object that `from_json` reads back."""
        return {"number": self.number, "task": self.task.to_json()}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Assignment:
        """Read what `to_json` wrote; raises ProtocolError where it is something else."""
        try:
            return cls(value["number"], Task.from_json(value["task"]))
        except (KeyError, TypeError, AttributeError) as error:
            raise ProtocolError(f"the exploration gives what is no task: {error!r}") from error


class Assignments:
    """One task at a time for each client, until its outcome comes or nobody waits for it any more."""

    def __init__(self, names: Iterable[str]) -> None:
        self._names = frozenset(names)
        self._numbers = itertools.count(1)
        self._changed = threading.Condition()
        self._open: dict[str, Assignment] = {}
        self._outcomes: dict[int, Outcome] = {}
        self._joined: set[str] = set()
        self._dismissed: set[str] = set()
        self._is_over = False

    @property
    def is_over(self) -> bool:
        """Whether there will be no more tasks."""
        return self._is_over

    def has_client(self, name: str) -> bool:
        """Whether a client of this name is to join."""
        return name in self._names

    def run(self, name: str, task: Task, wait_seconds: float) -> Outcome | None:
        """Have a client measure; None where it did not answer in time."""
        with self._changed:
            number = next(self._numbers)
            self._open[name] = Assignment(number, task)
            self._changed.notify_all()
            try:
                self._changed.wait_for(lambda: number in self._outcomes, wait_seconds)
            finally:  # also on Ctrl-C
                self._open.pop(name, None)
            return self._outcomes.pop(number, None)

    def next(self, name: str, wait_seconds: float = POLL_SECONDS) -> Assignment | None:
        """Return what a client is to measure, waited for; None for nothing yet, or where all is over.

        A task whose outcome has not come is given again: the client that asks has not got it, or has lost it.
        """
        with self._changed:
            self._joined.add(name)
            self._changed.wait_for(lambda: self._is_over or name in self._open, wait_seconds)
            return None if self._is_over else self._open.get(name)

    def finish(self, name: str, number: int, outcome: Outcome) -> None:
        """Take what a client measured; of a task for which nobody waits any more it is dropped."""
        with self._changed:
            assignment = self._open.get(name)
            if assignment is not None and assignment.number == number:
                del self._open[name]
                self._outcomes[number] = outcome
                self._changed.notify_all()

    def end(self) -> None:
        """Say that there will be no more tasks; wakes the clients that wait for one."""
        with self._changed:
            self._is_over = True
            self._changed.notify_all()

    def dismiss(self, name: str) -> None:
        """Note that a client knows of the end."""
        with self._changed:
            self._dismissed.add(name)
            self._changed.notify_all()

    def wait_until_dismissed(self, wait_seconds: float = POLL_SECONDS) -> None:
        """Wait until every client that has joined knows of the end, so that none wonders where all went."""
        with self._changed:
            self._changed.wait_for(lambda: self._joined <= self._dismissed, wait_seconds)
