"""From a model that OpenVINO can read to a compiled one: properties, the cache of compiled models, the report."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import replace
from functools import cache
from typing import Any

import openvino as ov
from openvino import frontend

from elastic_inference.engines.base import EngineOptions, EngineReport, available_cores
from elastic_inference.engines.openvino import calibrated, kept, primitive_cache, quantize
from elastic_inference.engines.openvino.knowledge import Knowledge, accept, study
from elastic_inference.engines.openvino.rewrites.driver import install
from elastic_inference.engines.openvino.runner import NO_MEMORY_TEXTS, last_line
from elastic_inference.engines.openvino.shapes import compiled_differences
from elastic_inference.engines.stages import Stage, begin
from elastic_inference.errors import (
    ElasticInferenceError,
    InvalidModel,
    MemoryQuotaExceeded,
    UnsupportedModel,
)
from elastic_inference.models.artifacts.store import Kind

# What reading and compiling raise; the front ends' classes are no RuntimeErrors.
LOAD_ERRORS = (
    RuntimeError,
    MemoryError,
    UnicodeDecodeError,  # a name, or OpenVINO's own text, that holds bytes of a damaged file
    frontend.GeneralFailure,
    frontend.InitializationFailure,
    frontend.NotImplementedFailure,
    frontend.OpConversionFailure,
    frontend.OpValidationFailure,
)
_INT8_LAYERS = ("Convolution", "FullyConnected", "MatMul", "Deconvolution")
_PRECISION_NAMES = {"f32": "fp32", "bf16": "bf16", "f16": "fp16"}
_DAMAGED_TEXTS = re.compile(
    r"Wrong index file|cannot be mapped|exceed data size|Conversion is failed for: (VarHandleOp|VariableV2)"
)
_UNKNOWN_OPERATIONS = re.compile(r"No conversion rule found for operations?: ([\w., >]+)")

Read = tuple[ov.Model, tuple[str, ...]]
"""A model that OpenVINO has read, and a sentence for each pattern of it that was rewritten."""

RUNTIME_CACHE_ENTRIES = 50
"""Kernels and buffers kept for input shapes seen before.

OpenVINO keeps 5,000: two small convolutions with a new picture size each call grew from 107 to 787 MiB, and failed and
crashed in 256. With 50 they stay at 170, at the same speed.
"""


@cache
def core() -> ov.Core:
    """Return the process's one OpenVINO core; it may be used from several threads."""
    made = ov.Core()
    primitive_cache.bound(made)
    install(made)
    return made


def compiled_model(
    read: Callable[[], Read],
    what: Mapping[str, Any],
    options: EngineOptions,
    tensors: Mapping[str, str] | None = None,
) -> kept.CompiledModel:
    """Compile the model that `read` gives, or take it from `options.store`; with what is known of it.

    Args:
        read: Called when the store does not have the model; reading is the longer part of loading. Returns it, and
            what was rewritten in it.
        what: "model", its content hash, and all else that its operations depend on; how it is compiled is added here.
        tensors: Alias -> name of the tensor that it feeds, where they differ; for samples to calibrate on.

    Raises:
        UnsupportedModel: OpenVINO would compute something otherwise, and `options` do not name it.
        InvalidInput: int8 is asked for, and neither samples nor a model that was quantized before are there.
        ElasticInferenceError: It cannot read or compile the model.
    """
    found = kept_model(what, options)
    if found is not None:
        return found
    with (
        nullcontext()
        if options.store is None
        else options.store.making(Kind.COMPILED, kept.key_of(what, properties_of(options), options))
    ):
        # Who made the same meanwhile has kept it.
        return kept_model(what, options) or _newly_compiled(read, what, options, tensors or {})


def kept_model(what: Mapping[str, Any], options: EngineOptions) -> kept.CompiledModel | None:
    """Return the model from the store; None where it is not there."""
    if options.calibration:
        return None
    found = kept.find(core(), calibrated.identity(what, options), properties_of(options), options)
    if found is not None:
        accept(found.knowledge.differences, options)
    return found


def _newly_compiled(
    read: Callable[[], Read], what: Mapping[str, Any], options: EngineOptions, tensors: Mapping[str, str]
) -> kept.CompiledModel:
    started = time.perf_counter()
    try:
        model, knowledge = _model(read, what, options, tensors)
        accept(knowledge.differences, options)
        begin(Stage.COMPILING)
        compiled = core().compile_model(model, "CPU", properties_of(options))
    except LOAD_ERRORS as error:
        raise load_error(error) from error
    knowledge = replace(knowledge, differences=(*knowledge.differences, *compiled_differences(compiled)))
    accept(knowledge.differences, options)
    seconds = time.perf_counter() - started
    what = calibrated.identity(what, options)
    return kept.keep(compiled, knowledge, seconds, what, properties_of(options), options)


