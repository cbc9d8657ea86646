"""Asking a host again: while it or its pool restarts, and with the same ticket while there is no room."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from elastic_inference.deadline import Deadline
from elastic_inference.errors import (
    AcceleratorBusy,
    CapacityExceeded,
    ComputeQuotaExceeded,
    ConnectError,
    ConnectionLost,
    DeadlineExceeded,
    ElasticInferenceError,
    Fenced,
)

log = logging.getLogger(__name__)

MAX_PRIORITY = 9
_TRY_AGAIN_SECONDS = 1.0  # where the host does not answer
_LEAVE_SECONDS = 5.0
_NOT_THERE = (ConnectError, ConnectionLost, DeadlineExceeded)

_RESTART_SECONDS = 20.0  # of a host or pool; a busy machine needs some
_RESTART_PAUSE_SECONDS = 0.1


@dataclass(frozen=True)
class Place:
    """Where in the line an attach stands.

    Attributes:
        place: 1 for the next.
        num_waiting: All that wait at that host.
    """

    place: int
    num_waiting: int

    def __str__(self) -> str:
        return f"place {self.place} of {self.num_waiting}"


Ask = Callable[[Mapping[str, Any]], Any]
"""Posts an attach and returns the JSON of the answer."""


def ask_through_restarts(ask: Callable[[Deadline], Any], timeout_seconds: float, is_chosen: bool) -> Any:
    """Ask again while what answers is being restarted; `ask` must have the same effect however often it is called.

    Args:
        ask: Makes the request within the deadline.
        timeout_seconds: For all of it.
        is_chosen: Whether somebody named this address: else that it refuses connections says that nobody is there.

    Raises:
        ElasticInferenceError: What was answered; or, where that lasts, why there was no answer the last time.
    """
    deadline = Deadline(timeout_seconds)
    patience: Deadline | None = None
    while True:
        try:
            return ask(deadline)
        except (ConnectError, ConnectionLost, Fenced, AcceleratorBusy) as error:
            is_refused = isinstance(error.__cause__, (ConnectionRefusedError, ConnectionResetError))
            if isinstance(error, ConnectError) and not (is_chosen and is_refused):
                raise
            if patience is None:
                patience = deadline.within(_RESTART_SECONDS)
                log.warning("%s; asking again for up to %g s", error, patience.timeout_seconds)
            if (patience.left_seconds() or 0.0) <= _RESTART_PAUSE_SECONDS:
                raise
        time.sleep(_RESTART_PAUSE_SECONDS)


def ask_until_there_is_room(
    ask: Ask,
    leave: Callable[[str, float], None],
    body: Mapping[str, Any],
    wait_seconds: float,
    tell: Callable[[Place], None],
) -> Any:
    """Ask again and again until the accelerator is attached; give up the place however else this ends.

    Args:
        leave: Gives up the place of a ticket, in so many seconds.
        body: The attach.
        wait_seconds: How long to wait at most; the start of the process is beside that.
        tell: Called with the first place and with each other one.

    Returns:
        What the host answered at last.

    Raises:
        CapacityExceeded: The time was up.
        ElasticInferenceError: It was refused otherwise.
    """
    until = time.monotonic() + wait_seconds
    ticket: str | None = None
    last: Place | None = None
    try:
        while True:
            pause_seconds = _TRY_AGAIN_SECONDS
            try:
                value = ask({**body, "wait": True, "ticket": ticket})
            except ComputeQuotaExceeded:  # the host answers too many others now
                if time.monotonic() >= until:
                    raise
            except _NOT_THERE:
                # Before it has a place, an attach whose answer was lost may have been carried out.
                if ticket is None or time.monotonic() >= until:
                    raise
            else:
                if "ask_again_seconds" not in value:
                    return value
                ticket, pause_seconds = str(value["ticket"]), float(value["ask_again_seconds"])
                place = Place(int(value["place"]), int(value["num_waiting"]))
                if place != last:
                    tell(place)
                last = place
            if time.monotonic() >= until:
                raise CapacityExceeded(
                    f"there was no room for {body['type']!r} within {wait_seconds:g} s; at last {last}",
                    requested=str(body["type"]),
                    available=f"{last}",
                )
            time.sleep(max(0.0, min(pause_seconds, until - time.monotonic())))
    except BaseException:
        if ticket is not None:
            with contextlib.suppress(ElasticInferenceError):
                leave(ticket, _LEAVE_SECONDS)
        raise
