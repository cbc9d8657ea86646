"""Objects that a detector finds: which outputs they are, and which of two sets are the same. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Arrays = Mapping[str, npt.NDArray[Any]]
Floats = npt.NDArray[np.float64]

SURE_SCORE = 0.5  # from which an object must be found by both; it may have any score on the other side
LEAST_IOU = 0.9  # of two boxes of the same object


@dataclass(frozen=True)
class Objects:
    """The objects of one picture.

    Attributes:
        boxes: float64[K, 4], two corners in any unit, (y, x) or (x, y).
        scores: float64[K].
        classes: int64[K].
    """

    boxes: Floats
    scores: Floats
    classes: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.scores)


@dataclass(frozen=True)
class Roles:
    """Which output holds what; `classes` and `count` may be absent."""

    boxes: str
    scores: str
    classes: str | None
    count: str | None

    def fits(self, answers: Arrays) -> bool:
        """Whether answers have these outputs, in shapes that go together."""
        if not {self.boxes, self.scores} <= answers.keys():
            return False
        return answers[self.boxes].shape == (*answers[self.scores].shape, 4)

    def read(self, answers: Arrays) -> list[Objects]:
        """Return the objects of each picture, best first."""
        boxes, scores = answers[self.boxes].astype(np.float64), answers[self.scores].astype(np.float64)
        classes = np.zeros(scores.shape) if self.classes is None else answers[self.classes]
        if scores.ndim == 1:
            boxes, scores, classes = boxes[None], scores[None], classes[None]
        counts = (
            [scores.shape[1]] * len(scores) if self.count is None else np.ravel(answers[self.count]).tolist()
        )
        return [
            _best_first(boxes[i][: int(n)], scores[i][: int(n)], classes[i][: int(n)])
            for i, n in enumerate(counts)
        ]


def roles(answers: Arrays) -> Roles | None:
    """Find boxes and scores among a model's outputs, by names and shapes; None for what is no detector."""
    shapes = {alias: array.shape for alias, array in answers.items()}
    # `detection_boxes` goes before `raw_detection_boxes`, which holds what is not yet chosen among.
    names = sorted(shapes, key=lambda alias: ("raw" in alias.lower(), alias))
    for boxes in names:
        shape = shapes[boxes]
        if "box" not in boxes.lower() or len(shape) not in (2, 3) or shape[-1] != 4:
            continue
        same = [alias for alias in names if shapes[alias] == shape[:-1]]
        scores = _named(same, "score", "conf")
        if scores is not None:
            count = _named(
                [a for a in names if shapes[a] in ((), shape[:1], (*shape[:1], 1))], "num", "valid"
            )
            return Roles(boxes, scores, _named(same, "class", "label"), count if len(shape) == 3 else None)
    return None


@dataclass(frozen=True)
class Match:
    """How far one sample's objects are the same.

    Attributes:
        score_differences: float64[M], of each pair of which one side at least is sure.
        num_unmatched: Objects that one side is sure of and the other does not have there; one that moved counts once.
    """

    score_differences: Floats
    num_unmatched: int

    @property
    def worst_score(self) -> float:
        """The largest difference of scores, 0 without pairs."""
        return float(self.score_differences.max(initial=0.0))

    def text(self) -> str:
        """Say it in words."""
        return f"{self.num_unmatched} objects without counterpart, scores up to {self.worst_score:.2g} apart"


def match(ours: list[Objects], theirs: list[Objects]) -> Match:
    """Pair the objects of two answers, picture by picture.

    Whoever is sure of an object looks for it among all of the other's, since a score may fall below the limit on one
    side. The nearest one that is free is taken, best scores first.
    """
    differences: list[float] = []
    num_unmatched = abs(len(ours) - len(theirs))
    for one, other in zip(ours, theirs, strict=False):
        paired, missing = _pairs(one, other)
        differences += [abs(float(one.scores[i] - other.scores[j])) for i, j in paired]
        num_unmatched += missing
    return Match(np.asarray(differences, np.float64), num_unmatched)


def _pairs(one: Objects, other: Objects) -> tuple[list[tuple[int, int]], int]:
    overlap = iou(one.boxes, other.boxes)
    overlap[one.classes[:, None] != other.classes[None, :]] = 0.0
    free_one, free_other = np.ones(len(one), bool), np.ones(len(other), bool)
    pairs, missing_in_other, missing_in_one = [], 0, 0
    for i in np.flatnonzero(one.scores >= SURE_SCORE).tolist():
        j = _nearest(overlap[i], free_other)
        if j is None:
            missing_in_other += 1
            continue
        free_one[i] = free_other[j] = False
        pairs.append((i, j))
    for at in np.flatnonzero((other.scores >= SURE_SCORE) & free_other).tolist():
        found = _nearest(overlap[:, at], free_one & (one.scores < SURE_SCORE))
        if found is None:
            missing_in_one += 1
            continue
        free_one[found] = False
        pairs.append((found, at))
    return pairs, max(missing_in_other, missing_in_one)


def _nearest(overlaps: Floats, is_free: npt.NDArray[np.bool_]) -> int | None:
    if not len(overlaps):
        return None
    best = int(np.where(is_free, overlaps, -1.0).argmax())
    return best if is_free[best] and overlaps[best] >= LEAST_IOU else None


def iou(one: Floats, other: Floats) -> Floats:
    """Return float64[A, B], the intersection over union of each box of `one` with each of `other`; 0 without area."""
    low = np.maximum(one[:, None, :2], other[None, :, :2])
    high = np.minimum(one[:, None, 2:], other[None, :, 2:])
    shared = np.prod(np.clip(high - low, 0, None), axis=2)
    area_one, area_other = (np.prod(np.clip(b[:, 2:] - b[:, :2], 0, None), axis=1) for b in (one, other))
    union = area_one[:, None] + area_other[None, :] - shared
    return np.asarray(np.divide(shared, union, out=np.zeros_like(shared), where=union > 0))


def _best_first(boxes: Floats, scores: Floats, classes: npt.NDArray[Any]) -> Objects:
    order = np.argsort(-scores, kind="stable")
    return Objects(boxes[order], scores[order], classes[order].astype(np.int64))


def _named(names: list[str], *words: str) -> str | None:
    return next((name for word in words for name in names if word in name.lower()), None)
