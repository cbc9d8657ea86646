"""Whether two sets of answers agree: number by number, by the classes they name, by the objects they find, or by size.

Everything that is compared here is judged here: engines against the reference, precisions against float32, two runs of
a video. What a sample is and who computed it is the caller's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

import numpy as np
import numpy.typing as npt

from elastic_inference.errors import InvalidInput
from elastic_inference.proof import objects

Arrays = Mapping[str, npt.NDArray[Any]]

_SUM_TOLERANCE = 0.02  # of a probability vector in bfloat16 beside 1


class Kind(Enum):
    """By what answers are judged, and what the tolerance is a tolerance of."""

    NUMBERS = "numbers"  # every number: |a - b| <= tolerance + tolerance * |b|; all but floats equal
    CLASSES = "classes"  # by how much less probable the reference thinks the class that ours names first
    DETECTIONS = "detections"  # difference of scores of matched objects, at the 95th percentile
    RELATIVE = "relative"  # |a - b| / |b| of a whole output; of integers, the share that differs

    @classmethod
    def parse(cls, text: str) -> Kind:
        """Return the kind of this name; raises InvalidInput with all names."""
        try:
            return cls(text)
        except ValueError:
            names = ", ".join(kind.value for kind in cls)
            raise InvalidInput(f"kind of agreement {text!r:.40} is not one of {names}") from None


DEFAULT_TOLERANCES: Mapping[Kind, float] = {
    Kind.NUMBERS: 1e-4,
    Kind.CLASSES: 0.05,
    Kind.DETECTIONS: 0.1,
    Kind.RELATIVE: 0.02,
}
"""Of a lower precision; docs/precision.md says where they come from."""

SAME_PRECISION_TOLERANCE = 1e-3
"""Of two engines that both compute in float32, whatever the kind."""

LEAST_MATCHED_SHARE = 0.9
"""Of the objects that either side is sure of; a box that moves a little beyond IoU 0.9 is nothing that anybody sees."""


@dataclass(frozen=True)
class Criterion:
    """By what to judge.

    Attributes:
        tolerance: Above 0; what it is a tolerance of, the kind says.
    """

    kind: Kind = Kind.NUMBERS
    tolerance: float = DEFAULT_TOLERANCES[Kind.NUMBERS]

    def __post_init__(self) -> None:
        if not 0 < self.tolerance < float("inf"):
            raise InvalidInput(f"tolerance {self.tolerance} must be above 0")

    @classmethod
    def of(cls, kind: Kind, tolerance: float | None = None) -> Criterion:
        """Take the kind's own tolerance where none is given."""
        return cls(kind, DEFAULT_TOLERANCES[kind] if tolerance is None else tolerance)


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


@dataclass(frozen=True)
class Pair:
    """One sample's answers. `ours` may be the text of an error that the reference did not raise."""

    sample: str
    ours: Arrays | str
    theirs: Arrays


@dataclass(frozen=True)
class Judgement:
    """What came of comparing some samples.

    Attributes:
        agrees: None where the samples decide nothing; `reason` then says why.
        worst: The largest difference, in the unit of the criterion's tolerance; infinite where it is none of numbers.
        worst_sample: Which sample it was.
        figures: Further numbers by name, such as `matched_share`.
        reason: Where it differs and by how much; "" where it agrees.
    """

    agrees: bool | None
    worst: float = 0.0
    worst_sample: str = ""
    figures: Mapping[str, float] = field(default_factory=dict)
    reason: str = ""


def kind_of(answers: Arrays) -> Kind:
    """Find out what a model's answers are: objects, probabilities of classes, or any numbers."""
    if objects.roles(answers) is not None:
        return Kind.DETECTIONS
    return Kind.CLASSES if _probabilities(answers) else Kind.RELATIVE


def judge(criterion: Criterion, pairs: Sequence[Pair]) -> Judgement:
    """Compare answers with those of the reference, sample by sample.

    Raises:
        InvalidInput: The criterion's kind does not fit the answers.
    """
    if not pairs:
        return Judgement(None, reason="there were no samples")
    for pair in pairs:
        if isinstance(pair.ours, str):
            return Judgement(False, float("inf"), pair.sample, reason=f"it raised {pair.ours}")
    if criterion.kind is Kind.DETECTIONS:
        return _judge_objects(criterion, pairs)
    found = [(pair, _worst_of(criterion, pair)) for pair in pairs]
    pair, (worst, deviation) = max(found, key=lambda each: (each[1][1] is not None, each[1][0]))
    figures = {} if criterion.kind is not Kind.CLASSES else _class_figures(pairs)
    if deviation is None:
        return Judgement(True, worst, pair.sample, figures)
    return Judgement(
        False, deviation.worst, pair.sample, figures, f"output {deviation.alias!r}: {deviation.what}"
    )


