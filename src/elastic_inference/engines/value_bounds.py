"""How large the numbers of a tensor can become: intervals, and sizes and positions, which are small by nature.

A size of a tensor, a position in one or a count of elements is bounded by what fits into memory, and so are products of
sizes: they describe tensors. Such values are followed as a multiple of a size. Whatever else a model computes is an
interval of numbers.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

MAX_FACTOR = 128.0  # times a size: 16 million elements, 128-fold, are the end of int32
SMALL = 65536.0  # what may be added to sizes, or multiplied with them, and still be one of theirs


@dataclass(frozen=True)
class Bound:
    """What is known of all numbers of a tensor.

    Attributes:
        low, high: Both inclusive; infinite where nothing is known.
        factor: None for any numbers; else they are sizes or positions, at most that many times: low and high then
            say nothing.
        is_constant: Whether the model holds the numbers, so that no input changes them.
    """

    low: float = -math.inf
    high: float = math.inf
    factor: float | None = None
    is_constant: bool = False

    @property
    def is_size(self) -> bool:
        """Whether these are sizes or positions, and not too large a multiple of them."""
        return self.factor is not None and self.factor <= MAX_FACTOR

    @property
    def magnitude(self) -> float:
        """The largest absolute value; of sizes the factor."""
        return self.factor if self.factor is not None else max(abs(self.low), abs(self.high))

    def fits(self, low: float, high: float) -> bool:
        """Whether all numbers lie in this range, as sizes do."""
        return self.is_size or (self.factor is None and self.low >= low and self.high <= high)


ANYTHING = Bound()
SIZE = Bound(factor=1.0)


def join(*bounds: Bound) -> Bound:
    """Numbers of any of the tensors."""
    if any(bound.factor is not None for bound in bounds):
        return _of_sizes(max, bounds)
    return Bound(
        min(bound.low for bound in bounds),
        max(bound.high for bound in bounds),
        is_constant=all(bound.is_constant for bound in bounds),
    )


def add(a: Bound, b: Bound) -> Bound:
    """Return sums."""
    if a.factor is not None or b.factor is not None:
        return _of_sizes(lambda x, y: x + y, (a, b))
    return Bound(a.low + b.low, a.high + b.high)


def negate(a: Bound) -> Bound:
    """Negative numbers."""
    return a if a.factor is not None else Bound(-a.high, -a.low)


def multiply(a: Bound, b: Bound) -> Bound:
    """Products."""
    if a.factor is not None or b.factor is not None:
        return _of_sizes(lambda x, y: max(x, 1.0) * max(y, 1.0), (a, b), is_product=True)
    return _corners(a, b, lambda x, y: 0.0 if 0.0 in (x, y) else x * y)


def divide(a: Bound, b: Bound) -> Bound:
    """Quotients; a divisor is taken to be at least 1 in integers, and to be anything else otherwise."""
    if a.factor is not None:
        return a if b.factor is not None or b.low >= 1 else _of_sizes(max, (a, b))
    if b.factor is None and b.low > 0:
        return _corners(a, b, lambda x, y: x / y if math.isfinite(y) else 0.0)
    return Bound(-a.magnitude, a.magnitude)


def remainder(a: Bound, b: Bound) -> Bound:
    """Remainders of a division, of either sign."""
    if a.factor is not None and not (b.factor is None and b.magnitude <= SMALL):
        return a
    if b.factor is not None:
        return b
    return Bound(-b.magnitude, b.magnitude)


def minimum(a: Bound, b: Bound) -> Bound:
    """Return the smaller of two numbers."""
    if a.factor is not None or b.factor is not None:
        return a if a.factor is not None else b
    return Bound(min(a.low, b.low), min(a.high, b.high))


def maximum(a: Bound, b: Bound) -> Bound:
    """Return the larger of two numbers."""
    if a.factor is not None or b.factor is not None:
        return join(a, b)
    return Bound(max(a.low, b.low), max(a.high, b.high))


def power(a: Bound, b: Bound) -> Bound:
    """Powers of any numbers with a constant exponent that is not negative; otherwise anything."""
    if b.low == b.high and 0 <= b.low <= 64 and a.factor is None and math.isfinite(a.magnitude):
        largest = a.magnitude**b.low
        return Bound(-largest, largest)
    return ANYTHING


def absolute(a: Bound) -> Bound:
    """Numbers without their sign."""
    return a if a.factor is not None else Bound(0.0, a.magnitude)


def sum_of(a: Bound, count: int | None) -> Bound:
    """Return sums of `count` numbers; None: of as many as a tensor may have."""
    if a.factor is None and a.magnitude <= 1:  # counting
        return SIZE
    if a.factor is not None:
        return _of_sizes(lambda x, y: x * y, (a, Bound(1, float(count or 16))), is_product=True)
    return multiply(a, Bound(0.0, math.inf if count is None else float(count)))


def _of_sizes(
    combine: Callable[[float, float], float], bounds: tuple[Bound, ...], is_product: bool = False
) -> Bound:
    """Sizes together with sizes or with numbers; large numbers make numbers of them."""
    factor = 1.0 if is_product else 0.0
    for bound in bounds:
        if bound.factor is None and bound.magnitude > SMALL:
            return ANYTHING
        # A small number beside a size is less than one; a product with it is a multiple.
        other = (
            bound.magnitude if bound.factor is not None or is_product else min(bound.magnitude / SMALL, 1.0)
        )
        factor = combine(factor, other)
    return Bound(factor=factor)


def _corners(a: Bound, b: Bound, operation: Callable[[float, float], float]) -> Bound:
    values = [operation(x, y) for x in (a.low, a.high) for y in (b.low, b.high)]
    if any(math.isnan(value) for value in values):
        return ANYTHING
    return Bound(min(values), max(values))
