"""What of a model is quantized, and what is not: box arithmetic, branches, whatever comes after the last weights."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import openvino as ov
import pytest
from openvino import opset13 as ops

from elastic_inference.engines.openvino import quantize
from elastic_inference.engines.openvino.quantize import correction_seconds, kept_in_float, quantized
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
    made, _ = quantized(model, SAMPLES)
    assert kinds(made)["FakeQuantize"] > 0
    ours = ov.compile_model(made, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})(SAMPLES[0])[0]
    assert np.linalg.norm(ours - exact) < 0.05 * np.linalg.norm(exact)


def deep() -> ov.Model:
    """Six convolutions, whose errors add up from one to the next."""
    chance = np.random.default_rng(3)
    x = features = picture()
    for num_in, num_out in [(3, 16), *[(16, 16)] * 5]:
        weights = chance.normal(0.1, 1, (num_out, num_in, 3, 3)) * 0.15
        offsets = chance.normal(size=(1, num_out, 1, 1))
        made = ops.convolution(
            features, ops.constant(weights.astype(np.float32)), [1, 1], [1, 1], [1, 1], [1, 1]
        )
        features = ops.clamp(ops.add(made, ops.constant(offsets.astype(np.float32))), 0.0, 6.0)
    return ov.Model([features], [x])


def test_biases_are_corrected_by_quantized_layers_where_that_is_quick(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def shift(model: ov.Model) -> float:
        """How far the mean of each channel is from the exact one, over all samples."""
        run = ov.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        answers = np.concatenate([run(sample)[0] for sample in SAMPLES])
        return float(np.abs(answers.mean((0, 2, 3)) - exact.mean((0, 2, 3))).mean())

    run = ov.compile_model(deep(), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    exact = np.concatenate([run(sample)[0] for sample in SAMPLES])
    monkeypatch.setattr(quantize, "_CORRECTION_SECONDS", 1e9)
    thorough, said = quantized(deep(), SAMPLES)
    assert said == "In int8 each bias is corrected by what the quantized layers before it give."
    monkeypatch.setattr(quantize, "_CORRECTION_SECONDS", 0.0)
    quick, said = quantized(deep(), SAMPLES)
    assert "the thorough way would take about" in said
    assert shift(thorough) < shift(quick)


def test_how_long_a_correction_takes() -> None:
    assert correction_seconds(0.02, 60, 21) == pytest.approx(0.02 * 60 * 4)
    assert correction_seconds(0.02, 60, 3) == pytest.approx(0.02 * 60)


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
    made, _ = quantized(ov.Model([ops.relu(result)], [x]), SAMPLES)
    assert kinds(made)["If"] == 1
    assert kinds(made)["FakeQuantize"] > 0


def test_nothing_to_quantize_and_nothing_to_calibrate_on() -> None:
    x = picture()
    with pytest.raises(UnsupportedModel, match="nothing of it gains from int8"):
        quantized(ov.Model([ops.relu(x)], [x]), SAMPLES)
    with pytest.raises(InvalidInput, match="int8 needs samples to calibrate on"):
        quantized(ov.Model([ops.relu(x)], [x]), [])
