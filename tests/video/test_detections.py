"""Outputs of detectors as objects, and when two runs found the same."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from elastic_inference.errors import InvalidInput
from elastic_inference.video.detections import Detections, compare

BOX = (0.1, 0.2, 0.3, 0.4)
OTHER_BOX = (0.5, 0.5, 0.9, 0.9)


def _detections(*objects: tuple[tuple[float, ...], float, int]) -> Detections:
    boxes = np.array([o[0] for o in objects], np.float32).reshape(-1, 4)
    return Detections(
        boxes, np.array([o[1] for o in objects], np.float32), np.array([o[2] for o in objects], np.int64)
    )


def _outputs(**changes: Any) -> dict[str, Any]:
    return {
        "detection_boxes": np.array([[BOX, OTHER_BOX, BOX]], np.float32),
        "detection_scores": np.array([[0.5, 0.9, 0.7]], np.float32),
        "detection_classes": np.array([[3.0, 1.0, 2.0]], np.float32),
        "num_detections": np.array([2.0], np.float32),
    } | changes


def test_outputs_become_objects_best_first_as_many_as_count() -> None:
    found = Detections.from_outputs(_outputs())
    assert found.classes.tolist() == [1, 3]
    assert found.scores.tolist() == pytest.approx([0.9, 0.5])
    assert found.boxes[0].tolist() == pytest.approx(OTHER_BOX)
    assert found.above(0.5).classes.tolist() == [1, 3]
    assert found.above(0.51).classes.tolist() == [1]
    assert len(found.above(1.0)) == 0


def test_without_a_count_all_are_objects() -> None:
    outputs = _outputs()
    del outputs["num_detections"]
    assert Detections.from_outputs(outputs).classes.tolist() == [1, 2, 3]


def test_outputs_of_another_kind_are_refused() -> None:
    with pytest.raises(InvalidInput, match=r"no detector: it gives probs and not detection_boxes"):
        Detections.from_outputs({"probs": np.zeros((1, 10))})
    with pytest.raises(InvalidInput, match=r"detection_boxes \(2, 3, 4\) .* are not those of one picture"):
        Detections.from_outputs(_outputs(detection_boxes=np.zeros((2, 3, 4))))


def test_equal_runs_agree_also_where_close_scores_change_places() -> None:
    one = _detections((BOX, 0.5001, 3), (OTHER_BOX, 0.5, 3))
    other = _detections((OTHER_BOX, 0.5005, 3), (BOX, 0.5, 3))
    agreement = compare([one], [other])
    assert agreement.is_same
    assert agreement.num_compared == 2
    assert agreement.max_score_difference == pytest.approx(5e-4, abs=1e-6)
    assert agreement.max_box_difference == 0


@pytest.mark.parametrize(
    "other",
    [
        _detections((BOX, 0.502, 3)),
        _detections(((0.1, 0.2, 0.3, 0.402), 0.5, 3)),
        _detections((BOX, 0.5, 4)),
        _detections(),
        _detections((BOX, 0.5, 3), (OTHER_BOX, 0.1, 1)),
        _detections((BOX, 0.5, 3), (BOX, 0.5, 3)),
    ],
)
def test_a_score_a_corner_a_class_or_an_object_that_differs_is_seen(other: Detections) -> None:
    one = _detections((BOX, 0.5, 3))
    assert compare([one, one], [one, one]).is_same
    assert not compare([one, one], [one, other]).is_same
    assert not compare([other], [one]).is_same


def test_runs_of_different_length_cannot_be_compared() -> None:
    with pytest.raises(InvalidInput, match="runs of 1 and 0 pictures"):
        compare([_detections()], [])
