"""ONNX models on ONNX Runtime, on the CPU or on a CUDA device; the CUDA part has not been run on a GPU yet."""

from __future__ import annotations

import threading
import time
from collections.abc import Collection, Sequence
from functools import partial
from importlib import import_module
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt

from elastic_inference.engines.base import (
    Arrays,
    EngineOptions,
    EngineReport,
    LoadedModel,
    available_cores,
)
from elastic_inference.engines.registry import engine_named
from elastic_inference.errors import (
    ElasticInferenceError,
    EngineNotAvailable,
    InvalidArgumentError,
    InvalidInput,
    InvalidModel,
    MemoryQuotaExceeded,
    ModelError,
    PredictorClosed,
    UnsupportedModel,
)
from elastic_inference.models.onnx_file import check_external_data, onnx_nodes, unranked
from elastic_inference.models.package import ModelPackage
from elastic_inference.models.resolve import named_signature
from elastic_inference.models.signature import SignatureRequest, unfed_text
from elastic_inference.models.source_nodes import SourceNode
from elastic_inference.models.state import onnx_changes
from elastic_inference.tensors import TensorSpec

_MAPS = ("seq(map(int64,tensor(float)))", "seq(map(string,tensor(float)))")
_DTYPES = {"float": "float32", "double": "float64"}


def load(package: ModelPackage, request: SignatureRequest, options: EngineOptions) -> LoadedModel:
    """Load an ONNX model on ONNX Runtime.

    Raises:
        EngineNotAvailable: ONNX Runtime is not installed, or sees no such device.
        InvalidModel: The file is no ONNX model.
        UnsupportedModel: ONNX Runtime does not know an operation or dtype of it.
    """
    return OnnxModel(_import(), package, request, options)


class OnnxModel(LoadedModel):
    """An ONNX Runtime session."""

    def __init__(
        self, ort: ModuleType, package: ModelPackage, request: SignatureRequest, options: EngineOptions
    ) -> None:
        started = time.perf_counter()
        check_external_data(package.main_path, [file.path for file in package.files])
        num_threads = options.num_threads or available_cores()
        self._open = partial(_open_session, ort, package, options.device, num_threads)
        self._lock = threading.Lock()
        self._is_closed = False
        self._session: Any = self._open()
        nodes = onnx_nodes(package.main_path)
        without_rank = unranked(package.main_path)
        self._labels = _labels(nodes)
        self.signature = named_signature(
            request,
            [_spec(port, without_rank) for port in self._session.get_inputs()],
            [_spec(port, without_rank) for port in self._session.get_outputs()],
        )
        if self.signature.unfed_placeholders:
            names = ", ".join(repr(spec.name) for spec in self.signature.unfed_placeholders)
            raise InvalidInput(f"input_names leave out {names}, and the model needs all of its inputs")
        self.changes = onnx_changes(nodes)
        self._feeds = {alias: spec.name for alias, spec in self.signature.inputs.items()}
        self._fetches = {alias: spec.name for alias, spec in self.signature.outputs.items()}
        self._names = list(dict.fromkeys(self._fetches.values()))
        self.report = EngineReport(
            engine="onnxruntime",
            engine_version=ort.__version__,
            device=options.device,
            precision="fp32",
            num_threads=num_threads,
            load_seconds=time.perf_counter() - started,
            notes=tuple(
                f"Output {name!r} is a sequence of maps; it is given as an array with a column each for {labels}."
                for name, labels in self._labels.items()
                if name in self._names
            ),
        )

    def predict(self, inputs: Arrays) -> dict[str, npt.NDArray[Any]]:
        session = self._session or self._reopened()
        for alias in self._feeds:
            if alias not in inputs:
                raise InvalidArgumentError(unfed_text(self.signature.inputs[alias]))
        feed = {name: _to_runtime(alias, inputs[alias]) for alias, name in self._feeds.items()}
        try:
            results = dict(zip(self._names, session.run(self._names, feed), strict=True))
        except Exception as error:  # its classes share no base but Exception
            raise _translated(error) from error
        return {alias: self._from_runtime(name, results[name]) for alias, name in self._fetches.items()}

    def _from_runtime(self, name: str, value: Any) -> npt.NDArray[Any]:
        labels = self._labels.get(name)
        return _from_runtime(value) if labels is None else _of_maps(value, labels)

    def empty(self) -> None:
        """Open the session anew at the next call: its arena keeps what the largest calls took."""
        if not self.changes:
            self._session = None

    def _reopened(self) -> Any:
        with self._lock:
            if self._is_closed:
                raise PredictorClosed("the model was closed")
            if self._session is None:
                self._session = self._open()
            return self._session

    def close(self) -> None:
        self._is_closed = True
        self._session = None


