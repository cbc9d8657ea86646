"""What counts as agreement, and what a proof keeps."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from elastic_inference.errors import InvalidInput
from elastic_inference.proof.agreement import Criterion, Kind, compare
from elastic_inference.proof.proof import Mode, Proof, Verdict
from elastic_inference.proof.samples import made_up
from elastic_inference.tensors import TensorSpec

NAN, INF = np.nan, np.inf


def differs(ours: Any, theirs: Any) -> bool:
    _, deviations = compare({"y": np.asarray(ours)}, {"y": np.asarray(theirs)}, Criterion().tolerance)
    return bool(deviations)


@pytest.mark.parametrize(
    ("ours", "theirs", "is_different"),
    [
        ([1.0], [1.00005], False),
        ([1.0], [1.001], True),
        ([1e6], [1e6 + 50], False),  # relative
        ([NAN, INF], [NAN, INF], False),
        ([NAN], [1.0], True),
        ([INF], [-INF], True),
        ([INF], [3e38], True),
        ([0.0], [-0.0], False),
        ([], [], False),
        ([1.0], [1.0, 1.0], True),
        ([1], [1.0], True),  # another dtype
        ([3], [4], True),
        ([True], [True], False),
    ],
)
def test_values(ours: Any, theirs: Any, is_different: bool) -> None:
    assert differs(ours, theirs) == is_different


def test_strings() -> None:
    ours, theirs = np.array([b"a", b"b"], object), np.array([b"a", b"c"], object)
    assert not differs(ours, ours)
    assert differs(ours, theirs)


def test_deviation_says_where_and_how_much() -> None:
    worst, (deviation,) = compare(
        {"a": np.zeros(3), "b": np.array([[0.0, 0.5]])},
        {"a": np.zeros(3), "b": np.array([[0.0, 0.25]])},
        Criterion().tolerance,
    )
    assert (worst, deviation.alias, deviation.worst) == (0.25, "b", 0.25)
    assert deviation.what == "1 of 2 values differ, the first at [0, 1]: 0.5 instead of 0.25"


def test_missing_output() -> None:
    _, (deviation,) = compare({}, {"y": np.zeros(1)}, Criterion().tolerance)
    assert deviation.what == "it is missing"


def test_proof_says_what_it_found_in_one_line() -> None:
    proof = Proof("openvino 1 fp32", Verdict.AGREES, "tensorflow 2 fp32", 3, 1, Kind.NUMBERS, 1e-4, 2e-7)
    assert proof.summary() == (
        "agrees: openvino 1 fp32 against tensorflow 2 fp32 on 3 samples, largest difference 2e-07"
    )
    assert Proof.from_json(proof.to_json()) == proof


def test_mode() -> None:
    assert Mode.parse("before") is Mode.BEFORE
    with pytest.raises(InvalidInput, match="proof 'later' is not one of 'background', 'before', 'off'"):
        Mode.parse("later")


def test_made_up_values_are_the_same_each_time_and_of_the_shape() -> None:
    specs = {
        "x": TensorSpec("x:0", "float32", (None, None, 3)),
        "ids": TensorSpec("ids:0", "int64", (None, 7)),
        "picture": TensorSpec("p:0", "uint8", (1, 8, 8, 3)),
        "words": TensorSpec("w:0", "string", (2,)),
    }
    one, again, other, zeros = (made_up(specs, {"x": (2, 5, 3)}, seed) for seed in (1, 1, 2, 0))
    assert {alias: array.shape for alias, array in one.items()} == {
        "x": (2, 5, 3), "ids": (1, 7), "picture": (1, 8, 8, 3), "words": (2,),
    }  # fmt: skip
    assert all(np.array_equal(one[alias], again[alias]) for alias in specs)
    assert not np.array_equal(one["x"], other["x"])
    assert one["ids"].max() <= 1
    assert one["picture"].max() > 1
    assert not zeros["x"].any()
