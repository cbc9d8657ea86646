"""Whose task is whose: lost answers, late outcomes, the end."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from elastic_inference.explorer.measuring.assignments import Assignments
from elastic_inference.explorer.measuring.task import Outcome, Task
from elastic_inference.explorer.observation import Observation
from elastic_inference.explorer.space import Cell

ONE, OTHER = Task(Cell("a"), "model", "uint8:1"), Task(Cell("a"), "model", "uint8:2")
FIRST, SECOND = Outcome(Observation(0.1)), Outcome(Observation(0.2))


@pytest.fixture
def assignments() -> Assignments:
    return Assignments(["a", "b"])


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor() as pool:
        yield pool


def run(pool: ThreadPoolExecutor, to: Assignments, task: Task) -> Future[Outcome | None]:
    return pool.submit(to.run, "a", task, 30.0)


def test_task_is_given_again_until_its_outcome_comes(
    assignments: Assignments, pool: ThreadPoolExecutor
) -> None:
    outcome = run(pool, assignments, ONE)
    lost = assignments.next("a", 30.0)
    again = assignments.next("a", 30.0)
    assert lost is not None
    assert lost.task == ONE
    assert again == lost
    assignments.finish("a", lost.number, FIRST)
    assert outcome.result(30) == FIRST
    assert assignments.next("a", 0.0) is None


def test_outcome_of_a_task_given_up_is_not_that_of_the_next(
    assignments: Assignments, pool: ThreadPoolExecutor
) -> None:
    taken = pool.submit(assignments.next, "a", 30.0)
    assert assignments.run("a", ONE, 0.0) is None
    outcome = run(pool, assignments, OTHER)
    assignment = taken.result(30) or assignments.next("a", 30.0)
    assert assignment is not None
    assignments.finish("a", assignment.number - 1, FIRST)
    assert not outcome.done()
    current = assignments.next("a", 30.0)
    assert current is not None
    assert current.task == OTHER
    assignments.finish("a", current.number, SECOND)
    assert outcome.result(30) == SECOND


def test_outcome_from_another_client_is_dropped(assignments: Assignments, pool: ThreadPoolExecutor) -> None:
    outcome = run(pool, assignments, ONE)
    assignment = assignments.next("a", 30.0)
    assert assignment is not None
    assignments.finish("b", assignment.number, SECOND)
    assignments.finish("a", assignment.number, FIRST)
    assert outcome.result(30) == FIRST


def test_the_end_wakes_who_waits_for_work(assignments: Assignments, pool: ThreadPoolExecutor) -> None:
    waiting = pool.submit(assignments.next, "a", 30.0)
    assignments.end()
    assert waiting.result(10) is None
    assert assignments.is_over


def test_the_end_waits_for_those_who_have_joined(assignments: Assignments, pool: ThreadPoolExecutor) -> None:
    assignments.next("a", 0.0)
    assignments.end()
    is_waiting = threading.Event()

    def wait() -> None:
        is_waiting.set()
        assignments.wait_until_dismissed(30.0)

    waited = pool.submit(wait)
    assert is_waiting.wait(10)
    assert not waited.done()
    assignments.dismiss("a")
    waited.result(10)
