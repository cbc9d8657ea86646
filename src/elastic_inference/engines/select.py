"""Which engine loads a model in which precision; decided once, at load, and reported.

Where that was measured and proved before (`engines.choices`), what was chosen then is taken. Otherwise engine "auto"
tries the engines of the model's format in the order of `engines.registry`, and takes the next one only where one cannot
run the model or is not installed; precision "auto" is float32.
"""

from __future__ import annotations

from dataclasses import replace

from elastic_inference.engines import choices, memory, registry
from elastic_inference.engines.base import EngineOptions, LoadedModel
from elastic_inference.engines.guarded import GuardedModel
from elastic_inference.engines.registry import Engine
from elastic_inference.engines.stages import Stage, begin
from elastic_inference.errors import (
    ElasticInferenceError,
    EngineNotAvailable,
    InvalidInput,
    UnsupportedModel,
)
from elastic_inference.models.package import ModelFormat, ModelPackage
from elastic_inference.models.signature import SignatureRequest
from elastic_inference.proof.choice import Choice


def load(package: ModelPackage, request: SignatureRequest, options: EngineOptions) -> LoadedModel:
    """Load a model on the engine that `options` name, or on the first that can run it.

    Raises:
        EngineNotAvailable: The engine, or every one that could run the model, is not installed here or lacks the
            device; the text has a reason for each.
        UnsupportedModel: No engine can run it; the text has each engine's reason.
        InvalidInput: No engine of this name, or none supports the precision.
        ElasticInferenceError: What the engine's loader raises.
    """
    if request.input_specs is not None and package.format is not ModelFormat.TORCH_SCRIPT:
        raise InvalidInput(
            f"input_specs are for TorchScript; a model of format {package.format.value} says itself what its inputs are"
        )
    begin(Stage.READING)
    loaded = _load(package, request, options)
    memory.give_back()
    return loaded


def _load(package: ModelPackage, request: SignatureRequest, options: EngineOptions) -> LoadedModel:
    choice = choices.find(package, request, options)
    notes: tuple[str, ...] = ()
    if choice is not None:
        try:
            return _as_chosen(choice, package, request, options)
        except ElasticInferenceError as error:
            # What a choice needs may be gone, such as a model in int8 that was removed.
            notes = (
                f"What was chosen before, {choice.precision} on {choice.engine}, was not taken: {error}",
            )
    if options.precision == "auto":
        if choice is None:
            notes = (choices.none_note(options),)
        options = replace(options, precision="fp32")
    loaded = _load_first(package, request, options)
    loaded.report = replace(loaded.report, notes=(*notes, *loaded.report.notes))
    return loaded


def _as_chosen(
    choice: Choice, package: ModelPackage, request: SignatureRequest, options: EngineOptions
) -> LoadedModel:
    engine = registry.engine_named(choice.engine)
    wanted = replace(options, precision=choice.precision)
    loaded = engine.load(package, request, wanted)
    if options.engine == "auto":
        loaded = _guarded(loaded, engine, package, request, wanted)
    loaded.report = replace(loaded.report, notes=(choices.note(choice), *loaded.report.notes))
    loaded.choice = choice
    return loaded


def _load_first(package: ModelPackage, request: SignatureRequest, options: EngineOptions) -> LoadedModel:
    """Load on the engine that is named, or on the first one that can run the model."""
    if options.engine != "auto":
        return registry.engine_named(options.engine).load(package, request, options)
    candidates = [e for e in registry.engines() if e.considers(package.format, options.device)]
    able = [engine for engine in candidates if engine.supports(options.precision)]
    refusals: list[tuple[str, ElasticInferenceError]] = []
    for engine in able or candidates[:1]:  # the first one says what is wrong with the precision
        try:
            loaded = engine.load(package, request, options)
        except (UnsupportedModel, EngineNotAvailable) as error:
            refusals.append((engine.name, error))
            continue
        notes = tuple(f"Engine {name} was not taken: {error}" for name, error in refusals)
        loaded.report = replace(loaded.report, notes=(*notes, *loaded.report.notes))
        return _guarded(loaded, engine, package, request, options)
    raise _no_engine(package.format, options.device, refusals)


def _guarded(
    loaded: LoadedModel,
    engine: Engine,
    package: ModelPackage,
    request: SignatureRequest,
    options: EngineOptions,
) -> LoadedModel:
    """Return the model, with the reference engine of its format behind it where that is another one."""
    reference = registry.reference_of(package.format)
    if reference is None or reference is engine or engine.loader is not None:
        return loaded
    exact = replace(options, precision="fp32")
    return GuardedModel(loaded, reference, lambda: reference.load(package, request, exact))


def _no_engine(
    model_format: ModelFormat, device: str, refusals: list[tuple[str, ElasticInferenceError]]
) -> ElasticInferenceError:
    text = "; ".join(f"engine {name}: {error}" for name, error in refusals)
    if not refusals:
        return UnsupportedModel(f"no engine runs models of format {model_format.value} on {device}")
    if all(isinstance(error, EngineNotAvailable) for _, error in refusals):
        return EngineNotAvailable(text)
    return UnsupportedModel(text)
