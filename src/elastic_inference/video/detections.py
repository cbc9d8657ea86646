"""What a detector found in one picture, and whether two detectors found the same. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from elastic_inference.errors import InvalidInput

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Detections:
    """K objects, best first.

    Attributes:
        boxes: float32[K, 4]: ymin, xmin, ymax, xmax as shares of height and width, 0..1.
        scores: float32[K], 0..1.
        classes: int64[K], ids of the model's label file.
    """

    boxes: Floats
    scores: Floats
    classes: npt.NDArray[np.int64]

    @classmethod
    def from_outputs(cls, outputs: Mapping[str, npt.NDArray[Any]]) -> Detections:
        """Take the outputs of a detector for one picture, as TensorFlow's Object Detection API names them.

        Args:
            outputs: `detection_boxes` [1, N, 4], `detection_scores` [1, N], `detection_classes` [1, N] and, where
                fewer than N count, `num_detections` [1].

        Raises:
            InvalidInput: An output is missing or has another shape.
        """
        missing = {"detection_boxes", "detection_scores", "detection_classes"} - outputs.keys()
        if missing:
            raise InvalidInput(
                f"the model is no detector: it gives {', '.join(sorted(outputs))} and not {', '.join(sorted(missing))}"
            )
        boxes = np.asarray(outputs["detection_boxes"], np.float32)
        scores = np.asarray(outputs["detection_scores"], np.float32)
        if scores.ndim != 2 or scores.shape[0] != 1 or boxes.shape != (*scores.shape, 4):
            raise InvalidInput(
                f"detection_boxes {boxes.shape} and detection_scores {scores.shape} are not those of one picture"
            )
        classes = np.asarray(outputs["detection_classes"]).astype(np.int64)
        count = scores.shape[1]
        if "num_detections" in outputs:
            count = min(count, int(np.ravel(outputs["num_detections"])[0]))
        order = np.argsort(-scores[0, :count], kind="stable")
        return cls(boxes[0][order], scores[0][order], classes[0][order])

    def __len__(self) -> int:
        return len(self.scores)

    def to_outputs(self) -> dict[str, npt.NDArray[Any]]:
        """Return what `from_outputs` makes them of."""
        return {
            "detection_boxes": self.boxes[None],
            "detection_scores": self.scores[None],
            "detection_classes": self.classes[None],
        }

    def above(self, score: float) -> Detections:
        """Those with at least this score."""
        keep = self.scores >= score
        return Detections(self.boxes[keep], self.scores[keep], self.classes[keep])


TOLERANCE = 1e-3  # of scores and of box corners, both 0..1


@dataclass(frozen=True)
class Agreement:
    """How far two runs over the same pictures agree.

    Attributes:
        num_compared: Objects that either run found; a pair counts once.
        num_unmatched: Those without a counterpart: same class, score and box within `TOLERANCE`.
        max_score_difference, max_box_difference: Over the pairs.
    """

    num_frames: int
    num_compared: int
    num_unmatched: int
    max_score_difference: float
    max_box_difference: float

    @property
    def is_same(self) -> bool:
        """Whether every object of either run is in the other."""
        return self.num_unmatched == 0


def compare(first: list[Detections], second: list[Detections]) -> Agreement:
    """Match the objects of two runs, picture by picture.

    Raises:
        InvalidInput: The runs have different numbers of pictures.
    """
    if len(first) != len(second):
        raise InvalidInput(f"runs of {len(first)} and {len(second)} pictures cannot be compared")
    compared = unmatched = 0
    score_difference = box_difference = 0.0
    for one, other in zip(first, second, strict=True):
        pairs = _pairs(one, other)
        num_distinct = len(one) + len(other) - len(pairs)
        compared += num_distinct
        unmatched += num_distinct - len(pairs)
        for i, j in pairs:
            score_difference = max(score_difference, abs(float(one.scores[i] - other.scores[j])))
            box_difference = max(box_difference, float(np.abs(one.boxes[i] - other.boxes[j]).max()))
    return Agreement(len(first), compared, unmatched, score_difference, box_difference)


def _pairs(one: Detections, other: Detections) -> list[tuple[int, int]]:
    """Each object of `one` with the nearest free one of `other` that is within the tolerance."""
    free = np.ones(len(other), bool)
    pairs = []
    for i in range(len(one)):
        near = free & (other.classes == one.classes[i]) & (np.abs(other.scores - one.scores[i]) <= TOLERANCE)
        distance = np.where(near, np.abs(other.boxes - one.boxes[i]).max(axis=1, initial=0), np.inf)
        j = int(distance.argmin()) if len(other) else -1
        if j >= 0 and distance[j] <= TOLERANCE:
            free[j] = False
            pairs.append((i, j))
    return pairs
