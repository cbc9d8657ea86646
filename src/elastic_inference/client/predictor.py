"""EIPredictor: TensorFlow's Predictor, computed on an accelerator or, with `use_ei=False`, in this process."""

from __future__ import annotations

import functools
import itertools
import os
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, NoReturn, ParamSpec, Protocol, TypeVar

import numpy.typing as npt

from elastic_inference.client import checks, graph_view, placement, shorthand
from elastic_inference.client.accelerator import Accelerator, Local
from elastic_inference.client.feeds import Feeds
from elastic_inference.client.load_options import LoadOptions
from elastic_inference.client.load_stages import OnStage
from elastic_inference.client.local import LocalModel
from elastic_inference.client.prediction import Outputs, Prediction
from elastic_inference.client.remote import LOAD_SECONDS, RemoteModel
from elastic_inference.client.report import CallTiming, PredictorReport
from elastic_inference.client.upload import Progress
from elastic_inference.deadline import Deadline
from elastic_inference.errors import InvalidInput, PredictorClosed
from elastic_inference.models.package import ModelPackage
from elastic_inference.models.signature import Signature, SignatureRequest
from elastic_inference.tensors import from_bfloat16_bits

DEFAULT_TIMEOUT_SECONDS = (
    60.0  # the article's model takes 3 s on two cores, and ten times that on a small share
)
MAX_THREADS = 64
P = ParamSpec("P")
T = TypeVar("T")


class _Model(Protocol):
    signature: Signature

    def predict(self, inputs: Mapping[str, npt.NDArray[Any]], deadline: Deadline) -> Prediction: ...

    def report(self, start_seconds: float) -> PredictorReport: ...

    def close(self) -> None: ...


