"""How long a call takes on an accelerator of a type: a distribution, as a table of its quantiles.

It is what was measured, or log-normal where only its mean and spread are given.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from elastic_inference.errors import InvalidInput

Floats = npt.NDArray[np.float64]
# Fine enough that the last quantile is far beyond p99.9; a draw is then one look into the table.
NUM_QUANTILES = 4096


@dataclass(frozen=True)
class ServiceTime:
    """The engine's computation for one call, beside what else a call and a load take.

    Attributes:
        mean_seconds: Of the computation.
        variation: Standard deviation / mean, of a log-normal distribution; 0: always the mean.
        wire_seconds: Of a call beyond queue and computation: transport, (de)serialising.
        load_seconds: Reading and compiling the model on an accelerator that starts.
        first_seconds: Computation of the first call after a load; 0: as any other.
        measured: Computations, rising, each as likely, with this mean and variation; see `of_measured`.
    """

    mean_seconds: float
    variation: float = 0.0
    wire_seconds: float = 0.0
    load_seconds: float = 0.0
    first_seconds: float = 0.0
    measured: tuple[float, ...] = ()

    @classmethod
    def of_measured(
        cls,
        seconds: Sequence[float],
        wire_seconds: float = 0.0,
        load_seconds: float = 0.0,
        first_seconds: float = 0.0,
    ) -> ServiceTime:
        """Return the distribution of measured computations, in whatever order; at least one."""
        measured = np.sort(np.asarray(seconds, np.float64))
        mean = float(measured.mean())
        variation = float(measured.std()) / mean if mean else 0.0
        return cls(mean, variation, wire_seconds, load_seconds, first_seconds, tuple(measured.tolist()))

    def __post_init__(self) -> None:
        if not 0 < self.mean_seconds < math.inf:
            raise InvalidInput(f"service time {self.mean_seconds} s must be finite and above 0")
        for name in ("variation", "wire_seconds", "load_seconds", "first_seconds"):
            if not 0 <= getattr(self, name) < math.inf:
                raise InvalidInput(f"{name} {getattr(self, name)} must be finite and 0 or more")

    @cached_property
    def quantiles(self) -> Floats:
        """float64[NUM_QUANTILES], seconds, rising, each as likely; their mean is `mean_seconds`."""
        if self.measured:
            places = (np.arange(NUM_QUANTILES) + 0.5) * len(self.measured) / NUM_QUANTILES
            found: Floats = np.array(self.measured)[places.astype(np.intp)]
            return found
        sigma = math.sqrt(math.log1p(self.variation**2))
        normal = NormalDist()
        middles = [normal.inv_cdf((place + 0.5) / NUM_QUANTILES) for place in range(NUM_QUANTILES)]
        values: Floats = np.exp(sigma * np.array(middles))
        values *= self.mean_seconds / float(values.mean())
        return values

    def draw(self, chance: np.random.Generator, count: int) -> Floats:
        """Return independent service times, float64[count], in seconds."""
        if self.variation == 0:
            return np.full(count, self.mean_seconds)
        drawn: Floats = self.quantiles[chance.integers(0, NUM_QUANTILES, count, np.uint16)]
        return drawn
