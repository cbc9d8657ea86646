"""TFLite models on LiteRT, and behind OpenVINO."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from elastic_inference import EIPredictor
from elastic_inference.errors import ElasticInferenceError, InvalidArgumentError, InvalidModel
from tests.engines.build import images
from tests.engines.conftest import Load

pytest.importorskip("ai_edge_litert")


def test_same_answers_as_openvino(models: Path, load: Load) -> None:
    ours, reference = (load(models / "model.tflite", engine=engine) for engine in ("openvino", "litert"))
    assert ours.signature.inputs.keys() == reference.signature.inputs.keys()
    assert ours.signature.outputs.keys() == reference.signature.outputs.keys()
    (alias,), (output,) = ours.signature.inputs, ours.signature.outputs
    for count in (1, 3, 2):  # the number of pictures may change from call to call
        inputs = {alias: images(count)}
        np.testing.assert_allclose(reference.predict(inputs)[output], ours.predict(inputs)[output], atol=1e-5)
    assert reference.report.engine == "litert"


def test_nan_goes_to_litert(models: Path, load: Load) -> None:
    model = load(models / "model.tflite")
    (alias,) = model.signature.inputs
    assert model.report.engine == "openvino"
    picture = images(1)
    picture[0, 0, 0, 0] = np.nan
    (given,) = model.predict({alias: picture}).values()
    (wanted,) = load(models / "model.tflite", engine="litert").predict({alias: picture}).values()
    np.testing.assert_array_equal(given, wanted)


def test_values_that_do_not_fit(models: Path, load: Load) -> None:
    model = load(models / "model.tflite", engine="litert")
    (alias,) = model.signature.inputs
    with pytest.raises(InvalidArgumentError):
        model.predict({alias: np.zeros([1, 7, 8, 3], np.float32)})
    assert model.predict({alias: images(2)})
    with pytest.raises(InvalidArgumentError, match="must feed a value"):
        model.predict({})
    model.close()
    with pytest.raises(ElasticInferenceError, match="closed"):
        model.predict({alias: images(1)})


def test_file_that_is_no_model(tmp_path: Path, load: Load) -> None:
    (tmp_path / "m.tflite").write_bytes(b"no model at all")
    with pytest.raises(InvalidModel, match="LiteRT cannot load"):
        load(tmp_path / "m.tflite", engine="litert")


def test_a_model_with_variables_counts_for_each_predictor_alone() -> None:
    """OpenVINO cannot read it, and was taken to say that it is no TFLite model."""
    path = Path(__file__).with_name("data") / "counter.tflite"
    for use_ei in (True, False):
        with EIPredictor(path, use_ei=use_ei) as one, EIPredictor(path, use_ei=use_ei) as other:
            (alias,) = one.feed_tensors
            answers = [next(iter(one({alias: [2.0]}).values())).tolist() for _ in range(3)]
            assert answers == [[2.0], [4.0], [6.0]]
            assert next(iter(other({alias: [2.0]}).values())).tolist() == [2.0]
            assert one.report.engine == "litert"
            assert any("ASSIGN_VARIABLE" in note for note in one.report.notes)


def test_a_file_that_only_begins_as_a_model_is_none(tmp_path: Path, load: Load) -> None:
    path = tmp_path / "short.tflite"
    path.write_bytes(b"\x1c\x00\x00\x00TFL3")
    with pytest.raises(ElasticInferenceError, match="LiteRT cannot load"):
        load(path)


def test_a_model_that_takes_no_size_of_1(load: Load) -> None:
    """LiteRT allocates with 1 for open sizes, and refused such a model whatever it was then given."""
    model = load(Path(__file__).with_name("data") / "open_sizes.tflite", engine="litert")
    (alias,) = model.signature.inputs
    for length in (5, 9, 7):
        (sums,) = model.predict({alias: np.ones((2, length, 1), np.float32)}).values()
        np.testing.assert_array_equal(sums, np.full((2, length - 4, 1), 5, np.float32))
    with pytest.raises(InvalidArgumentError):
        model.predict({alias: np.ones((2, 1, 1), np.float32)})
    (sums,) = model.predict({alias: np.ones((1, 6, 1), np.float32)}).values()
    np.testing.assert_array_equal(sums, np.full((1, 2, 1), 5, np.float32))


def test_weights_alone_in_int8_go_to_litert(load: Load) -> None:
    """The row is out of date when OpenVINO computes the same."""
    path = Path(__file__).with_name("data") / "hybrid.tflite"
    model = load(path)
    assert model.report.engine == "litert"
    assert "of int8 weights takes its input as it is, not rounded to int8" in model.report.notes[0]
    (alias,) = model.signature.inputs
    x = np.random.default_rng(0).standard_normal((1, 64)).astype(np.float32)
    (wanted,) = model.predict({alias: x}).values()
    (other,) = load(path, engine="openvino").predict({alias: x}).values()
    assert not np.allclose(other, wanted, rtol=1e-3, atol=1e-3)