class EIPredictor:
    """Call it with a dictionary of inputs, get a dictionary of outputs, as TensorFlow's Predictor does it.

    Safe for several threads. A forked child may go on using it; it cannot be pickled.

    Args:
        model_dir: A SavedModel directory, a frozen graph (.pb), or a Keras, ONNX, TFLite or PyTorch (.pt2, .pt) file.
        signature_def_key: Which signature; None means `serving_default`.
        signature_def: A SignatureDef, or anything with `inputs` and `outputs` of alias -> object with `name`.
        input_names, output_names: alias -> tensor name, together, instead of a signature. For PyTorch models
            `output_names` may also be a list: aliases for all outputs in their order.
        tags: Tags of the meta graph, separated by commas; None means `serve`.
        graph, config: A tf.Graph to load into and a ConfigProto, for TensorFlow in this process; others leave them be.
        use_ei: False computes in this process, as `accelerator=Accelerator.local()` does.
        accelerator_id: Short for `accelerator=Accelerator.of_id(accelerator_id)`.
        accelerator: Where to compute; None: what the environment says, else an embedded accelerator on this machine.
        load: How to load the model.
        timeout_seconds: From a call to its return, queue wait and retries included; None waits without limit.
        strict: Whether a cast that loses information is an error.
        progress: Called with (bytes sent, bytes in all) while the model is sent.
        on_stage: Called with what loading does now, such as "sending" or "compiling"; from another thread too.
        use_shared_memory: Whether large inputs may go through shared memory where the accelerator is on this machine.
        input_specs: alias -> dtype and sizes such as `{"image": "float32:3,-1,-1"}`, which TorchScript does not say.
        address, token, tls_ca, tls_cert, tls_key: Short for `accelerator=Accelerator.at(address, ...)`.
        host, accelerator_type: Short for `accelerator=Accelerator.attach(accelerator_type, host=host, ...)`; `host`
            alone, for `Accelerator.of_id(host=host, ...)`.
        num_threads: Short for `threads` of an embedded or local `accelerator`.
        allow_unsafe_operations: Short for that of an embedded `accelerator`: whether it runs models that touch files,
            processes or the network.
        engine, precision, warm_up, cache_dir, proof, batching, max_batch_rows, name: Short for `load=LoadOptions(...)`.

    Raises:
        InvalidInput: An argument is wrong, or two contradict each other, or the model has no such signature.
        ModelNotFound, InvalidModel, TagsNotFound, TensorNotFound: The model is not as `model_dir` and names say.
        TransportError: The accelerator could not be reached.
        ElasticInferenceError: What the accelerator or engine says.
    """

    def __init__(
        self,
        model_dir: str | os.PathLike[str],
        signature_def_key: str | None = None,
        signature_def: Any = None,
        input_names: Mapping[str, str] | None = None,
        output_names: Mapping[str, str] | Sequence[str] | None = None,
        tags: str | None = None,
        graph: Any = None,
        config: Any = None,
        use_ei: bool = True,
        accelerator_id: str | int | None = None,
        *,
        accelerator: Accelerator | None = None,
        load: LoadOptions | None = None,
        timeout_seconds: float | None = DEFAULT_TIMEOUT_SECONDS,
        strict: bool = False,
        progress: Progress | None = None,
        on_stage: OnStage | None = None,
        use_shared_memory: bool = True,
        address: str | None = None,
        token: str | None = None,
        host: str | None = None,
        accelerator_type: str | None = None,
        tls_ca: str | None = None,
        tls_cert: str | None = None,
        tls_key: str | None = None,
        num_threads: int | None = None,
        engine: str | None = None,
        precision: str | None = None,
        warm_up: bool | Mapping[str, Sequence[int]] | None = None,
        cache_dir: str | Literal[False] | None = None,
        proof: str | None = None,
        batching: str | None = None,
        max_batch_rows: int | None = None,
        name: str | None = None,
        allow_unsafe_operations: bool | None = None,
        input_specs: Mapping[str, str] | None = None,
    ) -> None:
        self._request = _signature_request(
            signature_def_key, signature_def, input_names, output_names, tags, input_specs
        )
        checks.seconds("timeout_seconds", timeout_seconds)
        checks.flag("use_ei", use_ei)
        checks.flag("strict", strict)
        checks.flag("use_shared_memory", use_shared_memory)
        keywords = shorthand.PlaceKeywords(
            accelerator_id, address, token, host, accelerator_type, tls_ca, tls_cert, tls_key, num_threads,
            allow_unsafe_operations,
        )  # fmt: skip
        self._accelerator = shorthand.where(accelerator, use_ei, keywords)
        self._load = shorthand.how(
            load, engine, precision, warm_up, cache_dir, proof, batching, max_batch_rows, name
        )
        self._cache_dir = shorthand.cache_dir_of(self._accelerator, self._load)
        self._unused = shorthand.unused(self._accelerator, keywords)
        self._model_dir = model_dir
        self._here = {"graph": graph, "config": config, "on_stage": on_stage}
        self.timeout_seconds = timeout_seconds
        self._strict = strict
        self._progress = progress
        self._on_stage = on_stage
        self._use_shared_memory = use_shared_memory
        self._is_closed = False
        self._executor: tuple[int, ThreadPoolExecutor] | None = None
        self._executor_lock = threading.Lock()
        self._finalizer: Callable[[], object] = _nothing
        self._open(Deadline(LOAD_SECONDS))

    def _open(self, deadline: Deadline) -> None:
        """Load the model; AsyncEIPredictor does so in another thread, which `deadline` can call back."""
        self._model: _Model
        package = ModelPackage.read(Path(self._model_dir))
        if isinstance(self._accelerator, Local):
            self._model = self._load_here(package, self._accelerator)
            self.report = self._model.report(0.0)
            end = self._model.close
        else:
            self._model, end = self._load_there(package, deadline)
        if self._unused:
            self.report = replace(self.report, notes=(*self.report.notes, self._unused))
        self._finalizer = weakref.finalize(self, end)
        self._feeds = Feeds(self._model.signature, self._strict)
        self._rank_0_echoes = _rank_0_echoes(self._model.signature)
        specs = self._model.signature.outputs.items()
        self._bfloat16_outputs = tuple(alias for alias, spec in specs if spec.base_dtype == "bfloat16")
        self._set_graph()

    def _load_here(self, package: ModelPackage, accelerator: Local) -> LocalModel:
        return LocalModel(package, self._request, self._load, accelerator.threads, **self._here)

    def _load_there(
        self, package: ModelPackage, deadline: Deadline
    ) -> tuple[RemoteModel, Callable[[], None]]:
        start = time.monotonic()
        place = placement.find(self._accelerator, self._cache_dir)
        start_seconds = time.monotonic() - start
        try:
            remote = RemoteModel(
                place.pool, package, self._request, self._load, self._use_shared_memory, self._progress,
                place.explain, self._on_stage,
            )  # fmt: skip
            remote.load(deadline)
            self.report = remote.report(start_seconds)
        except BaseException:
            place.close()
            raise
        return remote, functools.partial(_end, remote, place)

    def report_now(self) -> PredictorReport:
        """Return what is in force now, as a comparison in the background may have changed it since `report`."""
        return self._model.report(self.report.start_seconds)

    def _set_graph(self) -> None:
        """Show TensorFlow's own graph and session where TensorFlow computes here, else objects that stand for them."""
        signature = self._model.signature
        session = self._model.session if isinstance(self._model, LocalModel) else None
        self.session: Any = session or graph_view.Session(graph_view.Graph(signature))
        self.graph: Any = self.session.graph
        self._feed_tensors = graph_view.tensors(signature.inputs, self.graph)
        self._fetch_tensors = graph_view.tensors(signature.outputs, self.graph)

    @property
    def feed_tensors(self) -> dict[str, Any]:
        """The input tensors by alias, with name, dtype and shape."""
        return self._feed_tensors

    @property
    def fetch_tensors(self) -> dict[str, Any]:
        """The output tensors by alias, with name, dtype and shape."""
        return self._fetch_tensors

    def __call__(self, inputs: Mapping[str, Any]) -> Outputs:
        """Run the model once.

        Args:
            inputs: A value for each input alias: an array, or what `numpy.asarray` takes; cast silently to the
                tensor's dtype as TensorFlow does. An array that fits already is not copied in this process.

        Returns:
            A new dictionary: an array for each output alias; rank 0 comes as a numpy scalar, strings as bytes.

        Raises:
            InvalidInput: An alias is unknown, or a value has a wrong shape or type. Nothing was sent.
            InvalidArgumentError: A value is missing, or the graph refused one.
            DeadlineExceeded: No reply in time. The device may still run the request.
            TransportError: The accelerator is gone and did not come back in time.
        """
        return self.predict_until(inputs, Deadline(self.timeout_seconds)).outputs

    def predict_timed(self, inputs: Mapping[str, Any]) -> tuple[Outputs, CallTiming]:
        """Return the same as a call, and where its time went."""
        start = time.perf_counter()
        prediction = self.predict_until(inputs, Deadline(self.timeout_seconds))
        return prediction.outputs, prediction.timing(time.perf_counter() - start)

    def submit(self, inputs: Mapping[str, Any]) -> Future[Outputs]:
        """Start a call on another thread; its arrays must stay unchanged until the future is done."""
        return self.run(self._outputs, inputs, Deadline(self.timeout_seconds))

    def run(self, work: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> Future[T]:
        """Run something on one of the predictor's threads, which `close` waits for; PredictorClosed after it."""
        self._check_open()
        try:
            return self._threads().submit(work, *arguments, **named)
        except RuntimeError:
            self._check_open()  # closed by another thread in between
            raise

    def map(self, inputs: Iterable[Mapping[str, Any]], in_flight: int = 2) -> Iterator[Outputs]:
        """Yield the outputs of each input in order, while the next requests are already on their way.

        Args:
            inputs: Read as results are taken, never more than `in_flight` ahead.
            in_flight: Requests at once, 1 to 64.
        """
        check_in_flight(in_flight)
        self._check_open()
        return self._map(iter(inputs), in_flight)

    def _map(self, inputs: Iterator[Mapping[str, Any]], in_flight: int) -> Iterator[Outputs]:
        pending = deque(self.submit(value) for value in itertools.islice(inputs, in_flight))
        try:
            while pending:
                outputs = pending.popleft().result()
                pending.extend(self.submit(value) for value in itertools.islice(inputs, 1))
                yield outputs
        finally:
            for future in pending:
                future.cancel()

    def _outputs(self, inputs: Mapping[str, Any], deadline: Deadline) -> Outputs:
        return self.predict_until(inputs, deadline).outputs

    def predict_until(self, inputs: Mapping[str, Any], deadline: Deadline) -> Prediction:
        """Run the model once; the other ways to call it are made of this one."""
        if self._is_closed:
            self._check_open()
        arrays = self._feeds.arrays(inputs)
        prediction = self._model.predict(arrays, deadline)
        outputs = prediction.outputs
        for alias in self._bfloat16_outputs:
            outputs[alias] = from_bfloat16_bits(outputs[alias])
        for alias, array in outputs.items():
            if not array.ndim and self._rank_0_echoes.get(alias) not in arrays:
                outputs[alias] = array[()]
        return prediction

    def _check_open(self) -> None:
        if self._is_closed:
            raise PredictorClosed("the predictor is closed; construct another one")

    def _threads(self) -> ThreadPoolExecutor:
        executor = self._executor
        if executor is None or executor[0] != os.getpid():
            with self._executor_lock:
                executor = self._executor
                if executor is None or executor[0] != os.getpid():  # threads do not survive a fork
                    executor = (os.getpid(), ThreadPoolExecutor(MAX_THREADS, "elastic-inference"))
                    self._executor = executor
        return executor[1]

    def close(self) -> None:
        """End what this predictor started: threads, connections, embedded or attached accelerator. Twice is fine.

        What `submit` has running is waited for, what it has waiting is cancelled. A call of another thread finishes,
        or raises PredictorClosed where it needed what has ended.
        """
        self._is_closed = True
        if self._executor is not None and self._executor[0] == os.getpid():
            self._executor[1].shutdown(wait=True, cancel_futures=True)
        self._finalizer()

    def __enter__(self) -> EIPredictor:
        return self

    def __exit__(
        self, cls: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "an EIPredictor holds connections and cannot be pickled; send the constructor's arguments instead and "
            "construct one in each process"
        )

    def __repr__(self) -> str:
        state = "closed" if self._is_closed else self.report.summary()
        return f"EIPredictor({state}; {sorted(self._feed_tensors)} -> {sorted(self._fetch_tensors)})"


def check_in_flight(in_flight: int) -> None:
    """Refuse what is no number of requests at once."""
    if not isinstance(in_flight, int) or not 1 <= in_flight <= MAX_THREADS:
        raise InvalidInput(f"in_flight {in_flight} is not between 1 and {MAX_THREADS}")


def _end(model: RemoteModel, place: placement.Place) -> None:
    model.give_back()
    place.close()


def _nothing() -> None:
    """Do nothing: the end of a predictor that has not begun."""


def _rank_0_echoes(signature: Signature) -> dict[str, str]:
    """Output alias -> input alias of the same tensor: TensorFlow gives a fed value back as the array that it was."""
    alias_of = {spec.name: alias for alias, spec in signature.inputs.items() if spec.shape in ((), None)}
    return {alias: alias_of[s.name] for alias, s in signature.outputs.items() if s.name in alias_of}


def _signature_request(
    key: str | None,
    definition: Any,
    input_names: Mapping[str, str] | None,
    output_names: Mapping[str, str] | Sequence[str] | None,
    tags: str | None,
    input_specs: Mapping[str, str] | None,
) -> SignatureRequest:
    """Check the argument rules, with TensorFlow's messages, and take names out of a SignatureDef."""
    output_aliases: tuple[str, ...] | None = None
    if output_names is not None and not isinstance(output_names, Mapping):
        output_aliases, output_names = tuple(output_names), None
    request = SignatureRequest(key, input_names, output_names, tags, input_specs, output_aliases)
    if definition is None:
        return request
    if key is not None or input_names is not None:
        raise InvalidInput(
            "You must specify at most one of signature_def_key OR signature_def OR(input_names AND output_names)."
        )
    inputs, outputs = (
        {alias: info.name for alias, info in getattr(definition, side).items()}
        for side in ("inputs", "outputs")
    )
    return SignatureRequest(None, inputs, outputs, tags)
