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
        wire_seconds: Of a call beyond queue and computation: transport, (de)serialising. In the mean.
        load_seconds: Reading and compiling the model on an accelerator that starts.
        first_seconds: Computation of the first call after a load, each as likely; none: as any other.
        measured: Computation and wire of calls, each as likely, by rising computation; see `of_measured`.
    """

    mean_seconds: float
    variation: float = 0.0
    wire_seconds: float = 0.0
    load_seconds: float = 0.0
    first_seconds: tuple[float, ...] = ()
    measured: tuple[tuple[float, float], ...] = ()

    @classmethod
    def of_measured(
        cls,
        parts: Sequence[tuple[float, float]],
        load_seconds: float = 0.0,
        first_seconds: Sequence[float] = (),
    ) -> ServiceTime:
        """Return the distribution of measured calls, computation and wire of each, in whatever order; at least one."""
        computations, wires = np.array(parts, np.float64).T
        mean = float(computations.mean())
        variation = float(computations.std()) / mean if mean else 0.0
        wire = float(wires.mean())
        return cls(mean, variation, wire, load_seconds, tuple(first_seconds), tuple(sorted(parts)))

    def __post_init__(self) -> None:
        if not 0 < self.mean_seconds < math.inf:
            raise InvalidInput(f"service time {self.mean_seconds} s must be finite and above 0")
        for name in ("variation", "wire_seconds", "load_seconds"):
            if not 0 <= getattr(self, name) < math.inf:
                raise InvalidInput(f"{name} {getattr(self, name)} must be finite and 0 or more")

    @property
    def least_seconds(self) -> float:
        """What no call takes less than, without queue."""
        return float((self.quantiles + self._wires).min())

    @cached_property
    def _measured(self) -> Floats:
        """float64[2, NUM_QUANTILES]: computations and wires of the measured calls, each call as often."""
        places = (np.arange(NUM_QUANTILES) + 0.5) * len(self.measured) / NUM_QUANTILES
        found: Floats = np.array(self.measured)[places.astype(np.intp)].T
        return found

    @property
    def _wires(self) -> Floats:
        if self.measured:
            wires: Floats = self._measured[1]
            return wires
        return np.broadcast_to(self.wire_seconds, NUM_QUANTILES)

    @cached_property
    def quantiles(self) -> Floats:
        """float64[NUM_QUANTILES], seconds of computation, rising, each as likely."""
        if self.measured:
            computations: Floats = self._measured[0]
            return computations
        if self.variation == 0:
            return np.full(NUM_QUANTILES, self.mean_seconds)
        sigma = math.sqrt(math.log1p(self.variation**2))
        normal = NormalDist()
        middles = [normal.inv_cdf((place + 0.5) / NUM_QUANTILES) for place in range(NUM_QUANTILES)]
        values: Floats = np.exp(sigma * np.array(middles))
        values *= self.mean_seconds / float(values.mean())
        return values

    def draw(self, chance: np.random.Generator, count: int) -> tuple[Floats, Floats]:
        """Return computation and wire of independent calls, each float64[count], in seconds."""
        if not self.measured:
            wires = np.broadcast_to(self.wire_seconds, count)
            if self.variation == 0:
                return np.full(count, self.mean_seconds), wires
        places = chance.integers(0, NUM_QUANTILES, count, np.uint16)
        return self.quantiles[places], self._wires[places] if self.measured else wires
