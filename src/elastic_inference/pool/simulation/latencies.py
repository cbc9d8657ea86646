"""Latencies counted by their logarithm: percentiles within half a percent, whatever their number, in 24 KB."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

_LEAST_SECONDS = 1e-6
_BINS_PER_E = 100.0  # a bin is 1% wide
_NUM_BINS = 3000  # up to 1e-6 s x e**30


class Latencies:
    """A histogram of durations from 1 us to 100,000 years."""

    def __init__(self) -> None:
        self._counts = np.zeros(_NUM_BINS, np.float64)
        self._largest = 0.0
        self._sum = 0.0

    def add(self, seconds: npt.NDArray[np.float64], weight: float = 1.0) -> None:
        """Count durations, each as `weight` of them."""
        if not seconds.size:
            return
        bins = ((np.log(seconds) - math.log(_LEAST_SECONDS)) * _BINS_PER_E).astype(np.int32)
        np.clip(bins, 0, _NUM_BINS - 1, out=bins)
        self._counts += weight * np.bincount(bins, minlength=_NUM_BINS)
        self._largest = max(self._largest, float(seconds.max()))
        self._sum += weight * float(seconds.sum())

    def merge(self, other: Latencies) -> None:
        """Count what another one has counted."""
        self._counts += other._counts
        self._largest = max(self._largest, other._largest)
        self._sum += other._sum

    @property
    def count(self) -> float:
        """How many there are, weighted."""
        return float(self._counts.sum())

    @property
    def largest(self) -> float:
        """The longest; 0 where there is none."""
        return self._largest

    @property
    def mean(self) -> float:
        """Their mean; nan where there is none."""
        return self._sum / self.count if self.count else math.nan

    def percentile(self, share: float) -> float:
        """Return the middle of the bin that holds a percentile, 0 < share <= 1; nan where there is none."""
        if not self.count:
            return math.nan
        place = int(np.searchsorted(np.cumsum(self._counts), share * self.count * (1 - 1e-12)))
        return min(self._largest, _LEAST_SECONDS * math.exp((min(place, _NUM_BINS - 1) + 0.5) / _BINS_PER_E))
