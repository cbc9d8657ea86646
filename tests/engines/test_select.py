"""Which engine is taken, and what is said of those that were not."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from elastic_inference.engines import registry
from elastic_inference.engines.base import EngineOptions, EngineReport, LoadedModel
from elastic_inference.errors import EngineNotAvailable, InvalidInput, InvalidModel, UnsupportedModel
from elastic_inference.models.package import ModelFormat, ModelPackage
from elastic_inference.models.signature import Signature, SignatureRequest
from tests.engines.conftest import Load
from tests.engines.fresh import run_without


@pytest.mark.parametrize(
    ("name", "engine"),
    [("tf1", "openvino"), ("tf2", "openvino"), ("frozen.pb", "openvino"), ("model.onnx", "openvino"),
     ("model.tflite", "openvino"), ("model.keras", "tensorflow"), ("model.h5", "tensorflow")],
)  # fmt: skip
def test_auto_goes_by_format(models: Path, load: Load, name: str, engine: str) -> None:
    report = load(models / name).report
    assert report.engine == engine
    assert not [note for note in report.notes if "not taken" in note]


def test_unknown_engine(models: Path, load: Load) -> None:
    with pytest.raises(InvalidInput, match="'caffe' is not one of auto, openvino, tensorflow, onnxruntime"):
        load(models / "tf2", engine="caffe")


@pytest.mark.parametrize(
    ("name", "engine"),
    [("model.onnx", "tensorflow"), ("tf2", "onnxruntime"), ("model.tflite", "onnxruntime")],
)
def test_engine_that_does_not_read_the_format(models: Path, load: Load, name: str, engine: str) -> None:
    with pytest.raises(UnsupportedModel, match=f"engine {engine} reads"):
        load(models / name, engine=engine)


def test_no_gpu_means_an_error_that_names_every_engine(models: Path, load: Load) -> None:
    with pytest.raises(EngineNotAvailable, match=r"engine tensorflow: .*cuda:1"):
        load(models / "frozen.pb", device="cuda:1")
    with pytest.raises(EngineNotAvailable, match=r"engine onnxruntime: .*cuda:1"):
        load(models / "model.onnx", device="cuda:1")


_LOAD = """
from elastic_inference.engines.base import EngineOptions
from elastic_inference.engines.select import load
from elastic_inference.errors import ElasticInferenceError
from elastic_inference.models.package import ModelPackage
from elastic_inference.models.signature import SignatureRequest

for path in sys.argv[2:]:
    try:
        report = load(ModelPackage.read(path), SignatureRequest(), EngineOptions(engine=sys.argv[1])).report
        print(report.engine, "|", *report.notes)
    except ElasticInferenceError as error:
        print(type(error).__name__, "|", error)
"""


def test_where_openvino_is_not_installed(models: Path) -> None:
    paths = [str(models / name) for name in ("tf2", "model.onnx", "model.tflite")]
    tf2, onnx, tflite = run_without(["openvino", "ai_edge_litert"], _LOAD, "auto", *paths).splitlines()
    assert tf2.startswith("tensorflow | Engine openvino was not taken: engine openvino is not installed here")
    assert onnx.startswith(
        "onnxruntime | Engine openvino was not taken: engine openvino is not installed here"
    )
    assert tflite.startswith("EngineNotAvailable | engine openvino: engine openvino is not installed here")


def test_where_the_other_engine_is_not_installed_either(models: Path, tmp_path: Path) -> None:
    tf = pytest.importorskip("tensorflow")
    with tf.Graph().as_default() as graph:
        tf.strings.length(tf.compat.v1.placeholder("string", [None], name="x"), name="y")
    path = tmp_path / "strings.pb"
    path.write_bytes(graph.as_graph_def().SerializeToString())
    (strings, keras) = run_without(
        ["tensorflow"], _LOAD, "auto", str(path), str(models / "model.keras")
    ).splitlines()
    assert strings.startswith("UnsupportedModel | engine openvino: OpenVINO")
    assert "StringLength; engine tensorflow: engine tensorflow is not installed here" in strings
    assert keras.startswith("EngineNotAvailable | engine tensorflow: engine tensorflow is not installed here")


class _Echo(LoadedModel):
    signature = Signature({}, {})
    report = EngineReport("echo", "1", "cpu:0", "fp32", 1, 0.0)

    def predict(self, inputs: Any) -> dict[str, Any]:
        return dict(inputs)

    def close(self) -> None:
        pass


@pytest.fixture
def testing_engines() -> Iterator[None]:
    """Engines that a test registers are forgotten after it, and those of others are not there."""
    before = dict(registry._table)
    for name in before.keys() - {engine.name for engine in registry._ENGINES}:
        registry.unregister(name)
    yield
    registry._table.clear()
    registry._table.update(before)


@pytest.mark.usefixtures("testing_engines")
def test_registered_engine(tmp_path: Path, load: Load) -> None:
    def loader(package: ModelPackage, request: SignatureRequest, options: EngineOptions) -> LoadedModel:  # noqa: ARG001
        if package.main_path.read_text() != "echo":
            raise InvalidModel("not an echo")
        return _Echo()

    (tmp_path / "m.testing").write_text("echo")
    registry.register("echo", loader, (ModelFormat.TESTING,))
    for engine in ("echo", "auto"):
        outputs = load(tmp_path / "m.testing", engine=engine).predict({"a": np.ones(2)})
        np.testing.assert_array_equal(outputs["a"], [1, 1])
    (tmp_path / "m.testing").write_text("no echo")
    with pytest.raises(InvalidModel, match="not an echo"):
        load(tmp_path / "m.testing")


@pytest.mark.usefixtures("testing_engines")
def test_format_that_no_engine_reads(tmp_path: Path, load: Load) -> None:
    (tmp_path / "m.testing").write_text("{}")
    with pytest.raises(UnsupportedModel, match="no engine runs models of format testing"):
        load(tmp_path / "m.testing")
