"""What counts as agreement of classes, of objects and of other numbers, and what a refusal says."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from elastic_inference.errors import InvalidInput
from elastic_inference.proof.agreement import DEFAULT_TOLERANCES, Criterion, Kind, Pair, judge, kind_of
from elastic_inference.proof.proof import Proof, Verdict

Arrays = dict[str, Any]


def found(*objects: tuple[float, list[float], int]) -> Arrays:
    """The answer of a detector for one picture, filled up to five objects as TensorFlow's detectors do."""
    rows = [*objects, *[(0.0, [0.0, 0.0, 0.0, 0.0], 1)] * (5 - len(objects))]
    return {
        "detection_boxes": np.array([[box for _, box, _ in rows]], np.float32),
        "detection_scores": np.array([[score for score, _, _ in rows]], np.float32),
        "detection_classes": np.array([[kind for _, _, kind in rows]], np.float32),
        "num_detections": np.array([len(objects)], np.float32),
    }


DOG = [0.1, 0.1, 0.5, 0.5]
CAT = [0.6, 0.6, 0.9, 0.9]
OBJECTS = Criterion.of(Kind.DETECTIONS)


def test_kind_is_found_from_the_outputs() -> None:
    assert kind_of(found((0.9, DOG, 1))) is Kind.DETECTIONS
    assert kind_of({"boxes": np.zeros((7, 4)), "scores": np.zeros(7)}) is Kind.DETECTIONS
    assert kind_of({"probs": np.full((2, 4), 0.25, np.float32)}) is Kind.CLASSES
    assert kind_of({"logits": np.array([[3.0, -1.0]], np.float32)}) is Kind.RELATIVE
    assert kind_of({"boxes": np.zeros((1, 7, 4)), "scores": np.zeros((1, 6))}) is Kind.RELATIVE
    assert kind_of({"mask": np.zeros((1, 8, 8), np.float32)}) is Kind.RELATIVE


def test_objects_in_another_order_and_slightly_moved_are_the_same() -> None:
    theirs = found((0.9, DOG, 1), (0.8, CAT, 2))
    ours = found((0.83, [0.6, 0.6, 0.905, 0.9], 2), (0.82, DOG, 1))
    judged = judge(OBJECTS, [Pair("a", ours, theirs)])
    assert judged.agrees
    assert judged.figures["matched_share"] == 1
    assert judged.worst == pytest.approx(0.0775, abs=1e-4)  # at the 95th percentile of 0.08 and 0.03


def test_object_that_falls_below_the_limit_is_looked_for_there() -> None:
    judged = judge(OBJECTS, [Pair("a", found((0.46, DOG, 1)), found((0.52, DOG, 1)))])
    assert judged.agrees
    assert judged.figures["num_objects"] == 1
    assert judge(OBJECTS, [Pair("a", found((0.52, DOG, 1)), found((0.46, DOG, 1)))]).agrees


@pytest.mark.parametrize(
    "ours",
    [
        found(),  # a first quantized model found nothing
        found((0.9, CAT, 1)),  # elsewhere
        found((0.9, DOG, 2)),  # another class
        found((0.9, [0.1, 0.1, 0.5, 0.6], 1)),  # IoU 0.8
    ],
)
def test_object_without_counterpart(ours: Arrays) -> None:
    judged = judge(
        OBJECTS,
        [
            Pair("good.jpg", found((0.9, DOG, 1)), found((0.9, DOG, 1))),
            Pair("bad.jpg", ours, found((0.9, DOG, 1))),
        ],
    )
    assert judged.agrees is False
    assert judged.worst_sample == "bad.jpg"
    assert "1 of 2 objects are in both, with boxes at IoU 0.9, which is less than 90%" in judged.reason


def test_object_that_only_ours_finds() -> None:
    judged = judge(OBJECTS, [Pair("a", found((0.9, DOG, 1), (0.9, CAT, 1)), found((0.9, DOG, 1)))])
    assert judged.agrees is False


def test_scores_too_far_apart() -> None:
    judged = judge(OBJECTS, [Pair("a", found((0.6, DOG, 1)), found((0.9, DOG, 1)))])
    assert judged.agrees is False
    assert judged.worst == pytest.approx(0.3)
    assert judged.reason.startswith("95% of the scores are within 0.3, not 0.1; worst: 0 objects without")
    assert judge(
        Criterion(Kind.DETECTIONS, 0.4), [Pair("a", found((0.6, DOG, 1)), found((0.9, DOG, 1)))]
    ).agrees


def test_pictures_without_objects_prove_nothing() -> None:
    judged = judge(OBJECTS, [Pair("a", found((0.4, DOG, 1)), found((0.3, DOG, 1)))])
    assert judged.agrees is None
    assert judged.reason == "no sample shows an object with a score of 0.5 or more"
    proof = Proof("x", Verdict.AGREES).judged(OBJECTS, judged)
    assert proof.summary() == f"not compared: {judged.reason}"


