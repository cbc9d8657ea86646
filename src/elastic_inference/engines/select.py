"""Which engine loads a model; decided once, at load, and reported."""

from __future__ import annotations

from elastic_inference.engines.base import EngineOptions, LoadedModel
from elastic_inference.models.package import ModelPackage
from elastic_inference.models.signature import SignatureRequest


def load(package: ModelPackage, request: SignatureRequest, options: EngineOptions) -> LoadedModel:
    """Load a model on the engine that `options` name or that suits its format."""
    from elastic_inference.engines import openvino

    return openvino.load(package, request, options)
