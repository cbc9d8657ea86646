"""What one model has done: requests by outcome, where their time went, rows and runs."""

from __future__ import annotations

import time
from bisect import bisect_left
from dataclasses import dataclass, field

BUCKETS_SECONDS = tuple(base * 10.0**power for power in range(-5, 2) for base in (1, 2, 5))
BUCKETS_ROWS = (1, 2, 4, 8, 16, 32, 64, 128)


@dataclass
class Histogram:
    """Values by upper bounds; the caller holds the lock."""

    bounds: tuple[float, ...] = BUCKETS_SECONDS
    counts: list[int] = field(init=False)
    total: float = 0.0

    def __post_init__(self) -> None:
        self.counts = [0] * (len(self.bounds) + 1)

    def add(self, value: float) -> None:
        """Count one value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value


class Timing:
    """Where the time of one request went, and what ran for it; no dataclass, which would set each field twice.

    Attributes:
        input_seconds: From the request's arrival: checking its tensors and making arrays of them.
        queue_seconds: From then to the request's turn.
        service_seconds: The engine's computation.
        ended: When that was over, on the monotonic clock; 0 where it did not come to it.
        output_seconds: From then to the answer, not counting its way over the wire.
        num_rows: Of the request itself.
        num_rows_run: Of the run that it led; 0 where another's run answered it, or none did.
    """

    input_seconds: float = 0.0
    queue_seconds: float = 0.0
    service_seconds: float = 0.0
    ended: float = 0.0
    output_seconds: float = 0.0
    num_rows: int = 1
    num_rows_run: int = 0


@dataclass
class ModelStatistics:
    """What a model has done since it was loaded; the caller holds the lock.

    Attributes:
        num_rows: Of successful requests, along axis 0 where that may be a batch; else one each.
        rows_run: How many rows each successful run had; requests that ran together had one run.
    """

    num_by_outcome: dict[str, int] = field(default_factory=lambda: {"success": 0})
    queue: Histogram = field(default_factory=Histogram)
    service: Histogram = field(default_factory=Histogram)
    input_seconds: float = 0.0
    output_seconds: float = 0.0
    failed_seconds: float = 0.0
    last_inference_unix_ms: int = 0
    num_rows: int = 0
    rows_run: Histogram = field(default_factory=lambda: Histogram(BUCKETS_ROWS))

    def count(self, outcome: str, timing: Timing) -> None:
        """Account for one request; outcome is "success" or an error class."""
        self.num_by_outcome[outcome] = self.num_by_outcome.get(outcome, 0) + 1
        self.last_inference_unix_ms = int(time.time() * 1000)
        if outcome != "success":
            self.failed_seconds += timing.queue_seconds + timing.service_seconds
            return
        self.queue.add(timing.queue_seconds)
        self.service.add(timing.service_seconds)
        self.input_seconds += timing.input_seconds
        self.output_seconds += timing.output_seconds
        self.num_rows += timing.num_rows
        if timing.num_rows_run:
            self.rows_run.add(timing.num_rows_run)

    @property
    def num_executions(self) -> int:
        """Successful runs."""
        return sum(self.rows_run.counts)
