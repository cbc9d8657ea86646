"""PyTorch on one thread here and in the accelerators, so that sums are added in one order."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from elastic_inference.client.predictor import EIPredictor
from elastic_inference.engines import select
from elastic_inference.engines.base import EngineOptions, LoadedModel
from elastic_inference.models.package import ModelPackage
from elastic_inference.models.signature import SignatureRequest


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    torch = pytest.importorskip("torch", reason="needs PyTorch: make test-torch")
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def _accelerator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """One embedded accelerator for the session: it lives as long as a predictor uses it."""
    from tests.torch.models import export, nn, torch

    path = export(nn.ReLU(), tmp_path_factory.mktemp("keep") / "relu.pt2", (torch.zeros(1),))
    with EIPredictor(path, num_threads=1):
        yield


@pytest.fixture
def predictor(request: pytest.FixtureRequest, _accelerator: None) -> Callable[..., EIPredictor]:
    """`predictor(path, **options)` on an accelerator process with one thread; closed after the test."""

    def make(path: Path, **options: Any) -> EIPredictor:
        made = EIPredictor(path, num_threads=1, **options)
        request.addfinalizer(made.close)
        return made

    return make


@pytest.fixture
def load(request: pytest.FixtureRequest) -> Callable[..., LoadedModel]:
    """`load(path, request=SignatureRequest(), **engine_options)` in this process; closed after the test."""

    def load_it(path: Path, wanted: SignatureRequest | None = None, **options: Any) -> LoadedModel:
        given = EngineOptions(**{"num_threads": 1, **options})
        model = select.load(ModelPackage.read(path), wanted or SignatureRequest(), given)
        request.addfinalizer(model.close)
        return model

    return load_it
