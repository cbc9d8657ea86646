"""Every format, on every engine that reads it, against the format's own reference runtime: within 1e-4 in float32."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from elastic_inference.engines.tensorflow_library import import_tensorflow
from elastic_inference.errors import InvalidArgumentError, InvalidInput
from elastic_inference.models.signature import SignatureRequest
from tests.engines.build import images
from tests.engines.conftest import Load
from tests.shared import shared_path

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # Keras uses what numpy deprecates
TENSORFLOW_ENGINES = ("openvino", "tensorflow")


@pytest.fixture(scope="module")
def keras_probabilities(models: Path) -> np.ndarray[Any, Any]:
    """What Keras itself answers for `images(5)`."""
    return np.asarray(
        import_tensorflow().keras.models.load_model(models / "model.keras").predict(images(5), verbose=0)
    )


@pytest.mark.parametrize("engine", TENSORFLOW_ENGINES)
@pytest.mark.parametrize("name", ["model.keras", "model.h5"])
def test_keras(
    models: Path, load: Load, keras_probabilities: np.ndarray[Any, Any], name: str, engine: str
) -> None:
    model = load(models / name, engine=engine)
    assert {a: (s.dtype, s.shape) for a, s in model.signature.inputs.items()} == {
        "pixels": ("float32", (None, 8, 8, 3))
    }
    outputs = model.predict({"pixels": images(5)})
    np.testing.assert_allclose(outputs["classes"], keras_probabilities, atol=1e-4)


def test_keras_goes_to_tensorflow_by_itself(models: Path, load: Load) -> None:
    assert load(models / "model.keras").report.engine == "tensorflow"


@pytest.mark.parametrize("engine", TENSORFLOW_ENGINES)
def test_frozen_graph(
    models: Path, load: Load, keras_probabilities: np.ndarray[Any, Any], engine: str
) -> None:
    request = SignatureRequest(input_names={"image": "x:0"}, output_names={"p": "probabilities:0"})
    outputs = load(models / "frozen.pb", request, engine=engine).predict({"image": images(5)})
    np.testing.assert_allclose(outputs["p"], keras_probabilities, atol=1e-4)


@pytest.mark.parametrize("engine", ["openvino", "onnxruntime"])
def test_onnx(models: Path, load: Load, keras_probabilities: np.ndarray[Any, Any], engine: str) -> None:
    import onnxruntime

    (reference,) = onnxruntime.InferenceSession(models / "model.onnx").run(["scores"], {"image": images(5)})
    np.testing.assert_allclose(reference, keras_probabilities, atol=1e-4)
    outputs = load(models / "model.onnx", engine=engine).predict({"image": images(5)})
    np.testing.assert_allclose(outputs["scores"], reference, atol=1e-4)
    assert outputs["best"].dtype == np.int64
    np.testing.assert_array_equal(outputs["best"], reference.argmax(1))


@pytest.mark.parametrize("engine", ["openvino", "onnxruntime"])
def test_onnx_by_names(models: Path, load: Load, engine: str) -> None:
    request = SignatureRequest(input_names={"a": "image"}, output_names={"b": "scores", "c": "scores:0"})
    outputs = load(models / "model.onnx", request, engine=engine).predict({"a": images(2)})
    assert set(outputs) == {"b", "c"}
    np.testing.assert_array_equal(outputs["b"], outputs["c"])


@pytest.mark.parametrize("engine", ["openvino", "onnxruntime"])
def test_onnx_needs_all_of_its_inputs(models: Path, load: Load, engine: str) -> None:
    with pytest.raises(InvalidInput, match="leave out 'image'"):
        load(
            models / "model.onnx",
            SignatureRequest(input_names={}, output_names={"b": "scores"}),
            engine=engine,
        )
    model = load(models / "model.onnx", engine=engine)
    with pytest.raises(InvalidArgumentError, match="'image' with dtype float and shape"):
        model.predict({})


def test_tflite(models: Path, load: Load) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the interpreter says that it will move to another package
        interpreter = import_tensorflow().lite.Interpreter(str(models / "model.tflite"))
    interpreter.allocate_tensors()
    (source,), (target,) = interpreter.get_input_details(), interpreter.get_output_details()
    interpreter.set_tensor(source["index"], images(1))
    interpreter.invoke()
    model = load(models / "model.tflite")
    outputs = model.predict({source["name"]: images(1)})
    assert model.report.engine == "openvino"
    np.testing.assert_allclose(outputs[target["name"]], interpreter.get_tensor(target["index"]), atol=1e-4)


@pytest.mark.parametrize("engine", TENSORFLOW_ENGINES)
@pytest.mark.parametrize("tags", [None, "serve,large", "large,serve"])
def test_tf1_saved_model(models: Path, load: Load, engine: str, tags: str | None) -> None:
    x = np.array([[1, -2], [0.5, 0.25]], np.float32)
    expected = _session_run(models / "tf1", (tags or "serve").split(","), x)
    outputs = load(models / "tf1", SignatureRequest(tags=tags), engine=engine).predict({"x": x})
    np.testing.assert_allclose(outputs["y"], expected, atol=1e-4)
    outputs = load(models / "tf1", SignatureRequest("relu", tags=tags), engine=engine).predict({"x": x})
    np.testing.assert_allclose(outputs["r"], np.maximum(expected, 0), atol=1e-4)


def _session_run(path: Path, tags: list[str], x: np.ndarray[Any, Any]) -> Any:
    tf = import_tensorflow().compat.v1
    with tf.Graph().as_default(), tf.Session() as session:
        tf.saved_model.load(session, tags, str(path))
        return session.run("y:0", {"x:0": x})


@pytest.mark.parametrize("engine", TENSORFLOW_ENGINES)
def test_tf2_saved_model(models: Path, load: Load, engine: str) -> None:
    tf = import_tensorflow()
    reference = tf.saved_model.load(str(models / "tf2")).signatures
    model = load(models / "tf2", engine=engine)
    for x in (np.array([[1, 2], [3, 4]], np.float32), np.array([[-5, -6]], np.float32)):
        expected = reference["serving_default"](x=tf.constant(x))
        outputs = model.predict({"x": x})
        assert set(outputs) == {"y", "sign"}
        for alias, value in outputs.items():
            np.testing.assert_allclose(value, expected[alias].numpy(), atol=1e-4)


@pytest.mark.parametrize("engine", TENSORFLOW_ENGINES)
def test_tf2_signature_with_a_loop(models: Path, load: Load, engine: str) -> None:
    tf = import_tensorflow()
    reference = tf.saved_model.load(str(models / "tf2")).signatures["loop"]
    x = np.array([[1, 2]], np.float32)
    model = load(models / "tf2", SignatureRequest("loop"), engine=engine)
    for count in (0, 1, 5):
        expected = reference(x=tf.constant(x), count=tf.constant(count))["z"].numpy()
        np.testing.assert_allclose(
            model.predict({"x": x, "count": np.array(count, np.int32)})["z"], expected, atol=1e-4
        )


def test_imagenet_classifier_agrees_with_tensorflow(load: Load) -> None:
    path = shared_path("assets/models/efficientnet_lite0_imagenet.pb")
    image = np.random.default_rng(3).standard_normal((1, 224, 224, 3), dtype=np.float32)
    ours, reference = (load(path, engine=engine).predict({"images": image}) for engine in TENSORFLOW_ENGINES)
    np.testing.assert_allclose(ours["probs"], reference["probs"], atol=1e-4)
