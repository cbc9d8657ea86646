"""How long a call takes on an accelerator of a type: a distribution, as a table of its quantiles."""

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
    """

    mean_seconds: float
    variation: float = 0.0
    wire_seconds: float = 0.0
    load_seconds: float = 0.0

    def __post_init__(self) -> None:
        if not 0 < self.mean_seconds < math.inf:
            raise InvalidInput(f"service time {self.mean_seconds} s must be finite and above 0")
        for name in ("variation", "wire_seconds", "load_seconds"):
            if not 0 <= getattr(self, name) < math.inf:
                raise InvalidInput(f"{name} {getattr(self, name)} must be finite and 0 or more")

    @cached_property
    def quantiles(self) -> Floats:
        """float64[NUM_QUANTILES], seconds, rising, each as likely; their mean is `mean_seconds`."""
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


def fit_variation(
    mean_seconds: float,
    wire_seconds: float,
    offered_per_second: float,
    percentiles: Sequence[tuple[float, float]],
    num_calls: int = 200_000,
) -> float:
    """Find the variation with which a queue shows measured percentiles of latency, as near as it can.

    Args:
        offered_per_second: Rate of the Poisson arrivals under which they were measured.
        percentiles: (share, latency in seconds); without any the variation is 0.
    """
    from elastic_inference.pool.simulation.calls import serve

    if not percentiles:
        return 0.0
    chance = np.random.default_rng(0)
    arrivals = np.cumsum(chance.standard_exponential(num_calls)) / offered_per_second
    wanted = np.log([latency for _, latency in percentiles])
    places = [min(num_calls - 1, math.ceil(share * num_calls) - 1) for share, _ in percentiles]

    def distance(variation: float) -> float:
        services = ServiceTime(mean_seconds, variation).draw(np.random.default_rng(1), num_calls)
        latencies = np.partition(serve(arrivals, services) - arrivals, places)[places] + wire_seconds
        return float(np.mean((np.log(latencies) - wanted) ** 2))

    tried = [round(0.05 * number, 2) for number in range(41)]
    return min(tried, key=distance)