def _worst_of(criterion: Criterion, pair: Pair) -> tuple[float, Deviation | None]:
    """Return the largest difference of a sample, and the worst output that is not within the tolerance."""
    assert not isinstance(pair.ours, str)
    of = {Kind.NUMBERS: compare, Kind.CLASSES: _regret, Kind.RELATIVE: _relative}[criterion.kind]
    worst, deviations = of(pair.ours, pair.theirs, criterion.tolerance)
    return worst, max(deviations, key=lambda each: each.worst, default=None)


def compare(
    ours: Arrays, theirs: Arrays, tolerance: float, absolute: float | None = None
) -> tuple[float, Sequence[Deviation]]:
    """Compare outputs with those of the reference, number by number.

    Args:
        tolerance: |a - b| <= absolute + tolerance * |b|; by default both are the same.

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
        difference, is_within = _distance(got, wanted, tolerance, tolerance if absolute is None else absolute)
        worst = max(worst, difference)
        if not is_within.all():
            deviations.append(Deviation(alias, difference, _values(got, wanted, is_within)))
    return worst, deviations


def _distance(
    got: npt.NDArray[Any], wanted: npt.NDArray[Any], relative: float, absolute: float
) -> tuple[float, npt.NDArray[np.bool_]]:
    if wanted.dtype.kind not in "fc":
        is_equal = np.asarray(got == wanted)
        return (0.0 if is_equal.all() else _largest(got, wanted)), is_equal
    with np.errstate(all="ignore"):
        is_same = (got == wanted) | (np.isnan(got) & np.isnan(wanted))
        difference = np.where(is_same, 0.0, np.abs(got.astype(np.float64) - wanted.astype(np.float64)))
        allowed = absolute + relative * np.abs(wanted.astype(np.float64))
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


def _relative(ours: Arrays, theirs: Arrays, tolerance: float) -> tuple[float, Sequence[Deviation]]:
    worst, deviations = 0.0, []
    for alias, wanted in theirs.items():
        got = ours.get(alias)
        if got is None or got.dtype != wanted.dtype or got.shape != wanted.shape:
            deviations.append(Deviation(alias, float("inf"), _form(got, wanted)))
            continue
        error = _relative_error(got, wanted)
        worst = max(worst, error)
        if error > tolerance:
            deviations.append(
                Deviation(alias, error, f"its relative error is {error:.2g}, not {tolerance:g}")
            )
    return worst, deviations


def _relative_error(got: npt.NDArray[Any], wanted: npt.NDArray[Any]) -> float:
    if not wanted.size:
        return 0.0
    if wanted.dtype.kind not in "fc":
        return float(np.mean(np.asarray(got != wanted)))
    is_same = (got == wanted) | (np.isnan(got) & np.isnan(wanted))
    if not (np.isfinite(got) | is_same).all() or not (np.isfinite(wanted) | is_same).all():
        return float("inf")
    kept = np.where(np.isfinite(wanted), wanted, 0).astype(np.float64)
    size = float(np.linalg.norm(kept))
    distance = float(np.linalg.norm(np.where(is_same, 0, got.astype(np.float64) - kept)))
    return distance / size if size else (0.0 if not distance else float("inf"))


def _probabilities(answers: Arrays) -> list[str]:
    """Return the outputs whose rows are probabilities of classes."""
    found = []
    for alias, array in answers.items():
        if array.dtype.kind != "f" or array.ndim != 2 or array.shape[1] < 2 or not array.size:
            continue
        if array.min() >= 0 and np.allclose(array.sum(axis=1, dtype=np.float64), 1, atol=_SUM_TOLERANCE):
            found.append(alias)
    return found


def _class_outputs(answers: Arrays) -> list[str]:
    """Return the outputs that name classes: probabilities, else rows of numbers of which the largest counts."""
    found = _probabilities(answers) or [
        alias
        for alias, array in answers.items()
        if array.dtype.kind == "f" and array.ndim == 2 and array.shape[1] > 1
    ]
    if not found:
        shapes = ", ".join(f"{alias} {list(array.shape)}" for alias, array in answers.items())
        raise InvalidInput(f"no output names classes by a row of two numbers or more: {shapes}")
    return found


def _as_probabilities(array: npt.NDArray[Any], are_probabilities: bool) -> npt.NDArray[np.float64]:
    values: npt.NDArray[np.float64] = array.astype(np.float64)
    if are_probabilities:
        return values
    raised = np.exp(values - values.max(axis=1, keepdims=True))
    return np.asarray(raised / raised.sum(axis=1, keepdims=True))


def _regret(ours: Arrays, theirs: Arrays, tolerance: float) -> tuple[float, Sequence[Deviation]]:
    """How much less probable the class that ours names is to the reference than the one that it names itself."""
    worst, deviations = 0.0, []
    for alias in _class_outputs(theirs):
        wanted, got = theirs[alias], ours.get(alias)
        if got is None or got.shape != wanted.shape or not np.isfinite(got).all():
            what = "it is not finite" if got is not None and got.shape == wanted.shape else _form(got, wanted)
            deviations.append(Deviation(alias, float("inf"), what))
            continue
        probable = _as_probabilities(wanted, bool(_probabilities({alias: wanted})))
        rows = np.arange(len(wanted))
        first, named = probable.argmax(axis=1), got.argmax(axis=1)
        regret = probable[rows, first] - probable[rows, named]
        worst = max(worst, float(regret.max(initial=0.0)))
        if worst > tolerance:
            row = int(regret.argmax())
            deviations.append(
                Deviation(
                    alias, float(regret[row]), f"class {named[row]} is first instead of class {first[row]}, "
                    f"which the reference thinks {regret[row]:.2g} more probable (limit {tolerance:g})",
                )
            )  # fmt: skip
    return worst, deviations


def _class_figures(pairs: Sequence[Pair]) -> dict[str, float]:
    same: list[bool] = []
    for pair in pairs:
        assert not isinstance(pair.ours, str)
        for alias in _class_outputs(pair.theirs):
            got, wanted = pair.ours.get(alias), pair.theirs[alias]
            if got is None or got.shape != wanted.shape:
                return {}
            same += (got.argmax(axis=1) == wanted.argmax(axis=1)).tolist()
    return {"num_rows": float(len(same)), "same_first_share": float(np.mean(same)) if same else 1.0}


def _judge_objects(criterion: Criterion, pairs: Sequence[Pair]) -> Judgement:
    matches = []
    for pair in pairs:
        assert not isinstance(pair.ours, str)
        found = objects.roles(pair.theirs)
        if found is None:
            raise InvalidInput(
                f"the outputs {', '.join(pair.theirs)} are no objects: boxes [N, K, 4] and scores [N, K] were not found"
            )
        if not found.fits(pair.ours):
            return Judgement(False, float("inf"), pair.sample, reason="boxes or scores have another shape")
        matches.append(objects.match(found.read(pair.ours), found.read(pair.theirs)))
    differences = np.concatenate([match.score_differences for match in matches])
    num_unmatched = sum(match.num_unmatched for match in matches)
    num_objects = len(differences) + num_unmatched
    if not num_objects:
        return Judgement(
            None, reason=f"no sample shows an object with a score of {objects.SURE_SCORE:g} or more"
        )
    worst = float(np.percentile(differences, 95)) if len(differences) else float("inf")
    share = len(differences) / num_objects
    figures = {
        "num_objects": float(num_objects),
        "matched_share": share,
        "p95_score_difference": worst,
        "max_score_difference": float(differences.max(initial=0.0)),
    }
    index = max(range(len(matches)), key=lambda i: (matches[i].num_unmatched, matches[i].worst_score))
    at = pairs[index].sample
    if share >= LEAST_MATCHED_SHARE and worst <= criterion.tolerance:
        return Judgement(True, worst, at, figures)
    reason = (
        f"95% of the scores are within {worst:.2g}, not {criterion.tolerance:g}"
        if share >= LEAST_MATCHED_SHARE
        else f"{len(differences)} of {num_objects} objects are in both, with boxes at IoU {objects.LEAST_IOU:g}, "
        f"which is less than {LEAST_MATCHED_SHARE:.0%}"
    ) + f"; worst: {matches[index].text()}"
    return Judgement(False, worst, at, figures, reason)