def test_objects_of_other_shape_or_no_objects_at_all() -> None:
    ours = {"detection_boxes": np.zeros((1, 2, 4)), "detection_scores": np.zeros((1, 3))}
    assert judge(OBJECTS, [Pair("a", ours, found((0.9, DOG, 1)))]).agrees is False
    with pytest.raises(InvalidInput, match="the outputs y are no objects"):
        judge(OBJECTS, [Pair("a", {"y": np.zeros(3)}, {"y": np.zeros(3)})])


def classes(*probabilities: float) -> Arrays:
    return {"probs": np.array([probabilities], np.float32)}


def test_same_first_class_whatever_its_probability() -> None:
    judged = judge(Criterion.of(Kind.CLASSES), [Pair("a", classes(0.4, 0.3, 0.3), classes(0.9, 0.05, 0.05))])
    assert (judged.agrees, judged.worst) == (True, 0.0)
    assert judged.figures == {"num_rows": 1.0, "same_first_share": 1.0}


def test_another_first_class_counts_by_the_margin_of_the_reference() -> None:
    near = judge(Criterion.of(Kind.CLASSES), [Pair("a", classes(0.49, 0.51), classes(0.51, 0.49))])
    assert near.agrees
    assert near.figures["same_first_share"] == 0
    far = judge(
        Criterion.of(Kind.CLASSES),
        [
            Pair("a", classes(0.4, 0.6), classes(0.5, 0.5)),
            Pair("b.png", classes(0.4, 0.6), classes(0.8, 0.2)),
        ],
    )
    assert (far.agrees, far.worst_sample) == (False, "b.png")
    assert far.reason == (
        "output 'probs': class 1 is first instead of class 0, which the reference thinks 0.6 more probable (limit 0.05)"
    )


def test_logits_are_classes_where_somebody_says_so() -> None:
    theirs, ours = {"y": np.float32([[5.0, 1.0, -2.0]])}, {"y": np.float32([[1.0, 5.0, -2.0]])}
    assert judge(Criterion.of(Kind.CLASSES), [Pair("a", ours, theirs)]).agrees is False
    with pytest.raises(InvalidInput, match="no output names classes"):
        judge(Criterion.of(Kind.CLASSES), [Pair("a", {"y": np.zeros(3)}, {"y": np.zeros(3)})])


def test_relative_error_of_a_whole_output() -> None:
    theirs = {"y": np.array([3.0, 4.0, np.inf]), "n": np.array([1, 2, 3, 4])}
    near, far = {**theirs, "y": np.array([3.0, 4.05, np.inf])}, {**theirs, "n": np.array([1, 2, 3, 5])}
    assert judge(Criterion.of(Kind.RELATIVE), [Pair("a", near, theirs)]).worst == pytest.approx(0.01)
    judged = judge(Criterion.of(Kind.RELATIVE), [Pair("a", far, theirs)])
    assert judged.agrees is False
    assert judged.reason == "output 'n': its relative error is 0.25, not 0.02"


@pytest.mark.parametrize("ours", [[np.nan, 4.0], [3.0, np.inf], [0.0]])
def test_numbers_that_are_none(ours: list[float]) -> None:
    judged = judge(
        Criterion.of(Kind.RELATIVE), [Pair("a", {"y": np.array(ours)}, {"y": np.array([3.0, 4.0])})]
    )
    assert judged.agrees is False
    assert judged.worst == float("inf")
    assert Proof("x", Verdict.AGREES).judged(Criterion.of(Kind.RELATIVE), judged).worst is None


def test_nothing_but_zeros() -> None:
    zeros = {"y": np.zeros(2)}
    assert judge(Criterion.of(Kind.RELATIVE), [Pair("a", zeros, zeros)]).agrees
    assert judge(Criterion.of(Kind.RELATIVE), [Pair("a", {"y": np.full(2, 1e-9)}, zeros)]).agrees is False


def test_error_is_no_answer() -> None:
    judged = judge(Criterion.of(Kind.RELATIVE), [Pair("a.jpg", "out of memory", {"y": np.zeros(2)})])
    assert (judged.agrees, judged.worst_sample, judged.reason) == (False, "a.jpg", "it raised out of memory")
    assert judge(Criterion.of(Kind.RELATIVE), []).agrees is None


def test_tolerances_and_kinds_that_do_not_exist() -> None:
    assert Criterion.of(Kind.CLASSES).tolerance == DEFAULT_TOLERANCES[Kind.CLASSES]
    with pytest.raises(InvalidInput, match="tolerance -1 must be above 0"):
        Criterion.of(Kind.CLASSES, -1)
    with pytest.raises(InvalidInput, match="'boxes' is not one of numbers, classes, detections, relative"):
        Kind.parse("boxes")


def test_proof_says_what_was_measured_and_survives_being_kept() -> None:
    pairs = [Pair("a.jpg", found((0.87, DOG, 1)), found((0.9, DOG, 1)))]
    proof = Proof("openvino 1 int8", Verdict.NOT_COMPARED, "tensorflow 2 fp32", 1, 1).judged(
        OBJECTS, judge(OBJECTS, pairs)
    )
    assert proof.summary() == (
        "agrees: openvino 1 int8 against tensorflow 2 fp32 on 1 samples, 1 of 1 objects matched at IoU 0.9, 95% of "
        "scores within 0.03 (limit 0.1)"
    )
    assert Proof.from_json(proof.to_json()) == proof
