"""Deadlines: what is left of them, their parts, and ending one early."""

from __future__ import annotations

import threading
import time

import pytest

from elastic_inference.deadline import NO_DEADLINE, Cancellation, Deadline
from elastic_inference.errors import DeadlineExceeded


def test_what_is_left_becomes_less_and_a_part_is_never_longer_than_the_whole() -> None:
    deadline = Deadline(1000.0)
    first = deadline.check("it")
    assert first is not None
    assert deadline.left_seconds() <= first <= 1000.0  # type: ignore[operator]
    part = deadline.within(5.0)
    assert part.end_seconds is not None
    assert deadline.end_seconds is not None
    assert part.end_seconds < deadline.end_seconds
    assert deadline.within(5000.0).end_seconds == pytest.approx(deadline.end_seconds, abs=1e-3)


def test_one_that_is_over_says_what_did_not_come() -> None:
    deadline = Deadline(0.0)
    with pytest.raises(DeadlineExceeded, match="the reply did not come within 0 s"):
        deadline.check("the reply")
    with pytest.raises(DeadlineExceeded):
        deadline.within(5.0).check("its part")


def test_none_waits_without_limit_but_its_parts_do_not() -> None:
    assert NO_DEADLINE.left_seconds() is NO_DEADLINE.check("it") is None
    part = NO_DEADLINE.within(5.0)
    assert part.end_seconds is not None
    assert time.monotonic() < part.end_seconds


def test_a_cancelled_one_is_over_with_its_parts_and_wakes_who_waits() -> None:
    cancellation = Cancellation()
    deadline = Deadline(None, cancellation)
    woken = threading.Event()
    cancellation.wake_by(woken.set)
    assert not deadline.is_cancelled
    cancellation.cancel()
    cancellation.cancel()
    assert woken.is_set()
    for one in (deadline, deadline.within(5.0)):
        with pytest.raises(DeadlineExceeded, match="the call was cancelled before the reply came"):
            one.check("the reply")


def test_who_begins_to_wait_after_the_cancelling_is_woken_and_who_has_ended_is_not() -> None:
    cancellation = Cancellation()
    late, past = threading.Event(), threading.Event()
    cancellation.wake_by(past.set)
    cancellation.wake_by(None)
    cancellation.cancel()
    cancellation.wake_by(late.set)
    assert late.is_set()
    assert not past.is_set()
