"""The one definition of a percentile, for measurements, reports and benchmarks alike: nearest rank."""

from __future__ import annotations

import math
from collections.abc import Sequence

from elastic_inference.errors import InvalidInput

# What a product such as 0.07 * 100 = 7.000000000000001 may be off by; no share of a count is that near to another.
_ROUNDING = 1e-9


def percentile(samples: Sequence[float], share: float) -> float:
    """Give the smallest sample that at least `share` of all samples do not exceed.

    It is a value that occurred, never one between two: a latency target is met by requests, not by averages of two of
    them. At the edges, share 0 gives the least sample and 1 the greatest; of an even number 0.5 gives the lower one
    of the middle two; and where so few are there that `share` means more than all but one of them, such as 0.99 of
    fifty, it is the greatest.

    Args:
        samples: At least one, in any order.
        share: 0.95 for p95; 0..1.

    Raises:
        InvalidInput: No samples, or a share outside 0..1.
    """
    if not samples:
        raise InvalidInput("no sample, so no percentile")
    if not 0 <= share <= 1:
        raise InvalidInput(f"share {share} is not between 0 and 1")
    ordered = sorted(samples)
    rank = math.ceil(share * len(ordered) - _ROUNDING)
    return ordered[max(rank, 1) - 1]
