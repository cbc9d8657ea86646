"""USD per inference, three ways; pure functions on Decimal. Nothing is rounded here."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal

from elastic_inference.errors import InvalidInput

SECONDS_PER_HOUR = 3600
INFERENCES = 100_000


@dataclass(frozen=True)
class ThroughputPoint:
    """One load that was offered and what came of it.

    Attributes:
        throughput_per_second: Inferences completed each second.
        latency_seconds: At that load, the percentile that the target is about.
    """

    throughput_per_second: float
    latency_seconds: float


def sequential_usd(usd_per_hour: Decimal, latency_seconds: float | Decimal) -> Decimal:
    """Return cost (a), the article's: USD for 100,000 inferences one after another, price x latency.

    Args:
        usd_per_hour: Of client and accelerator together, unrounded: rounded prices give other cents.
        latency_seconds: Mean time of one inference.

    Raises:
        InvalidInput: Price negative, latency not above 0, or one of them not finite.
    """
    price, latency = _price(usd_per_hour), _positive(latency_seconds, "latency_seconds")
    return price * latency * INFERENCES / SECONDS_PER_HOUR


def throughput_usd(usd_per_hour: Decimal, throughput_per_second: float | Decimal) -> Decimal:
    """(b) USD for 100,000 inferences at the greatest throughput that meets the target, kept busy.

    Raises:
        InvalidInput: As `sequential_usd`.
    """
    price, rate = _price(usd_per_hour), _positive(throughput_per_second, "throughput_per_second")
    return price * INFERENCES / (rate * SECONDS_PER_HOUR)


def demand_usd(usd_per_hour: Decimal, capacity_per_second: float, demand_per_second: float) -> Decimal:
    """(c) USD for 100,000 inferences at a demand: ceil(demand / capacity) combinations, idle time paid too.

    Raises:
        InvalidInput: As `sequential_usd`.
    """
    demand = _positive(demand_per_second, "demand_per_second")
    count = num_combinations(capacity_per_second, demand_per_second)
    return count * _price(usd_per_hour) * INFERENCES / (demand * SECONDS_PER_HOUR)


def num_combinations(capacity_per_second: float, demand_per_second: float) -> int:
    """How many equal combinations a demand takes."""
    demand = _positive(demand_per_second, "demand_per_second")
    return math.ceil(demand / _positive(capacity_per_second, "capacity_per_second"))


def greatest_throughput(
    points: Iterable[ThroughputPoint], target_latency_seconds: float | None
) -> float | None:
    """Return the greatest throughput whose latency meets the target, if any; without target, the greatest."""
    rates = [
        point.throughput_per_second
        for point in points
        if target_latency_seconds is None or point.latency_seconds <= target_latency_seconds
    ]
    return max(rates, default=None)


def _price(usd_per_hour: Decimal) -> Decimal:
    if not usd_per_hour.is_finite() or usd_per_hour < 0:
        raise InvalidInput(f"usd_per_hour {usd_per_hour} must be finite and 0 or more")
    return usd_per_hour


def _positive(value: float | Decimal, field: str) -> Decimal:
    # repr keeps the digits that were written: 0.35353 becomes Decimal("0.35353"), not its binary neighbour.
    number = value if isinstance(value, Decimal) else Decimal(repr(float(value)))
    if not number.is_finite() or number <= 0:
        raise InvalidInput(f"{field} {value} must be finite and above 0")
    return number