def _to_runtime(alias: str, array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Make the array one that ONNX Runtime takes: of bytes its binding would make the text "b'red'"."""
    if not array.dtype.hasobject:
        return array
    texts = np.empty(array.size, dtype=object)
    try:
        texts[:] = [bytes(item).decode() for item in array.reshape(-1)]
    except UnicodeDecodeError as error:
        raise InvalidArgumentError(f"input {alias!r} holds a string that is not UTF-8: {error}") from error
    return texts.reshape(array.shape)


def _from_runtime(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Give strings as bytes, as everywhere in this package."""
    if not array.dtype.hasobject:
        return array
    strings = np.empty(array.size, dtype=object)
    strings[:] = [item.encode() if isinstance(item, str) else item for item in array.reshape(-1)]
    return strings.reshape(array.shape)


def _import() -> ModuleType:
    try:
        onnxruntime = import_module("onnxruntime")
    except ImportError as error:
        raise engine_named("onnxruntime").not_installed(error) from error
    onnxruntime.set_default_logger_severity(3)
    return onnxruntime


def _open_session(ort: ModuleType, package: ModelPackage, device: str, num_threads: int) -> Any:
    settings = ort.SessionOptions()
    settings.intra_op_num_threads = num_threads
    settings.log_severity_level = 3
    # It would keep a plan of its memory for each combination of shapes that it ever sees, with no end to it. Without
    # plans models of fixed shapes are as quick and take less memory (docs/measurements.md).
    settings.enable_mem_pattern = False
    provider: Any = "CPUExecutionProvider"
    if not device.startswith("cpu"):
        provider = ("CUDAExecutionProvider", {"device_id": int(device.partition(":")[2] or 0)})
        if not device.startswith("cuda") or provider[0] not in ort.get_available_providers():
            raise EngineNotAvailable(
                f"engine onnxruntime has no {device}; it has {', '.join(ort.get_available_providers())}"
            )
    try:
        session = ort.InferenceSession(str(package.main_path), settings, providers=[provider])
    except Exception as error:  # its classes share no base but Exception
        raise _load_error(package, error) from error
    if not isinstance(provider, str) and provider[0] not in session.get_providers():
        raise EngineNotAvailable(f"engine onnxruntime could not use {device}")  # it would go on with the CPU
    return session


def _labels(nodes: Sequence[SourceNode]) -> dict[str, list[Any]]:
    """Find outputs that are sequences of maps from class to probability -> the classes, as columns."""
    found = {}
    for node in nodes:
        labels = node.attributes.get("classlabels_int64s") or node.attributes.get("classlabels_strings")
        if node.op == "ZipMap" and labels:
            found[node.outputs[0]] = list(labels)
    return found


def _of_maps(maps: Sequence[dict[Any, float]], labels: Sequence[Any]) -> npt.NDArray[np.float32]:
    return np.array([[row[label] for label in labels] for row in maps], np.float32).reshape(-1, len(labels))


def _spec(port: Any, without_rank: Collection[str]) -> TensorSpec:
    if port.type in _MAPS:
        return TensorSpec(port.name, "float32", (None, None))
    element = port.type.removeprefix("tensor(").removesuffix(")")
    if element == port.type or element == "bfloat16":
        raise UnsupportedModel(
            f"tensor {port.name!r} is a {port.type}, which no request can carry; export it as a tensor "
            "(skl2onnx: options={'zipmap': False})"
        )
    shape = (
        None
        if port.name in without_rank
        else tuple(size if isinstance(size, int) else None for size in port.shape)
    )
    return TensorSpec(port.name, _DTYPES.get(element, element), shape)


def _load_error(package: ModelPackage, error: Exception) -> ElasticInferenceError:
    kind, text = type(error).__name__, _first_line(error)
    if (
        kind in ("InvalidProtobuf", "InvalidGraph", "NoSuchFile", "Fail")
        and "is not a registered" not in text
    ):
        return InvalidModel(f"{package.main_path} is not an ONNX model: {text}")
    if isinstance(error, MemoryError):
        return MemoryQuotaExceeded(
            f"ONNX Runtime could not get the memory to load {package.main_path}: {text}"
        )
    return UnsupportedModel(f"ONNX Runtime cannot load {package.main_path}: {text}")


def _translated(error: Exception) -> ElasticInferenceError:
    text = _first_line(error)
    if isinstance(error, MemoryError) or "Failed to allocate" in str(error) or "bad_alloc" in str(error):
        return MemoryQuotaExceeded(f"ONNX Runtime could not get the memory for this request: {text}")
    if type(error).__name__ in ("InvalidArgument", "RuntimeException"):
        return InvalidArgumentError(f"The graph refused the values: {text}")
    return ModelError(f"ONNX Runtime failed: {text}")


def _first_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
