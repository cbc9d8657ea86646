"""TFLite models on LiteRT, the runtime that they are written for: the reference of their format, on the CPU."""

from __future__ import annotations

import threading
import time
from importlib import import_module
from importlib.metadata import version
from typing import Any

import numpy as np
import numpy.typing as npt

from elastic_inference.engines.base import Arrays, EngineOptions, EngineReport, LoadedModel, available_cores
from elastic_inference.engines.quiet import quiet_stderr
from elastic_inference.errors import (
    InvalidArgumentError,
    InvalidInput,
    InvalidModel,
    MemoryQuotaExceeded,
    PredictorClosed,
    UnsupportedModel,
)
from elastic_inference.models.package import ModelPackage
from elastic_inference.models.resolve import named_signature
from elastic_inference.models.signature import SignatureRequest, unfed_text
from elastic_inference.tensors import WIRE_NAMES, TensorSpec

# Besides variables by name, cells that write what they are given to begin with.
_STATEFUL = {
    "ASSIGN_VARIABLE",
    "SVDF",
    "UNIDIRECTIONAL_SEQUENCE_LSTM",
    "UNIDIRECTIONAL_SEQUENCE_RNN",
    "LSTM",
    "RNN",
}
_STATEFUL |= {"BIDIRECTIONAL_SEQUENCE_LSTM", "BIDIRECTIONAL_SEQUENCE_RNN", "CALL_ONCE"}

with quiet_stderr():
    _interpreter = import_module("ai_edge_litert.interpreter")  # the registry tells where it is not installed


def load(package: ModelPackage, request: SignatureRequest, options: EngineOptions) -> LoadedModel:
    """Load a TFLite model on LiteRT.

    Raises:
        InvalidModel: The file is no TFLite model.
        UnsupportedModel: LiteRT does not know an operation or dtype of it.
    """
    return LiteRtModel(package, request, options)


class LiteRtModel(LoadedModel):
    """An interpreter, which one call at a time may use: it holds its tensors."""

    def __init__(self, package: ModelPackage, request: SignatureRequest, options: EngineOptions) -> None:
        started = time.perf_counter()
        num_threads = options.num_threads or available_cores()
        try:
            with quiet_stderr():
                self._model = _open(str(package.main_path), num_threads)
        except (ValueError, RuntimeError) as error:
            kind = InvalidModel if isinstance(error, ValueError) else UnsupportedModel
            raise kind(f"LiteRT cannot load {package.main_path}: {_told(error)}") from error
        inputs, outputs = self._model.get_input_details(), self._model.get_output_details()
        self.signature = named_signature(request, map(_spec, inputs), map(_spec, outputs))
        if self.signature.unfed_placeholders:
            names = ", ".join(repr(spec.name) for spec in self.signature.unfed_placeholders)
            raise InvalidInput(f"input_names leave out {names}, and the model needs all of its inputs")
        places = {detail["name"]: detail["index"] for detail in (*inputs, *outputs)}
        self._feeds = {alias: places[spec.name] for alias, spec in self.signature.inputs.items()}
        self._fetches = {alias: places[spec.name] for alias, spec in self.signature.outputs.items()}
        self.changes = _changes(self._model)
        self._shapes: dict[int, tuple[int, ...]] = {}
        self._lock = threading.Lock()
        self.report = EngineReport(
            engine="litert",
            engine_version=version("ai-edge-litert"),
            device=options.device,
            precision="fp32",
            num_threads=num_threads,
            load_seconds=time.perf_counter() - started,
        )

    def predict(self, inputs: Arrays) -> dict[str, npt.NDArray[Any]]:
        for alias in self._feeds:
            if alias not in inputs:
                raise InvalidArgumentError(unfed_text(self.signature.inputs[alias]))
        with self._lock:
            model = self._model
            if model is None:
                raise PredictorClosed("the model was closed")
            try:
                self._fit(model, {place: inputs[alias].shape for alias, place in self._feeds.items()})
                for alias, place in self._feeds.items():
                    model.set_tensor(place, inputs[alias])
                model.invoke()
                return {alias: np.array(model.get_tensor(place)) for alias, place in self._fetches.items()}
            except MemoryError as error:
                raise MemoryQuotaExceeded(
                    f"LiteRT could not get the memory for this request: {error}"
                ) from error
            except (ValueError, RuntimeError) as error:
                self._shapes = {}
                raise InvalidArgumentError(f"The graph refused the values: {_told(error)}") from error

    def _fit(self, model: Any, shapes: dict[int, tuple[int, ...]]) -> None:
        """Give the inputs these shapes, where they have others."""
        if shapes != self._shapes:
            for place, shape in shapes.items():
                model.resize_tensor_input(place, shape)
            model.allocate_tensors()
            self._shapes = shapes

    def close(self) -> None:
        with self._lock:
            self._model = None


def _open(path: str, num_threads: int) -> Any:
    """Return an interpreter that has allocated its tensors, or one with open sizes that has not.

    Allocated with 1 for each open size, as LiteRT does it, some models take no other sizes any more, or fail.
    """
    model = _interpreter.Interpreter(path, num_threads=num_threads)
    is_open = any(-1 in detail["shape_signature"] for detail in model.get_input_details())
    try:
        model.allocate_tensors()
    except RuntimeError as error:
        if not is_open or "unresolved custom op" in str(error):
            raise
    return _interpreter.Interpreter(path, num_threads=num_threads) if is_open else model


def _changes(model: Any) -> tuple[str, ...]:
    """Name the operations that keep something for the next call, as streaming models do."""
    found = {str(operation["op_name"]) for operation in model._get_ops_details()}
    return tuple(sorted(found & _STATEFUL))


def _spec(detail: dict[str, Any]) -> TensorSpec:
    name, dtype = str(detail["name"]), np.dtype(detail["dtype"]).name
    if dtype not in WIRE_NAMES:
        raise UnsupportedModel(f"tensor {name!r} has dtype {dtype}, which no request can carry")
    sizes = detail["shape_signature"] if len(detail["shape_signature"]) else detail["shape"]
    return TensorSpec(name, dtype, tuple(None if size < 0 else int(size) for size in sizes))


def _told(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
