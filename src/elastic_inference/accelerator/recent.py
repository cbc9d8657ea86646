"""The latest requests of a model: where their time went, and the percentiles of the last minute. Decides nothing."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Any, NamedTuple

from elastic_inference.percentiles import percentile

MAX_KEPT = 1000
"""Requests that are kept: enough that ten of them lie beyond the p99, few enough to be sorted within a millisecond."""

WINDOW_SECONDS = 60.0
_SHARES = {"p50": 0.5, "p99": 0.99}


class Timed(NamedTuple):
    """One request that was answered; a tuple, because making one is part of the hot path.

    Attributes:
        ended_at: Seconds of time.monotonic.
        total_seconds: From its head until its answer was ready to be sent.
    """

    ended_at: float
    total_seconds: float
    queue_seconds: float
    service_seconds: float

    @property
    def wire_seconds(self) -> float:
        """Receiving and reading it, and making the answer; what the network takes besides, only the client sees."""
        return max(0.0, self.total_seconds - self.queue_seconds - self.service_seconds)


class Recent:
    """The last requests of one model; appending is the hot path, and takes no lock."""

    __slots__ = ("_kept",)

    def __init__(self) -> None:
        self._kept: deque[Timed] = deque(maxlen=MAX_KEPT)

    def add(self, request: Timed) -> None:
        """Note one request."""
        self._kept.append(request)

    def since(self, moment: float) -> list[Timed]:
        """Return requests that ended at `moment` (time.monotonic) or later."""
        return [each for each in self._kept.copy() if each.ended_at >= moment]


def latency(recents: Iterable[Recent], now: float) -> dict[str, Any]:
    """Return the percentiles of the last minute, or of the last `MAX_KEPT` requests of each model where that is less.

    A percentile is a request that occurred, and its parts are that request's own: they add up to its total.

    Args:
        now: Seconds of time.monotonic.
    """
    requests = [each for recent in recents for each in recent.since(now - WINDOW_SECONDS)]
    value: dict[str, Any] = {"num_requests": len(requests), "window_seconds": WINDOW_SECONDS}
    for name, share in _SHARES.items():
        value[name] = _parts(_at(requests, share)) if requests else None
    return value


def _at(requests: list[Timed], share: float) -> Timed:
    total = percentile([each.total_seconds for each in requests], share)
    return next(each for each in requests if each.total_seconds == total)


def _parts(request: Timed) -> dict[str, float]:
    return {
        "total_seconds": request.total_seconds,
        "queue_seconds": request.queue_seconds,
        "service_seconds": request.service_seconds,
        "wire_seconds": request.wire_seconds,
    }
