"""The reference engine: TensorFlow itself, which every TensorFlow model runs on as it stands.

It computes in float32, on the CPU or on a CUDA device; the CUDA part has not been run on a GPU yet. TensorFlow is
imported when the first model is loaded.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import replace
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
from elastic_inference.engines.quiet import quiet_stderr
from elastic_inference.engines.tensorflow_library import import_tensorflow
from elastic_inference.engines.unsafe_operations import refuse_unsafe
from elastic_inference.errors import (
    ElasticInferenceError,
    EngineNotAvailable,
    InvalidArgumentError,
    InvalidModel,
    MemoryQuotaExceeded,
    ModelError,
    PredictorClosed,
    UnsupportedModel,
)
from elastic_inference.models.package import ModelFormat, ModelPackage
from elastic_inference.models.resolve import ResolvedGraph, resolve_graph
from elastic_inference.models.signature import Signature, SignatureRequest, unfed_text
from elastic_inference.models.state import tensorflow_changes
from elastic_inference.models.tensorflow_nodes import tensorflow_nodes
from elastic_inference.tensors import TensorSpec

# The caller's own tf.Graph and ConfigProto for the next load of this thread, None for ours.
given_session: ContextVar[tuple[Any, Any]] = ContextVar("given_session", default=(None, None))
_WHERE_LINES = ("Graph execution error:", "Detected at node", "Node:", "File ")


def load(package: ModelPackage, request: SignatureRequest, options: EngineOptions) -> LoadedModel:
    """Load a model on TensorFlow.

    Raises:
        EngineNotAvailable: TensorFlow is not installed, or sees no such device.
        UnsafeModel: The model would run operations that `options` do not allow.
        UnsupportedModel: This TensorFlow does not know an operation of it.
    """
    started = time.perf_counter()
    tf = import_tensorflow()
    _check_device(tf, options.device)
    if package.format is ModelFormat.KERAS:
        from elastic_inference.engines.keras_models import exported

        with exported(package, options) as saved_model:
            return TensorFlowGraph(tf, resolve_graph(saved_model, request), options, started)
    return TensorFlowGraph(tf, resolve_graph(package, request), options, started)


class TensorFlowGraph(LoadedModel):
    """A TensorFlow 1 session on a frozen graph or a meta graph."""

    def __init__(
        self, tf: ModuleType, resolved: ResolvedGraph, options: EngineOptions, started: float
    ) -> None:
        if not options.allow_unsafe_operations:
            refuse_unsafe(resolved)
        self.changes = tensorflow_changes(tensorflow_nodes(resolved))
        self._tf = tf
        num_threads = options.num_threads or available_cores()
        self._session = _open_session(tf, resolved, options.device, num_threads)
        self.signature = _with_shapes(resolved.signature, self._session.graph)
        self._fetches = {alias: spec.name for alias, spec in resolved.outputs.items()}
        self._feeds = {alias: spec.name for alias, spec in resolved.inputs.items()}
        self._needs = resolved.skeleton()
        self._missing: dict[frozenset[str], tuple[TensorSpec, ...]] = {}
        self.report = EngineReport(
            engine="tensorflow",
            engine_version=tf.__version__,
            device=options.device,
            precision="fp32",
            num_threads=num_threads,
            load_seconds=time.perf_counter() - started,
        )

    def predict(self, inputs: Arrays) -> dict[str, npt.NDArray[Any]]:
        given = frozenset(inputs)
        missing = self._missing.get(given)
        if missing is None:
            missing = self._missing[given] = self._needs.missing(given)
        if missing:
            raise InvalidArgumentError(unfed_text(missing[0]))
        feed = {self._feeds[alias]: value for alias, value in inputs.items()}
        try:
            results = self._session.run(self._fetches, feed)
        except (self._tf.errors.OpError, MemoryError, ValueError, TypeError, RuntimeError) as error:
            raise _translated(self._tf, error) from error
        return {
            alias: _own(
                value, is_fed=self._fetches[alias] in feed, dtype=self.signature.outputs[alias].numpy_dtype
            )
            for alias, value in results.items()
        }

    @property
    def session(self) -> Any:
        """The tf.compat.v1.Session, with its graph."""
        return self._session

    def close(self) -> None:
        self._session.close()


def _check_device(tf: ModuleType, device: str) -> None:
    if device.startswith("cpu"):
        return
    gpus = tf.config.list_physical_devices("GPU")
    index = int(device.partition(":")[2] or 0)
    if not device.startswith("cuda") or index >= len(gpus):
        raise EngineNotAvailable(f"engine tensorflow sees no device {device}; it sees {len(gpus)} GPUs")


def _open_session(tf: ModuleType, resolved: ResolvedGraph, device: str, num_threads: int) -> Any:
    given_graph, given_config = given_session.get()
    config = given_config or tf.compat.v1.ConfigProto(
        intra_op_parallelism_threads=num_threads,
        inter_op_parallelism_threads=num_threads,
        use_per_session_threads=True,  # else the first session of the process decides for all
        device_count={"GPU": 0} if device.startswith("cpu") else {},
    )
    if not device.startswith("cpu"):
        config.gpu_options.visible_device_list = device.partition(":")[2] or "0"
        config.gpu_options.allow_growth = True
    graph = given_graph or tf.Graph()
    with graph.as_default(), quiet_stderr():
        session = tf.compat.v1.Session(graph=graph, config=config)
        try:
            _fill(tf, resolved, session)
        except (tf.errors.OpError, ValueError, TypeError, KeyError, OSError, RuntimeError) as error:
            session.close()
            raise _load_error(tf, resolved, error) from error
    return session


def _fill(tf: ModuleType, resolved: ResolvedGraph, session: Any) -> None:
    if resolved.meta_graph is None:
        # From the message that was checked, not from the file, which may have changed since.
        graph_def = tf.compat.v1.GraphDef.FromString(resolved.graph.graph_def.SerializeToString())
        tf.import_graph_def(graph_def, name="")
    else:
        tags = list(resolved.meta_graph.meta_info_def.tags)
        tf.compat.v1.saved_model.load(session, tags, str(resolved.package.root))
        _fill_mirrored(tf, resolved, session)


def _fill_mirrored(tf: ModuleType, resolved: ResolvedGraph, session: Any) -> None:
    """Give Keras 3's variables their values, which TensorFlow 1's loader restores into copies of them alone.

    In the graph, each copy is initialized by reading the variable that it stands for.
    """
    nodes = resolved.graph.nodes
    pairs = []
    for node in nodes.values():
        if node.op != "AssignVariableOp" or len(node.input) < 2:
            continue
        copy, read = (nodes.get(name.partition(":")[0]) for name in node.input[:2])
        source = nodes.get(read.input[0].partition(":")[0]) if read is not None and read.input else None
        if (
            copy is not None and copy.op == "VarHandleOp"
            and read is not None and read.op == "ReadVariableOp"
            and source is not None and source.op == "VarHandleOp"
        ):  # fmt: skip
            pairs.append((source.name, copy.name, read.attr["dtype"].type))
    if not pairs:
        return
    is_filled = tf.raw_ops.VarIsInitializedOp
    handles = {name: session.graph.get_tensor_by_name(f"{name}:0") for pair in pairs for name in pair[:2]}
    filled = session.run({name: is_filled(resource=handle) for name, handle in handles.items()})
    for source_name, copy_name, dtype in pairs:
        if filled[copy_name] and not filled[source_name]:
            value = tf.raw_ops.ReadVariableOp(resource=handles[copy_name], dtype=tf.as_dtype(dtype))
            session.run(tf.raw_ops.AssignVariableOp(resource=handles[source_name], value=value))


def _load_error(tf: ModuleType, resolved: ResolvedGraph, error: Exception) -> ElasticInferenceError:
    path, text = resolved.package.main_path, _first_line(error)
    if isinstance(error, tf.errors.ResourceExhaustedError):
        return MemoryQuotaExceeded(f"TensorFlow could not get the memory to load {path}: {text}")
    if isinstance(error, tf.errors.DataLossError | tf.errors.OutOfRangeError | OSError) or (
        isinstance(error, tf.errors.NotFoundError) and "Op type not registered" not in text
    ):
        return InvalidModel(f"{path} is damaged or incomplete: {text}")
    return UnsupportedModel(f"TensorFlow {tf.__version__} cannot load {path}: {text}")


def _with_shapes(signature: Signature, graph: Any) -> Signature:
    def refined(specs: Mapping[str, TensorSpec]) -> dict[str, TensorSpec]:
        shapes = {alias: graph.get_tensor_by_name(spec.name).shape for alias, spec in specs.items()}
        return {
            alias: replace(spec, shape=None if shapes[alias].rank is None else tuple(shapes[alias].as_list()))
            for alias, spec in specs.items()
        }

    return replace(signature, inputs=refined(signature.inputs), outputs=refined(signature.outputs))


def _own(value: Any, *, is_fed: bool, dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    """Return an array that is the caller's own: TensorFlow gives scalars for rank 0 and hands a fed tensor back."""
    if dtype.hasobject and not isinstance(value, np.ndarray):
        array = np.empty((), dtype=object)
        array[()] = value
        return array
    return np.array(value, dtype=dtype) if is_fed else np.asarray(value)


def _translated(tf: ModuleType, error: Exception) -> ElasticInferenceError:
    text = _first_line(error)
    if "Attempted to use a closed Session" in text:
        return PredictorClosed("the model was closed")
    if isinstance(error, tf.errors.InvalidArgumentError | ValueError | TypeError):
        return InvalidArgumentError(text)
    if isinstance(error, tf.errors.ResourceExhaustedError | MemoryError):
        return MemoryQuotaExceeded(f"TensorFlow could not get the memory for this request: {text}")
    return ModelError(f"TensorFlow failed: {text}")


def _first_line(error: Exception) -> str:
    """Return the statement itself, without the lines on where in a program the node was made."""
    text = str(getattr(error, "message", None) or error)
    lines = [line.strip() for line in text.splitlines()]
    told = [line for line in lines if line and not line.startswith(_WHERE_LINES)]
    return told[0] if told else type(error).__name__
