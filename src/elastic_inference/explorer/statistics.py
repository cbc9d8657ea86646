"""When enough was measured: intervals of a mean, the tail rule of MLPerf, and warm-up. Pure.

Two quantities are decided apart. The mean, for cost, is known when its Student-t interval is narrow. The
tail, for a latency target, is known when a binomial test says so: with a late share of exactly
`1 - percentile`, so few late requests among so many would come by chance with probability at most
`1 - confidence`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from statistics import fmean, median, stdev

from scipy.special import bdtr, bdtrc, stdtrit

from elastic_inference.errors import InvalidInput

# Three deviations keep 99.7% of steady samples; MAD x 1.4826 estimates a deviation without its outliers.
_STEADY_DEVIATIONS = 3 * 1.4826
# Timers and schedulers make even a steady series flutter by some percent; less is not called warm-up.
_STEADY_SHARE = 0.05
_STEADY_RUN = 3


@dataclass(frozen=True)
class Interval:
    """A mean and where the true mean lies with the stated confidence; one sample has an endless interval."""

    mean: float
    low: float
    high: float
    count: int

    @property
    def width_share(self) -> float:
        """Width as a share of the mean."""
        return (self.high - self.low) / self.mean

    def overlaps(self, other: Interval) -> bool:
        """Whether a value exists that lies in both."""
        return self.low <= other.high and other.low <= self.high


def mean_interval(samples: Sequence[float], confidence: float = 0.95) -> Interval:
    """Return the Student-t interval of the mean of independent samples; raises InvalidInput where there is none."""
    if not samples:
        raise InvalidInput("no sample, so no mean")
    count, mean = len(samples), fmean(samples)
    if count == 1:
        return Interval(mean, -math.inf, math.inf, 1)
    half = float(stdtrit(count - 1, 0.5 + confidence / 2)) * stdev(samples) / math.sqrt(count)
    return Interval(mean, mean - half, mean + half, count)


def pooled_intervals(groups: Sequence[Sequence[float]], confidence: float = 0.95) -> list[Interval]:
    """Intervals of several means whose samples scatter by the same share of each mean.

    The scatter is estimated from all groups together, so three runs of each of four cells give eight degrees
    of freedom, not two. Where no group has two samples, nothing is known and every interval is endless.

    Args:
        groups: Samples above 0 of each mean; an empty group gives an interval without a mean (nan).
    """
    squares = sum((sample / fmean(group) - 1) ** 2 for group in groups for sample in group if len(group) > 1)
    freedom = sum(len(group) - 1 for group in groups if group)
    deviate = float(stdtrit(freedom, 0.5 + confidence / 2)) if freedom else math.inf
    deviation = math.sqrt(squares / freedom) if freedom else 1.0
    intervals = []
    for group in groups:
        mean = fmean(group) if group else math.nan
        half = deviate * deviation * mean / math.sqrt(len(group) or 1)
        intervals.append(Interval(mean, mean - half, mean + half, len(group)))
    return intervals


@dataclass(frozen=True)
class MeanRule:
    """When the mean is known well enough.

    Attributes:
        width_share: Greatest width of the interval, as a share of the mean.
        min_runs: Runs before a first look; with fewer, chance agreement would end it.
        max_runs: Where it ends in any case.
    """

    width_share: float = 0.05
    confidence: float = 0.95
    min_runs: int = 3
    max_runs: int = 200

    def is_met(self, samples: Sequence[float]) -> bool:
        """Whether the interval is narrow enough."""
        return (
            len(samples) >= self.min_runs
            and mean_interval(samples, self.confidence).width_share <= self.width_share
        )

    def is_done(self, samples: Sequence[float]) -> bool:
        """Whether to stop: narrow enough, or `max_runs` are reached."""
        return len(samples) >= self.max_runs or self.is_met(samples)


class TailVerdict(Enum):
    """What the requests so far say about the tail."""

    MEETS = "meets"  # so few are late that the share of late ones is below 1 - percentile
    MISSES = (
        "misses"  # so many are late that the share is above, or no count allowed could still prove it below
    )
    OPEN = "open"  # more requests are needed


@dataclass(frozen=True)
class TailRule:
    """Whether at least `percentile` of all requests are in time, decided with as few requests as will do.

    Attributes:
        percentile: 0.95 for p95; above 0 and below 1.
        confidence: 1 minus the greatest chance to call a tail in time that is not.
        max_requests: Where it ends in any case; a target not proved by then is missed.
    """

    percentile: float = 0.95
    confidence: float = 0.99
    max_requests: int = 20_000

    def __post_init__(self) -> None:
        for name, value in (("percentile", self.percentile), ("confidence", self.confidence)):
            if not 0 < value < 1:
                raise InvalidInput(f"{name} {value} must be between 0 and 1")

    def required_requests(self, num_late: int) -> int:
        """Return the fewest requests that prove the target with this many late: p90 1 -> 64, p95 130, p99 662."""
        low, high = num_late, num_late + 1
        while not self._is_proved(high, num_late):
            low, high = high, 2 * high
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if self._is_proved(middle, num_late) else (middle, high)
        return high

    def verdict(self, num_requests: int, num_late: int) -> TailVerdict:
        """Decide from what is counted so far.

        One late request is always allowed for: nothing is called in time before `required_requests(1)`, so
        that a single stall of the machine does not decide.
        """
        if num_requests >= self.required_requests(1) and self._is_proved(num_requests, num_late):
            return TailVerdict.MEETS
        if num_requests >= self.max_requests or self._is_hopeless(num_requests, num_late):
            return TailVerdict.MISSES
        return TailVerdict.OPEN

    def _is_proved(self, num_requests: int, num_late: int) -> bool:
        # bdtr(k, n, p) is the probability of at most k late ones.
        return float(bdtr(num_late, num_requests, 1 - self.percentile)) <= 1 - self.confidence

    def _is_hopeless(self, num_requests: int, num_late: int) -> bool:
        if num_late == 0:
            return False
        if float(bdtrc(num_late - 1, num_requests, 1 - self.percentile)) <= 1 - self.confidence:
            return True
        return not self._is_proved(self.max_requests, num_late)


def warm_up_length(samples: Sequence[float]) -> int:
    """How many samples at the start belong to the warm-up: 0 up to half of them.

    The second half says what steady means: its median, and around it three deviations (or 5% where those
    are smaller). Warm-up ends where the first three samples in a row are no slower than that. Faster ones
    are never cut: a slow start is warm-up, a fast one is luck.
    """
    half = len(samples) // 2
    if half < _STEADY_RUN:
        return 0
    steady = samples[half:]
    middle = median(steady)
    spread = _STEADY_DEVIATIONS * median(abs(sample - middle) for sample in steady)
    limit = middle + max(spread, _STEADY_SHARE * middle)
    for start in range(half):
        if all(sample <= limit for sample in samples[start : start + _STEADY_RUN]):
            return start
    return half
