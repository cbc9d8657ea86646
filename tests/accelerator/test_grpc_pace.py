"""Which gRPC calls the thread that reads a connection may run: decided by what the latest ones took."""

from __future__ import annotations

from elastic_inference.accelerator.doors.grpc.pace import QUICK_CALLS, QUICK_SECONDS, SETTLED_CALLS, Pace
from elastic_inference.accelerator.model_statistics import Timing

LONG = 2 * QUICK_SECONDS


def timing(service_seconds: float, queue_seconds: float = 0.0) -> Timing:
    found = Timing()
    found.service_seconds, found.queue_seconds = service_seconds, queue_seconds
    return found


def noted(pace: Pace, count: int, service_seconds: float = 0.0, queue_seconds: float = 0.0) -> Pace:
    for _ in range(count):
        pace.note(timing(service_seconds, queue_seconds))
    return pace


def test_nothing_is_quick_until_it_was_so_often_enough() -> None:
    assert not noted(Pace(), QUICK_CALLS - 1).is_quick
    assert noted(Pace(), QUICK_CALLS).is_quick


def test_one_that_is_computed_for_long_ends_it() -> None:
    pace = noted(Pace(), 10 * SETTLED_CALLS)
    assert not noted(pace, 1, service_seconds=LONG).is_quick
    assert not noted(pace, QUICK_CALLS - 1).is_quick


def test_waiting_for_calls_of_ones_own_connection_is_not_held_against_anybody() -> None:
    assert noted(Pace(), SETTLED_CALLS, queue_seconds=LONG).is_quick


def test_waiting_for_other_connections_calls_ends_it() -> None:
    pace = noted(Pace(), SETTLED_CALLS)
    assert not noted(pace, 1, queue_seconds=LONG).is_quick
