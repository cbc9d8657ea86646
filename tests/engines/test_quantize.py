"""What of a model is quantized, and what is not: box arithmetic, branches, whatever comes after the last weights."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import openvino as ov
import pytest
from openvino import opset13 as ops

from elastic_inference.engines.openvino.quantize import kept_in_float, quantized
from elastic_inference.errors import InvalidInput, UnsupportedModel

pytest.importorskip("nncf")
CHANCE = np.random.default_rng(0)
SAMPLES = [{"x": CHANCE.random((1, 3, 8, 8), np.float32)} for _ in range(3)]


def convolution(source: Any, num_in: int, num_out: int) -> Any:
    weights = ops.constant((CHANCE.normal(size=(num_out, num_in, 3, 3)) * 0.2).astype(np.float32))
    return ops.convolution(source, weights, [1, 1], [1, 1], [1, 1], [1, 1])


def picture() -> Any:
    parameter = ops.parameter([1, 3, 8, 8], np.float32, name="x")
    parameter.output(0).set_names({"x"})
    return parameter


def kinds(model: ov.Model) -> Counter[str]:
    return Counter(node.get_type_name() for node in model.get_ordered_ops())


def test_what_comes_after_the_last_weights_stays() -> None:
    x = picture()
    features = ops.relu(convolution(x, 3, 4))
    boxes = ops.exp(ops.reshape(convolution(features, 4, 4), ops.constant([1, 64, 4]), False))
    scaled = ops.multiply(boxes, ops.constant(np.float32(100)))
    scaled.set_friendly_name("scaled")
    model = ov.Model([scaled], [x])
    left_out = kept_in_float(model)
    assert left_out is not None
    assert "scaled" in left_out
    assert features.get_friendly_name() not in left_out


def test_model_in_int8_answers_as_before() -> None:
    x = picture()
    model = ov.Model([ops.relu(convolution(ops.relu(convolution(x, 3, 4)), 4, 4))], [x])
    exact = ov.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})(SAMPLES[0])[0].copy()
    made = quantized(model, SAMPLES)
    assert kinds(made)["FakeQuantize"] > 0
    ours = ov.compile_model(made, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})(SAMPLES[0])[0]
    assert np.linalg.norm(ours - exact) < 0.05 * np.linalg.norm(exact)


def test_branch_that_no_sample_takes_is_no_reason_to_fail() -> None:
    x = picture()
    features = ops.relu(convolution(x, 3, 4))
    bodies = []
    for _ in range(2):
        given = ops.parameter([1, 4, 8, 8], np.float32)
        bodies.append(ov.Model([convolution(given, 4, 4)], [given]))
    total = ops.reduce_sum(x, ops.constant([0, 1, 2, 3]), False)
    never = ops.less(total, ops.constant(np.float32(-1e9)))
    branch = ops.if_op(never.output(0))
    branch.set_then_body(bodies[0])
    branch.set_else_body(bodies[1])
    branch.set_input(features.output(0), bodies[0].get_parameters()[0], bodies[1].get_parameters()[0])
    result = branch.set_output(bodies[0].get_results()[0], bodies[1].get_results()[0])
    made = quantized(ov.Model([ops.relu(result)], [x]), SAMPLES)
    assert kinds(made)["If"] == 1
    assert kinds(made)["FakeQuantize"] > 0


def test_nothing_to_quantize_and_nothing_to_calibrate_on() -> None:
    x = picture()
    with pytest.raises(UnsupportedModel, match="nothing of it gains from int8"):
        quantized(ov.Model([ops.relu(x)], [x]), SAMPLES)
    with pytest.raises(InvalidInput, match="int8 needs samples to calibrate on"):
        quantized(ov.Model([ops.relu(x)], [x]), [])
