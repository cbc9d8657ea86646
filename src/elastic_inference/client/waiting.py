"""Standing in a host's line for capacity: asking again with the same ticket, through restarts of the host too."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from elastic_inference.errors import (
    CapacityExceeded,
    ComputeQuotaExceeded,
    ConnectError,
    ConnectionLost,
    DeadlineExceeded,
    ElasticInferenceError,
)

MAX_PRIORITY = 9
_TRY_AGAIN_SECONDS = 1.0  # where the host does not answer
_LEAVE_SECONDS = 5.0
_NOT_THERE = (ConnectError, ConnectionLost, DeadlineExceeded)


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
