"""How far two sets of outputs are apart, and whether that is within a tolerance."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Arrays = Mapping[str, npt.NDArray[Any]]


@dataclass(frozen=True)
class Tolerance:
    """|a - b| <= absolute + relative * |b| for floats; everything else must be equal."""

    relative: float = 1e-4
    absolute: float = 1e-4


@dataclass(frozen=True)
class Deviation:
    """How one output differs.

    Attributes:
        alias: Of the output.
        worst: The largest difference; infinite where it is none of numbers.
        what: The difference in words.
    """

    alias: str
    worst: float
    what: str


def compare(ours: Arrays, theirs: Arrays, tolerance: Tolerance) -> tuple[float, tuple[Deviation, ...]]:
    """Compare outputs with those of the reference.

    Returns:
        The largest difference of all floats, and the outputs that differ by more than the tolerance.
    """
    worst = 0.0
    deviations: list[Deviation] = []
    for alias, wanted in theirs.items():
        got = ours.get(alias)
        if got is None or got.dtype != wanted.dtype or got.shape != wanted.shape:
            deviations.append(Deviation(alias, float("inf"), _form(got, wanted)))
            continue
        difference, is_within = _distance(got, wanted, tolerance)
        worst = max(worst, difference)
        if not is_within.all():
            deviations.append(Deviation(alias, difference, _values(got, wanted, is_within)))
    return worst, tuple(deviations)


def _distance(
    got: npt.NDArray[Any], wanted: npt.NDArray[Any], tolerance: Tolerance
) -> tuple[float, npt.NDArray[np.bool_]]:
    if wanted.dtype.kind not in "fc":
        is_equal = np.asarray(got == wanted)
        return (0.0 if is_equal.all() else _largest(got, wanted)), is_equal
    with np.errstate(all="ignore"):
        is_same = (got == wanted) | (np.isnan(got) & np.isnan(wanted))
        difference = np.where(is_same, 0.0, np.abs(got.astype(np.float64) - wanted.astype(np.float64)))
        allowed = tolerance.absolute + tolerance.relative * np.abs(wanted.astype(np.float64))
        # NaN on one side alone is not within, nor is a number beside an infinite one.
        is_within = is_same | ((difference <= allowed) & np.isfinite(wanted))
    numbers = difference[np.isfinite(difference)]
    if numbers.size < difference.size:
        return float("inf"), is_within
    return (float(numbers.max()) if numbers.size else 0.0), is_within


def _largest(got: npt.NDArray[Any], wanted: npt.NDArray[Any]) -> float:
    if wanted.dtype.kind not in "iub":
        return float("inf")
    return float(np.abs(got.astype(np.float64) - wanted.astype(np.float64)).max())


def _form(got: npt.NDArray[Any] | None, wanted: npt.NDArray[Any]) -> str:
    if got is None:
        return "it is missing"
    return f"it is {got.dtype}{list(got.shape)} instead of {wanted.dtype}{list(wanted.shape)}"


def _values(got: npt.NDArray[Any], wanted: npt.NDArray[Any], is_within: npt.NDArray[np.bool_]) -> str:
    where = tuple(int(axis[0]) for axis in np.nonzero(~np.atleast_1d(is_within)))
    ours, theirs = np.atleast_1d(got)[where], np.atleast_1d(wanted)[where]
    count = int(is_within.size - np.count_nonzero(is_within))
    return (
        f"{count} of {is_within.size} values differ, the first at {list(where)}: {ours} instead of {theirs}"
    )
