"""What is known of one model: shapes apart, memory used again, trials that are repeated, and what is said of it."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

from elastic_inference.accelerator.batching.model import (
    FIRST_RETRY_SECONDS,
    LONGEST_RETRY_SECONDS,
    MAX_SHAPES,
    MOST_SAMPLE_BYTES,
    TRYING,
    Mode,
    ModelBatching,
    Options,
    ShapeBatching,
)
from elastic_inference.accelerator.batching.trial import Outcome
from elastic_inference.accelerator.load_request import LoadRequest
from elastic_inference.engines.base import Arrays
from elastic_inference.errors import InvalidInput
from elastic_inference.models.signature import Signature
from elastic_inference.proof.proof import Proof, Verdict
from elastic_inference.tensors import TensorSpec

SPEC = TensorSpec("x:0", "float32", (None, None))
SIGNATURE = Signature({"x": SPEC}, {"y": SPEC})
PROOF = Proof("up to 8 rows together", Verdict.AGREES, "each row alone", 4, worst=0.0)
FOUND = Outcome({1: 0.010, 8: 0.020}, PROOF)


def rows(num_rows: int, num_columns: int = 3, value: float = 1.0) -> Arrays:
    return {"x": np.full((num_rows, num_columns), value, np.float32)}


def of(model: ModelBatching, inputs: Arrays, engine: str = "") -> ShapeBatching:
    shape = model.shape(inputs, engine)
    assert shape is not None
    return shape


def test_requests_of_one_shape_but_for_their_rows_are_known_together() -> None:
    model = ModelBatching(SIGNATURE)
    assert of(model, rows(1)) is of(model, rows(5))
    assert of(model, rows(1, 4)) is not of(model, rows(1))
    assert model.fits(rows(1), rows(5))
    assert not model.fits(rows(1), rows(1, 4))
    assert [model.num_rows(rows(number)) for number in (1, 5)] == [1, 5]


def test_the_shape_not_seen_for_longest_is_forgotten() -> None:
    model = ModelBatching(SIGNATURE)
    first, second = of(model, rows(1, 1)), of(model, rows(1, 2))
    for num_columns in range(3, MAX_SHAPES + 2):
        assert of(model, rows(1, 1)) is first
        of(model, rows(1, num_columns))
    assert of(model, rows(1, 2)) is not second


@pytest.mark.parametrize(
    "inputs",
    [{"x": np.zeros((2, 3)), "z": np.zeros((1, 3))}, {"x": np.zeros(())}, {"x": np.zeros((0, 3))}, {}],
)
def test_inputs_without_common_rows_run_alone(inputs: Arrays) -> None:
    model = ModelBatching(SIGNATURE)
    assert model.shape(inputs, "") is None
    assert not model.fits(inputs, inputs)


def test_nothing_is_known_of_an_engine_that_took_over() -> None:
    model = ModelBatching(SIGNATURE, engine="openvino")
    before = of(model, rows(1), "openvino")
    after = of(model, rows(1), "tensorflow")
    assert after is not before
    assert of(model, rows(1), "tensorflow") is after


def test_a_batch_is_filled_up_in_aligned_memory_that_is_used_again() -> None:
    shape = ShapeBatching()
    batch = shape.filled(4, [rows(1, value=1), rows(2, value=2)])["x"]
    assert batch.tolist() == [[1] * 3, [2] * 3, [2] * 3, [1] * 3]
    assert batch.ctypes.data % 64 == 0
    assert batch.flags.c_contiguous
    larger = shape.filled(8, [rows(1, value=3)] * 8)["x"]
    assert not np.may_share_memory(batch, larger)
    again = shape.filled(2, [rows(1, value=4), rows(1, value=5)])["x"]
    assert np.may_share_memory(larger, again)
    assert again.tolist() == [[4] * 3, [5] * 3]


def test_a_trial_begins_with_the_rows_of_two_calls_and_is_repeated_less_and_less_often() -> None:
    shape, now, waits = ShapeBatching(), 1000.0, []
    for _ in range(8):
        assert shape.wants_sample(now)
        assert not shape.keep_sample(rows(3, value=7))
        assert shape.keep_sample(rows(1, value=8))
        assert [sample["x"].tolist() for sample in shape.samples] == [[[7.0] * 3], [[8.0] * 3]]
        assert not shape.wants_sample(now)  # while it is on its way
        shape.conclude(Outcome(reason="8 rows take 9 ms together and 8 ms one by one"), now)
        until = next(now + s for s in range(1, 10_000) if shape.wants_sample(now + s))
        waits.append(until - now)
        now = until
    assert waits == [min(FIRST_RETRY_SECONDS * 2**place, LONGEST_RETRY_SECONDS) for place in range(8)]


def test_sizes_are_taken_up_while_the_trial_lasts() -> None:
    shape = ShapeBatching()
    shape.adopt({1: 0.010})
    assert shape.costs is None
    shape.adopt({1: 0.010, 2: 0.012})
    assert shape.costs is not None
    assert shape.costs.sizes() == [2]
    shape.adopt({1: 0.010, 2: 0.012, 4: 0.014})
    assert shape.costs.sizes() == [2, 4]
    shape.conclude(Outcome({1: 0.010, 2: 0.012, 4: 0.014}), 0.0)
    assert not shape.wants_sample(1e9)


def test_rows_too_large_to_keep_are_not_tried() -> None:
    shape = ShapeBatching()
    assert not shape.keep_sample({"x": np.zeros((1, MOST_SAMPLE_BYTES), np.uint8)})
    assert shape.outcome is not None
    assert shape.outcome.reason == "the inputs of one row exceed 8 MiB"
    assert not shape.wants_sample(1e9)


def test_nothing_runs_together_where_the_memory_is_too_small_for_two() -> None:
    shape = ShapeBatching()
    shape.adopt({1: 0.010, 2: 0.012})
    shape.adopt({1: 0.010, 2: 0.012, 4: 0.014})
    shape.forbid(4, "the memory is too small")
    assert shape.costs is not None
    assert shape.costs.sizes() == [2]
    shape.forbid(2, "the memory is too small")
    assert shape.costs is None
    assert shape.outcome == Outcome(reason="the memory is too small")


def test_what_is_said_of_a_model() -> None:
    model = ModelBatching(SIGNATURE)
    assert model.summary() == "not batched yet: that is tried when requests wait together"
    shape = of(model, rows(1))
    shape.is_trying = True
    assert model.summary().endswith(TRYING)
    shape.adopt(FOUND.seconds_of)
    assert (
        model.summary()
        == f"batched: up to 8 rows together, in 20 ms instead of 80 ms; every value as alone{TRYING}"
    )
    shape.conclude(FOUND, 0.0)
    assert (
        model.summary() == "batched: up to 8 rows together, in 20 ms instead of 80 ms; every value as alone"
    )
    of(model, rows(1, 4)).conclude(Outcome(reason="no gain"), 0.0)
    assert model.summary().startswith("batched: up to 8 rows")  # of another shape
    model.refuse("it mixes rows")
    assert model.summary() == "not batched: it mixes rows"
    assert model.shape(rows(1), "") is None


def test_how_far_answers_are_apart_is_said() -> None:
    model = ModelBatching(SIGNATURE, options=Options(Mode.CLOSE))
    shape = of(model, rows(1))
    shape.adopt(FOUND.seconds_of)
    shape.conclude(Outcome(FOUND.seconds_of, Proof("", Verdict.AGREES, worst=3e-7)), 0.0)
    assert model.summary().endswith("; values within 3e-07 of those alone")


@pytest.mark.parametrize(
    ("asked", "text"),
    [
        ({"batching": "on"}, "batching 'on' is not one of 'auto', 'close', 'off'"),
        ({"max_batch_rows": 0}, "max_batch_rows must be 1 to 1024, not 0"),
        ({"max_batch_rows": 1025}, "max_batch_rows must be 1 to 1024, not 1025"),
        ({"max_batch_rows": "8"}, "max_batch_rows must be an integer or null, not '8'"),
        ({"max_batch_delay_seconds": -0.1}, "max_batch_delay_seconds must be 0 to 1, not -0.1"),
        ({"max_batch_delay_seconds": 2}, "max_batch_delay_seconds must be 0 to 1, not 2"),
    ],
)
def test_what_is_asked_for_wrongly_is_refused(asked: dict[str, Any], text: str) -> None:
    with pytest.raises(InvalidInput, match=re.escape(text)):
        LoadRequest.of({"package": {}, "signature": {}, **asked}).batch_options()


def test_what_is_not_asked_for_is_the_default() -> None:
    assert LoadRequest.of({"package": {}, "signature": {}}).batch_options() == Options()
