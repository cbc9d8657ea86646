"""What one measurement of one combination gave, as the search sees it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from elastic_inference.explorer.space import Cell
from elastic_inference.explorer.statistics import Interval


@dataclass(frozen=True)
class Observation:
    """What one measurement of one cell gave.

    Attributes:
        latency_seconds: Mean sequential latency, for cost; None where it could not be measured.
        interval: Of that mean within this one run; None where it is not known.
        target_latency_seconds: The percentile that the target is about; None where it is the same.
        problem: Why there is no valid measurement; "" where there is one.
    """

    latency_seconds: float | None
    target_latency_seconds: float | None = None
    problem: str = ""
    interval: Interval | None = None

    def __post_init__(self) -> None:
        latencies = [v for v in (self.latency_seconds, self.target_latency_seconds) if v is not None]
        if any(not 0 < value < math.inf for value in latencies) and not self.problem:
            text = ", ".join(f"{value * 1000:g} ms" for value in latencies)
            object.__setattr__(self, "problem", f"latency {text} is not a positive finite time")
        if not latencies and not self.problem:
            object.__setattr__(self, "problem", "nothing was measured")


Measure = Callable[[Cell], Observation]
