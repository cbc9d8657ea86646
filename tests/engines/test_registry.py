"""The table of engines: complete rows, and errors that name what the table knows."""

from __future__ import annotations

import inspect
import sys
from pathlib import Path

import pytest

from elastic_inference.client.load_options import LoadOptions
from elastic_inference.engines import registry
from elastic_inference.engines.base import PRECISIONS, EngineOptions
from elastic_inference.engines.select import load
from elastic_inference.errors import EngineNotAvailable, InvalidInput, UnsupportedModel
from elastic_inference.models.package import ModelFormat, ModelPackage
from elastic_inference.models.signature import SignatureRequest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def onnx_file(tmp_path: Path) -> ModelPackage:
    (tmp_path / "m.onnx").write_bytes(b"never read")
    return ModelPackage.read(tmp_path / "m.onnx")


@pytest.mark.parametrize("engine", registry._ENGINES, ids=lambda engine: engine.name)
def test_row_is_whole(engine: registry.Engine) -> None:
    path = ROOT / "src" / Path(*engine.module.split(".")).with_suffix(".py")
    assert "\ndef load(" in path.read_text()
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert any(
        requirement.startswith(name) for requirement in extras[engine.extra] for name in engine.distributions
    )
    assert set(engine.only_by_name) | set(engine.reference_of) <= set(engine.formats)
    assert set(engine.precisions) <= set(PRECISIONS) - {"auto"}


def test_every_format_has_an_engine_and_at_most_one_reference() -> None:
    for model_format in set(ModelFormat) - {ModelFormat.TESTING}:
        assert any(e.considers(model_format, "cpu:0") for e in registry._ENGINES), model_format
        assert sum(model_format in e.reference_of for e in registry._ENGINES) <= 1, model_format


def test_the_load_options_and_the_glossary_name_every_engine() -> None:
    texts = (inspect.getdoc(LoadOptions) or "", (ROOT / "docs/glossary.md").read_text())
    for text in texts:
        assert [engine.name for engine in registry._ENGINES if engine.name not in text] == []


@pytest.mark.parametrize(
    ("options", "cls", "text"),
    [
        (
            EngineOptions("onnxruntime", precision="bf16"),
            InvalidInput,
            r"engine onnxruntime does not support precision 'bf16'; it supports fp32\. Use engine='openvino'",
        ),
        (
            EngineOptions("openvino", device="cuda:0"),
            EngineNotAvailable,
            "engine openvino does not run on cuda:0; it runs on cpu. Use engine='tensorflow' or engine='onnxruntime'",
        ),
        (
            EngineOptions("tensorflow"),
            UnsupportedModel,
            "engine tensorflow reads saved_model, frozen_graph, keras, but .*m.onnx is onnx. "
            "Use engine='openvino' or engine='onnxruntime'",
        ),
        (
            EngineOptions("onnxruntime", precision="int8"),
            InvalidInput,
            r"engine onnxruntime does not support precision 'int8'; it supports fp32\. Use engine='openvino'",
        ),
        (EngineOptions(device="tpu:0"), UnsupportedModel, "no engine runs models of format onnx on tpu:0"),
    ],
)
def test_refusals_say_which_engine_can(
    onnx_file: ModelPackage, options: EngineOptions, cls: type[Exception], text: str
) -> None:
    with pytest.raises(cls, match=text):
        load(onnx_file, SignatureRequest(), options)