def _model(
    read: Callable[[], Read], what: Mapping[str, Any], options: EngineOptions, tensors: Mapping[str, str]
) -> tuple[ov.Model, Knowledge]:
    """Return the model in the precision in which it is to be compiled; in int8 as it was quantized, now or before."""
    if options.precision == "int8" and not options.calibration:
        return calibrated.find(core(), what, options)
    model, rewrites = read()
    knowledge = replace(study(model), rewrites=rewrites)
    if options.precision != "int8":
        return model, knowledge
    accept(knowledge.differences, options)  # before minutes of calibration
    samples = [
        {tensors.get(alias, alias): array for alias, array in each.items()} for each in options.calibration
    ]
    model, correction = quantize.quantized(model, samples)
    knowledge = replace(knowledge, rewrites=(*knowledge.rewrites, correction))
    calibrated.keep(model, knowledge, what, options)
    return model, knowledge


def load_error(error: Exception) -> ElasticInferenceError:
    """Our error for one that OpenVINO raised while it read or compiled a model."""
    if isinstance(error, ElasticInferenceError):
        return error
    if isinstance(error, MemoryError) or NO_MEMORY_TEXTS.search(str(error)):
        return MemoryQuotaExceeded(f"OpenVINO could not get the memory to load the model: {last_line(error)}")
    if _DAMAGED_TEXTS.search(str(error)):
        return InvalidModel(f"the model's variables are missing or damaged: {last_line(error)}")
    unknown = _UNKNOWN_OPERATIONS.search(str(error))
    if unknown:
        return UnsupportedModel(f"OpenVINO {version()} does not know operations: {unknown[1].strip()}")
    return UnsupportedModel(f"OpenVINO {version()} cannot load this model: {last_line(error)}")


def version() -> str:
    """OpenVINO's release, such as `2026.4.1`."""
    return str(ov.__version__).partition("-")[0]


def report(
    made: kept.CompiledModel | None, options: EngineOptions, started: float, notes: tuple[str, ...]
) -> EngineReport:
    """Return what is in force, read back from the compiled model; None where every output is an input handed on.

    Args:
        started: `time.perf_counter()` at the start of loading.
    """
    precision, num_threads = "fp32", options.num_threads or available_cores()
    if made is not None:
        name = made.model.get_property("INFERENCE_PRECISION_HINT").get_type_name()
        precision = _PRECISION_NAMES.get(name, name)
        if options.precision == "int8" and _computes_in_int8(made.model):
            precision = "int8"
        num_threads = int(made.model.get_property("INFERENCE_NUM_THREADS"))
    if options.precision in ("bf16", "int8") and precision != options.precision:
        notes += (f"{options.precision} was asked for, but OpenVINO computes in {precision} on this CPU.",)
    return EngineReport(
        engine="openvino",
        engine_version=version(),
        device=options.device,
        precision=precision,
        num_threads=num_threads,
        load_seconds=time.perf_counter() - started,
        notes=notes,
        source="" if made is None else made.source,
    )


def _computes_in_int8(compiled: ov.CompiledModel) -> bool:
    """Whether any convolution or product reads integers; the parts of a quantized model that stay do not."""
    for node in compiled.get_runtime_model().get_ordered_ops():
        information = node.get_rt_info()
        if "layerType" in information and str(information["layerType"].value) in _INT8_LAYERS:
            kind = information["runtimePrecision"].value if "runtimePrecision" in information else ""
            if str(kind) in ("i8", "u8"):
                return True
    return False


def properties_of(options: EngineOptions) -> dict[str, Any]:
    """Return how OpenVINO is told to compile and run a model."""
    properties: dict[str, Any] = {
        # Processes that pin their threads all pin them to the same first core.
        "ENABLE_CPU_PINNING": False,
        "NUM_STREAMS": 1,
        "INFERENCE_NUM_THREADS": options.num_threads or available_cores(),
        "CPU_RUNTIME_CACHE_CAPACITY": RUNTIME_CACHE_ENTRIES,
    }
    if options.precision != "auto":
        # What is not quantized of a model in int8 is computed in float32.
        properties["INFERENCE_PRECISION_HINT"] = "bf16" if options.precision == "bf16" else "f32"
    return properties
