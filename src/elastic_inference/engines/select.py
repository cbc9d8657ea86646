"""Which engine loads a model; decided once, at load, and reported.

"auto" tries the engines of the model's format in order of registration: openvino, tensorflow, onnxruntime. The
next one is taken only where one cannot run the model or is not installed, and the report says so.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from importlib import import_module

from elastic_inference.engines.base import ENGINES, EngineOptions, LoadedModel
from elastic_inference.errors import (
    ElasticInferenceError,
    EngineNotAvailable,
    InvalidInput,
    UnsupportedModel,
)
from elastic_inference.models.package import ModelFormat, ModelPackage
from elastic_inference.models.signature import SignatureRequest

Loader = Callable[[ModelPackage, SignatureRequest, EngineOptions], LoadedModel]

_TENSORFLOW_FORMATS = (ModelFormat.SAVED_MODEL, ModelFormat.FROZEN_GRAPH, ModelFormat.KERAS)
_OPENVINO_FORMATS = (
    ModelFormat.SAVED_MODEL,
    ModelFormat.FROZEN_GRAPH,
    ModelFormat.ONNX,
    ModelFormat.TFLITE,
)


@dataclass(frozen=True)
class _Engine:
    """An engine: how it loads, and the formats for which "auto" considers it."""

    name: str
    loader: Loader
    formats: frozenset[ModelFormat]


_engines: dict[str, _Engine] = {}


def register(name: str, loader: Loader, formats: Collection[ModelFormat]) -> None:
    """Add an engine, or replace the one of this name.

    Args:
        name: What `EngineOptions.engine` calls it.
        loader: Raises UnsupportedModel for a model that another engine may run.
        formats: Those for which "auto" considers it; the first engine registered for a format comes first.
    """
    _engines[name] = _Engine(name, loader, frozenset(formats))


def engine_names() -> tuple[str, ...]:
    """The names that `EngineOptions.engine` may have beside "auto", in order of registration."""
    return tuple(_engines)


def load(package: ModelPackage, request: SignatureRequest, options: EngineOptions) -> LoadedModel:
    """Load a model on the engine that `options` name, or on the first that can run it.

    Raises:
        EngineNotAvailable: The engine, or every one that could run the model, is not installed here or lacks the
            device; the text has a reason for each.
        UnsupportedModel: No engine can run it; the text has each engine's reason.
        InvalidInput: No engine of this name.
        ElasticInferenceError: What the engine's loader raises.
    """
    loaded = _load(package, request, options)
    _give_back_memory()
    return loaded


def _load(package: ModelPackage, request: SignatureRequest, options: EngineOptions) -> LoadedModel:
    if options.engine != "auto":
        if options.engine not in _engines:
            raise InvalidInput(f"engine {options.engine!r} is not one of auto, {', '.join(_engines)}")
        return _engines[options.engine].loader(package, request, options)
    refusals: list[tuple[str, ElasticInferenceError]] = []
    for engine in _candidates(package.format, options):
        try:
            loaded = engine.loader(package, request, options)
        except (UnsupportedModel, EngineNotAvailable) as error:
            refusals.append((engine.name, error))
            continue
        notes = tuple(f"Engine {name} was not taken: {error}" for name, error in refusals)
        loaded.report = replace(loaded.report, notes=(*notes, *loaded.report.notes))
        return loaded
    raise _no_engine(package.format, refusals)


def _give_back_memory() -> None:
    """Return what loading freed to the system: glibc keeps it, and it counts against the accelerator's limit.

    For a detector of 70 MB that is 190 MB of 475.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def _candidates(model_format: ModelFormat, options: EngineOptions) -> list[_Engine]:
    return [
        engine
        for engine in _engines.values()
        if model_format in engine.formats
        and not (engine.name == "openvino" and not options.device.startswith("cpu"))
    ]


def _no_engine(
    model_format: ModelFormat, refusals: list[tuple[str, ElasticInferenceError]]
) -> ElasticInferenceError:
    text = "; ".join(f"engine {name}: {error}" for name, error in refusals)
    if not refusals:
        return UnsupportedModel(f"no engine runs models of format {model_format.value} on this device")
    if all(isinstance(error, EngineNotAvailable) for _, error in refusals):
        return EngineNotAvailable(text)
    return UnsupportedModel(text)


def _module_loader(name: str) -> Loader:
    """A loader that imports its engine's module when a model is first loaded on it."""

    def load_on(package: ModelPackage, request: SignatureRequest, options: EngineOptions) -> LoadedModel:
        try:
            module = import_module(f"elastic_inference.engines.{name}")
        except ImportError as error:
            raise EngineNotAvailable(f"engine {name} is not installed here ({error})") from error
        loader: Loader = module.load
        return loader(package, request, options)

    return load_on


for _name, _formats in zip(
    ENGINES, (_OPENVINO_FORMATS, _TENSORFLOW_FORMATS, (ModelFormat.ONNX,)), strict=True
):
    register(_name, _module_loader(_name), _formats)
