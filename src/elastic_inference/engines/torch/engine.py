"""PyTorch's own engine: programs of torch.export and archives of TorchScript, on the CPU or on a CUDA device.

Models compute as they are written, in the dtypes of their weights. Less is had by autocast: "bf16" and "fp16" (CUDA
alone), or "tf32" for CUDA's float32 multiplications; weights keep their dtype, and outputs have the dtype of the
signature.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Sequence
from dataclasses import replace
from types import ModuleType
from typing import Any

import numpy.typing as npt

from elastic_inference.engines import memory
from elastic_inference.engines.base import (
    Arrays,
    EngineOptions,
    EngineReport,
    LoadedModel,
    available_cores,
)
from elastic_inference.engines.preemption import is_preemptible
from elastic_inference.engines.torch.device import Cpu, Cuda, find_device
from elastic_inference.engines.torch.export import load_program
from elastic_inference.engines.torch.graphs import GraphedRun
from elastic_inference.engines.torch.library import import_torch
from elastic_inference.engines.torch.program import Program, to_array, to_tensor
from elastic_inference.engines.torch.script import load_script
from elastic_inference.errors import (
    DeviceLost,
    ElasticInferenceError,
    InvalidArgumentError,
    InvalidInput,
    MemoryQuotaExceeded,
    ModelError,
    PredictorClosed,
)
from elastic_inference.models import torch_archives
from elastic_inference.models.package import ModelPackage
from elastic_inference.models.resolve import named_signature
from elastic_inference.models.signature import SignatureRequest, unfed_text
from elastic_inference.units import format_bytes

log = logging.getLogger(__name__)
_PRECISION_OF_WEIGHTS = {"bfloat16": "bf16", "float16": "fp16", "float64": "fp64"}
# Texts of operations that refuse values; PyTorch has one class for these and for all else that goes wrong.
_VALUE_TEXTS = re.compile(
    r"\bsizes?\b|\bshapes?\b|dimension|out of (range|bounds)|must match|expected|Guard failed|dtype|broadcast|stride"
    r"|invalid for input|RaiseException|channels",
    re.IGNORECASE,
)
_TRIED_TO_ALLOCATE = re.compile(r"[Tt]ried to allocate ([\d.]+) ?([KMGT]i?B|bytes)|allocate (\d+) bytes")
_UNITS = {"bytes": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


def load(package: ModelPackage, request: SignatureRequest, options: EngineOptions) -> LoadedModel:
    """Load a PyTorch model.

    Raises:
        EngineNotAvailable: PyTorch is not installed, or sees no such device.
        UnsafeModel: The file holds what the options do not allow.
        InvalidModel: It is no such model, or damaged.
        UnsupportedModel: Another torch wrote it, or a tensor's dtype is one that no request can carry.
        InvalidInput: Names or specs of the request do not fit, or a precision that the device does not have.
        MemoryQuotaExceeded: It does not fit the device.
    """
    started = time.perf_counter()
    torch = import_torch()
    num_threads = options.num_threads or available_cores()
    device = find_device(torch, options, num_threads)
    try:
        with memory.kept_outside(), device.computing():  # the threads of it also for what loading computes
            program = _read(torch, package, request, options, device.name)
    except Exception as error:
        if device.is_out_of_memory(error):
            raise _no_memory(error, device) from error
        raise
    return TorchModel(torch, program, request, options, device, num_threads, started)


def _read(
    torch: ModuleType, package: ModelPackage, request: SignatureRequest, options: EngineOptions, device: str
) -> Program:
    path, is_trusted = package.main_path, options.allow_unsafe_operations
    if torch_archives.kind_of(path) is torch_archives.Kind.EXPORT:  # whatever the client called it
        return load_program(torch, path, device, is_trusted=is_trusted)
    return load_script(torch, path, request.input_specs, device, is_trusted=is_trusted)


class TorchModel(LoadedModel):
    """A loaded program on one device."""

    def __init__(
        self,
        torch: ModuleType,
        program: Program,
        request: SignatureRequest,
        options: EngineOptions,
        device: Cpu | Cuda,
        num_threads: int,
        started: float,
    ) -> None:
        self._torch = torch
        self._device = device
        self.signature = named_signature(request, program.inputs, program.outputs)
        if self.signature.unfed_placeholders:
            names = ", ".join(repr(spec.name) for spec in self.signature.unfed_placeholders)
            raise InvalidInput(f"input_names leave out {names}, and the model needs all of its inputs")
        self._program: Program | None = program
        alias_of = {spec.name: alias for alias, spec in self.signature.inputs.items()}
        self._feeds = [(alias_of[spec.name], spec.base_dtype) for spec in program.inputs]
        positions = {spec.name: position for position, spec in enumerate(program.outputs)}
        self._fetches = [
            (alias, positions[spec.name], spec.base_dtype) for alias, spec in self.signature.outputs.items()
        ]
        self._own_storages = _storages([*program.module.parameters(), *program.module.buffers()])
        self.report = EngineReport(
            engine="torch",
            engine_version=torch.__version__,
            device=device.label,
            precision=_precision(program, options.precision),
            num_threads=num_threads,
            load_seconds=time.perf_counter() - started,
            notes=(*program.notes, *_of_points(program)),
        )
        self._run = device.quickened(program, self._note)

    def _note(self, sentence: str) -> None:
        log.info("torch", extra={"note": sentence})
        self.report = replace(self.report, notes=(*self.report.notes, sentence))

    def predict(self, inputs: Arrays) -> dict[str, npt.NDArray[Any]]:
        program = self._program
        if program is None:
            raise PredictorClosed("the model was closed")
        for alias, _ in self._feeds:
            if alias not in inputs:
                raise InvalidArgumentError(unfed_text(self.signature.inputs[alias]))
        try:
            return self._predict(program, inputs)
        except Exception as error:
            if not self._device.is_out_of_memory(error):
                raise _translated(error, self._device) from error
            problem = error.with_traceback(None)  # whose frames would keep the memory
        self.empty()
        if self._device.free():
            try:
                return self._predict(program, inputs)
            except Exception as error:
                if not self._device.is_out_of_memory(error):
                    raise _translated(error, self._device) from error
                problem = error.with_traceback(None)
            self._device.free()
        raise _no_memory(problem, self._device) from problem

    def _predict(self, program: Program, inputs: Arrays) -> dict[str, npt.NDArray[Any]]:
        tensors = [to_tensor(self._torch, inputs[alias], dtype) for alias, dtype in self._feeds]
        with self._device.computing():
            placed = self._device.bring(tensors)
            if not program.is_input_kept:
                placed = [
                    tensor.clone() if own is tensor else own
                    for own, tensor in zip(placed, tensors, strict=True)
                ]
            values = self._device.fetch(self._run(placed))
            lent = self._own_storages | _storages(tensors)
            return {
                alias: to_array(self._torch, self._kept(values[position], lent), dtype)
                for alias, position, dtype in self._fetches
            }

    def _kept(self, value: Any, lent: frozenset[int]) -> Any:
        """Return the value in memory of its own: neither the caller's input nor the model's weights."""
        is_lent = isinstance(value, self._torch.Tensor) and value.untyped_storage().data_ptr() in lent
        return value.clone() if is_lent else value

    def empty(self) -> None:
        if isinstance(self._run, GraphedRun):
            self._run.forget()

    def close(self) -> None:
        self.empty()
        self._program = None
        self._device.free()


def _storages(tensors: Sequence[Any]) -> frozenset[int]:
    return frozenset(tensor.untyped_storage().data_ptr() for tensor in tensors)


def _precision(program: Program, wanted: str) -> str:
    if wanted in ("bf16", "fp16", "tf32"):
        return wanted
    dtypes = {
        str(p.dtype).removeprefix("torch.") for p in program.module.parameters() if p.is_floating_point()
    }
    return _PRECISION_OF_WEIGHTS.get(dtypes.pop(), "fp32") if len(dtypes) == 1 else "fp32"


def _of_points(program: Program) -> tuple[str, ...]:
    if program.num_points or not is_preemptible():
        return ()
    return (
        "The model has no point at which a request can be held, so whoever shares the device waits for whole requests.",
    )


def _translated(error: Exception, device: Cpu | Cuda) -> ElasticInferenceError:
    text = _last_line(error)
    if isinstance(error, ElasticInferenceError):
        return error
    if device.is_lost(error):
        return DeviceLost(
            f"{device.name} computes nothing in this process any more, by this request or by one before it: {text}"
        )
    if isinstance(error, ValueError | TypeError | IndexError | AssertionError) or _VALUE_TEXTS.search(text):
        return InvalidArgumentError(f"The model refused the values: {text}")
    return ModelError(f"PyTorch failed: {text}")


def _last_line(error: Exception) -> str:
    """Return the statement itself: TorchScript puts a trace before it, CUDA advice after it."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if not lines:
        return type(error).__name__
    is_trace = "Traceback of TorchScript" in str(error) or lines[0].startswith(
        "The following operation failed"
    )
    return lines[-1] if is_trace else lines[0]


def _no_memory(error: Exception, device: Cpu | Cuda) -> MemoryQuotaExceeded:
    match = _TRIED_TO_ALLOCATE.search(str(error))
    requested = 0
    if match is not None:
        requested = int(match[3]) if match[3] else int(float(match[1]) * _UNITS.get(match[2][0], 1))
    limit = device.memory_limit_bytes
    wanted = format_bytes(requested) if requested else "more than there is"
    allowed = (
        f"the limit of {device.name} is {format_bytes(limit)}"
        if limit
        else f"{device.name} has no limit of its own"
    )
    return MemoryQuotaExceeded(
        f"PyTorch could not get the memory: it asked for {wanted}, {allowed}",
        requested_bytes=requested,
        limit_bytes=limit,
    )
