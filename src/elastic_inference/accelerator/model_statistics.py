"""What one model has done: requests by outcome, where their time went, rows and runs."""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

BUCKETS_SECONDS = tuple(base * 10.0**power for power in range(-5, 2) for base in (1, 2, 5))
BUCKETS_ROWS = (1, 2, 4, 8, 16, 32, 64, 128)


@dataclass
class Histogram:
    """Values by upper bounds; the caller holds the lock.

    Attributes:
        exemplars: The last value of a bucket that has a trace, by the bucket's place: trace id (hex), value, and when,
            in seconds since 1970. Empty where nobody asked for traces.
    """

    bounds: tuple[float, ...] = BUCKETS_SECONDS
    counts: list[int] = field(init=False)
    total: float = 0.0
    exemplars: dict[int, tuple[str, float, float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.counts = [0] * (len(self.bounds) + 1)

    def add(self, values: Sequence[float]) -> None:
        """Count all values."""
        for value in values:
            self.counts[bisect_left(self.bounds, value)] += 1
        self.total += sum(values)

    def note(self, trace_id: str, value: float, unix_seconds: float) -> None:
        """Keep the trace of a value that was counted."""
        self.exemplars[bisect_left(self.bounds, value)] = trace_id, value, unix_seconds

    def add_all(self, other: Histogram) -> None:
        """Count what another one of the same bounds has counted; of two exemplars the later one stays."""
        self.counts = [mine + theirs for mine, theirs in zip(self.counts, other.counts, strict=True)]
        self.total += other.total
        for place, exemplar in other.exemplars.items():
            mine = self.exemplars.get(place)
            if mine is None or mine[2] < exemplar[2]:
                self.exemplars[place] = exemplar

    def to_json(self) -> dict[str, Any]:
        """Return counts by upper bound, not cumulative and without those that are 0; their sum; exemplars by bound."""
        names = [*(f"{bound:g}" for bound in self.bounds), "+Inf"]
        return {
            "counts": {name: count for name, count in zip(names, self.counts, strict=True) if count},
            "sum": self.total,
            "exemplars": {names[place]: list(exemplar) for place, exemplar in self.exemplars.items()},
        }


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
        answered_at: When its answer was ready to be sent, on the monotonic clock.
        total_seconds: From its head until then.
        trace_id: Of the trace that it is part of (hex); None where it is in none.
    """

    input_seconds: float = 0.0
    queue_seconds: float = 0.0
    service_seconds: float = 0.0
    ended: float = 0.0
    output_seconds: float = 0.0
    num_rows: int = 1
    num_rows_run: int = 0
    answered_at: float = 0.0
    total_seconds: float = 0.0
    trace_id: str | None = None

    @property
    def wire_seconds(self) -> float:
        """Receiving and reading it, and making the answer; what the network takes besides, only the client sees."""
        return max(0.0, self.total_seconds - self.queue_seconds - self.service_seconds)


@dataclass
class ModelStatistics:
    """What a model has done since it was loaded; the caller holds the lock.

    Attributes:
        num_rows: Of successful requests, along axis 0 where that may be a batch; else one each.
        rows_run: How many rows each successful run had; requests that ran together had one run.
    """

    num_by_outcome: dict[str, int] = field(default_factory=lambda: {"success": 0})
    total: Histogram = field(default_factory=Histogram)
    queue: Histogram = field(default_factory=Histogram)
    service: Histogram = field(default_factory=Histogram)
    input_seconds: float = 0.0
    output_seconds: float = 0.0
    failed_seconds: float = 0.0
    last_inference_unix_ms: int = 0
    num_rows: int = 0
    rows_run: Histogram = field(default_factory=lambda: Histogram(BUCKETS_ROWS))

    def succeeded(self, timings: Sequence[Timing]) -> None:
        """Account for requests that were answered, in the order of their answers; at least one."""
        self.num_by_outcome["success"] += len(timings)
        self._ended(timings[-1].answered_at)
        self.total.add([timing.total_seconds for timing in timings])
        for timing in timings:
            if timing.trace_id is not None:
                self.total.note(timing.trace_id, timing.total_seconds, self._unix_seconds(timing.answered_at))
        self.queue.add([timing.queue_seconds for timing in timings])
        self.service.add([timing.service_seconds for timing in timings])
        self.rows_run.add([timing.num_rows_run for timing in timings if timing.num_rows_run])
        self.input_seconds += sum([timing.input_seconds for timing in timings])
        self.output_seconds += sum([timing.output_seconds for timing in timings])
        self.num_rows += sum([timing.num_rows for timing in timings])

    def failed(self, outcome: str, timing: Timing) -> None:
        """Account for one request that was not answered; `outcome` is an error's class."""
        self.num_by_outcome[outcome] = self.num_by_outcome.get(outcome, 0) + 1
        self._ended(timing.answered_at)
        self.failed_seconds += timing.queue_seconds + timing.service_seconds

    def _ended(self, moment: float) -> None:
        self.last_inference_unix_ms = max(self.last_inference_unix_ms, int(self._unix_seconds(moment) * 1000))

    @staticmethod
    def _unix_seconds(moment: float) -> float:
        return time.time() - (time.monotonic() - moment)

    @property
    def num_executions(self) -> int:
        """Successful runs."""
        return sum(self.rows_run.counts)
