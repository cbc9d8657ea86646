"""Which engine loads a model; decided once, at load, and reported."""

from __future__ import annotations

from collections.abc import Callable

from elastic_inference.engines.base import EngineOptions, LoadedModel
from elastic_inference.models.package import ModelFormat, ModelPackage
from elastic_inference.models.signature import SignatureRequest

Loader = Callable[[ModelPackage, SignatureRequest, EngineOptions], LoadedModel]
_registered: dict[str, tuple[Loader, tuple[ModelFormat, ...]]] = {}


def register(name: str, loader: Loader, formats: tuple[ModelFormat, ...]) -> None:
    """Make an engine known to this process; `formats` are those for which "auto" takes it."""
    _registered[name] = (loader, formats)


def load(package: ModelPackage, request: SignatureRequest, options: EngineOptions) -> LoadedModel:
    """Load a model on the engine that `options` name or that suits its format."""
    for name, (loader, formats) in _registered.items():
        if options.engine == name or (options.engine == "auto" and package.format in formats):
            return loader(package, request, options)
    from elastic_inference.engines import openvino

    return openvino.load(package, request, options)
