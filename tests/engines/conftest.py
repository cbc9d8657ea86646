"""The models of `build`, each made once a session."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from elastic_inference.engines import select
from elastic_inference.engines.base import EngineOptions, LoadedModel
from elastic_inference.models.package import ModelPackage
from elastic_inference.models.signature import SignatureRequest
from tests.engines import build

Load = Callable[..., LoadedModel]


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `tf1`, `tf2`, `frozen.pb`, `model.keras`, `model.h5`, `model.onnx` and `model.tflite`."""
    pytest.importorskip("tensorflow")
    folder = tmp_path_factory.mktemp("models")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Keras and TensorFlow use what numpy deprecates
        build.write_all(folder)
    return folder


@pytest.fixture
def load(request: pytest.FixtureRequest) -> Load:
    """`load(path, request=SignatureRequest(), **engine_options)`; models are closed after the test."""

    def load_it(path: Any, wanted: SignatureRequest | None = None, **options: Any) -> LoadedModel:
        model = select.load(ModelPackage.read(path), wanted or SignatureRequest(), EngineOptions(**options))
        request.addfinalizer(model.close)
        return model

    return load_it
