"""The latest requests of a model: where their time went, and the percentiles of the last minute. Decides nothing."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Any

from elastic_inference.accelerator.model_statistics import Timing
from elastic_inference.percentiles import percentile

MAX_KEPT = 1000
"""Requests that are kept: enough that ten of them lie beyond the p99, few enough to be sorted within a millisecond."""

WINDOW_SECONDS = 60.0
_SHARES = {"p50": 0.5, "p99": 0.99}


class Recent:
    """The last requests of one model."""

    __slots__ = ("_kept",)

    def __init__(self) -> None:
        self._kept: deque[Timing] = deque(maxlen=MAX_KEPT)

    def add(self, requests: Iterable[Timing]) -> None:
        """Note requests in the order of their answers."""
        self._kept.extend(requests)

    def since(self, moment: float) -> list[Timing]:
        """Return requests that were answered at `moment` (time.monotonic) or later."""
        return [each for each in self._kept.copy() if each.answered_at >= moment]


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


def _at(requests: list[Timing], share: float) -> Timing:
    total = percentile([each.total_seconds for each in requests], share)
    return next(each for each in requests if each.total_seconds == total)


def _parts(request: Timing) -> dict[str, float]:
    return {
        "total_seconds": request.total_seconds,
        "queue_seconds": request.queue_seconds,
        "service_seconds": request.service_seconds,
        "wire_seconds": request.wire_seconds,
    }
