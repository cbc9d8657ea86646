"""What an accelerator does for its clients, on plain values. Every door translates to these calls; none decides."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from typing import Any, NamedTuple, TypeVar

from elastic_inference.accelerator import descriptions, raw_requests
from elastic_inference.accelerator.batching.runner import Runner
from elastic_inference.accelerator.config import AcceleratorConfig
from elastic_inference.accelerator.model_entry import ModelEntry, ModelState
from elastic_inference.accelerator.model_statistics import Timing
from elastic_inference.accelerator.model_table import ModelTable
from elastic_inference.accelerator.queue import RequestQueue
from elastic_inference.accelerator.recent import latency
from elastic_inference.accelerator.regions import RegionTable
from elastic_inference.accelerator.repository.repository import Repository
from elastic_inference.accelerator.repository.sent_files import LoadCommands
from elastic_inference.accelerator.request_tensors import Output, RequestTensors
from elastic_inference.accelerator.switches import LogSwitches, TraceSwitches
from elastic_inference.accelerator.tokens import Tokens
from elastic_inference.accelerator.tracing import Tracer
from elastic_inference.accelerator.versions import FIRST
from elastic_inference.clock import MonotonicClock
from elastic_inference.errors import InvalidInput, ModelNotFound, ModelNotReady
from elastic_inference.limits.fence import Fence
from elastic_inference.limits.request_rate import RequestRate
from elastic_inference.models.definitions import Definition
from elastic_inference.models.signature import Signature
from elastic_inference.protocol.heads import RequestHead

EXTENSIONS = (
    "binary_tensor_data", "classification", "system_shared_memory", "model_repository", "model_configuration",
    "statistics", "trace", "logging", "elastic_inference",
)  # fmt: skip
T = TypeVar("T")


@dataclass(frozen=True)
class Shared:
    """What all connections of one accelerator use.

    Attributes:
        runner: Gives requests their turns of `queue`.
        body_limit_bytes: A larger request is refused.
        commands: Answers loads and unloads by command.
        repository: The folder of models that is served; None where there is none.
        tracer: Makes spans of requests; None where nobody asked for them.
    """

    models: ModelTable
    regions: RegionTable
    queue: RequestQueue
    runner: Runner
    body_limit_bytes: int
    commands: LoadCommands
    repository: Repository | None = None
    tracer: Tracer | None = None


class Result(NamedTuple):
    """What a request came to; a door makes an answer of it."""

    model_name: str
    model_version: str
    request_id: str | None
    outputs: Sequence[Output]
    timing: Timing


class Inference:
    """The calls of the Open Inference Protocol and its extensions; one for all doors of an accelerator."""

    def __init__(self, config: AcceleratorConfig, shared: Shared) -> None:
        self.config = config
        self.shared = shared
        self.tokens = Tokens(config.token_sha256, config.admin_token_sha256)
        self.fence = None if config.fence is None else Fence(config.fence)
        self.rate = None if config.rate is None else RequestRate(config.rate, MonotonicClock())
        self._tensors = RequestTensors(shared.regions)
        self.drained = threading.Event()
        self.logs = LogSwitches()
        self.trace = TraceSwitches(is_on=shared.tracer is not None)

    def infer(
        self,
        model: str,
        head: RequestHead,
        tensors: Sequence[memoryview],
        respond: Callable[[Result], T],
        trace_parent: bytes = b"",
        timeout_seconds: float | None = None,
        is_wanted: Callable[[], bool] | None = None,
        began: float | None = None,
        model_version: str = "",
        signature_key: str = "",
    ) -> T:
        """Run one request. The hot path.

        Args:
            tensors: The bytes of those inputs that come with the request, in their order in the head.
            respond: Makes the door's answer; timed and counted as part of the request.
            trace_parent: W3C's `traceparent` of the caller's span.
            timeout_seconds: What is left of the caller's time, beside that of the head; None: no limit.
            is_wanted: Asked when the turn has come, since the client may have left meanwhile; None: it stays.
            began: When the door began to receive it, on time.monotonic; None: now.
            model_version: "" is the newest.
            signature_key: "" is the one that the model was loaded with.

        Returns:
            What `respond` returned.

        Raises:
            ElasticInferenceError: Whatever is wrong with the request, or went wrong while it ran.
        """
        arrived = time.monotonic()
        timeout = head.timeout_seconds
        if timeout_seconds is not None:
            timeout = timeout_seconds if timeout is None else min(timeout, timeout_seconds)
        entry = self.shared.models.ready(model, timeout, model_version)
        if signature_key:
            entry = self.shared.models.others.ready(entry, signature_key, timeout)
        timing = Timing()
        outcome = "success"
        try:
            return respond(self._run(entry, head, tensors, arrived, timeout, timing, is_wanted))
        except ModelNotFound as error:
            outcome = type(error).__name__
            if entry.model is not None or not self.shared.models.versions.all(entry.name):
                raise
            # Its files were replaced between the look and the turn: what took its place answers.
            left = None if timeout is None else arrived + timeout - time.monotonic()
            again = trace_parent, left, is_wanted, began or arrived, model_version, signature_key
            return self.infer(model, head, tensors, respond, *again)
        except Exception as error:
            outcome = type(error).__name__
            raise
        finally:
            now = timing.answered_at = time.monotonic()
            timing.total_seconds = now - (arrived if began is None else began)
            if timing.ended:
                timing.output_seconds = now - timing.ended
            if self.shared.tracer is not None:
                timing.trace_id = self.shared.tracer.record(
                    trace_parent, entry.name, outcome, timing.queue_seconds, timing.service_seconds
                )
            if outcome == "success":
                entry.answered(timing)
            else:
                entry.failed(outcome, timing)

    def raw_request(self, model: str, data: memoryview, model_version: str = "") -> RequestHead:
        """Return the head of a request that is one tensor's bytes and nothing else, its shape told by their number.

        Raises:
            InvalidInput: The model has several inputs, or a shape with more than one open size.
        """
        return raw_requests.head_of(self.signature(model, model_version), len(data), model)

    def _run(
        self,
        entry: ModelEntry,
        head: RequestHead,
        tensors: Sequence[memoryview],
        arrived: float,
        timeout_seconds: float | None,
        timing: Timing,
        is_wanted: Callable[[], bool] | None,
    ) -> Result:
        if self.rate is not None:
            self.rate.take()
        signature = entry.loaded().signature
        inputs = self._tensors.inputs(head, tensors, entry, signature)
        entered = time.monotonic()
        timing.input_seconds = entered - arrived
        left = None if timeout_seconds is None else arrived + timeout_seconds - entered
        made = self.shared.runner.run(entry, inputs, left, timing, is_wanted)
        if self.fence is not None and not self.fence.is_open():
            raise ModelNotReady("the lease of this accelerator's host has ended; it serves elsewhere")
        outputs = self._tensors.outputs(head, made, entry, signature)
        return Result(entry.name, entry.version, head.id, outputs, timing)

    def server_metadata(self) -> dict[str, Any]:
        """Return what the protocol's server metadata says: name, version, extensions."""
        return {
            "name": self.config.server_name,
            "version": version("elastic-inference"),
            "extensions": list(EXTENSIONS),
        }

    def is_ready(self) -> bool:
        """Whether the accelerator takes requests: not while it drains, nor before its folder of models was loaded."""
        repository = self.shared.repository
        return not self.drained.is_set() and (repository is None or repository.is_loaded)

    def is_model_ready(self, name: str, model_version: str = "") -> bool:
        """Whether requests for this model run now; ModelNotFound where there is none."""
        return self._entry(name, model_version).state is ModelState.READY

    def metadata(self, name: str, model_version: str = "") -> dict[str, Any]:
        """Return a loaded model's name, platform and tensors, as the protocol has them."""
        entry = self._ready(name, model_version)
        return descriptions.metadata(entry, self.versions(entry.name))

    def versions(self, name: str) -> list[str]:
        """Return the versions of a model that are served, the newest last."""
        return self.shared.models.versions.all(name) or [FIRST]

    def signature(self, name: str, model_version: str = "", key: str = "") -> Signature:
        """Return a loaded model's inputs and outputs; see OtherSignatures.ready."""
        return self.shared.models.others.ready(self._ready(name, model_version), key).loaded().signature

    def definitions(self, name: str, model_version: str = "") -> Mapping[str, Definition]:
        """Return all signatures of a loaded model by key; none where its format has no keys."""
        return self.shared.models.others.definitions(self._ready(name, model_version))

    def signature_key(self, name: str, model_version: str = "") -> str:
        """Return the key of the signature that a model was loaded with, "" where tensors were named instead."""
        return self._ready(name, model_version).signature_key

    def model_config(self, name: str, model_version: str = "") -> dict[str, Any]:
        """Return a loaded model's configuration in Triton's form; our own client's part stands beside it."""
        return descriptions.config(self._ready(name, model_version))

    def statistics(self, name: str = "", model_version: str = "") -> list[dict[str, Any]]:
        """Return the statistics extension's row for each model, or for the one of that name."""
        entries = [self._entry(name, model_version)] if name else self.shared.models.entries()
        return [descriptions.statistics(entry) for entry in entries]

    def index(self, only_ready: bool = False) -> list[dict[str, Any]]:
        """Return what is loaded, loading, failed or unloaded, or only what is ready."""
        models = self.shared.models
        entries = models.entries()
        rows = [descriptions.index_entry(entry) for entry in entries]
        rows += [descriptions.unloaded_entry(name) for name in models.unloaded()]
        keyed = {entry.key: entry for entry in entries}
        for alias, of in models.aliases().items():
            rows.append(descriptions.alias_entry(alias, keyed.get(models.versions.key(of) or of), of))
        rows = descriptions.with_absent(rows, self.shared.repository)
        return [row for row in rows if not only_ready or row["state"] == ModelState.READY.value]

    def load(self, name: str, parameters: Mapping[str, Any]) -> dict[str, Any]:
        """Load a model from files that were uploaded or come along, from the folder, or again one that was unloaded.

        Args:
            parameters: Those of a LoadRequest, where it has a `package`, else those of `LoadCommands.load`.

        Returns:
            The model's configuration.
        """
        if "package" in parameters:
            return descriptions.config(self.shared.models.load(name, parameters))
        self.shared.commands.load(name, parameters)
        return descriptions.config(self.shared.models.ready(name))

    def configure(self, wanted: Mapping[str, tuple[str, Mapping[str, Any] | None]]) -> None:
        """Serve these models of the folder and no others; see Repository.configure."""
        if self.shared.repository is None:
            raise InvalidInput("there is no folder of models here; clients bring them")
        self.shared.repository.configure(wanted)

    def alias(self, alias: str, name: Any) -> None:
        """Let a model be asked for by another name too; see ModelTable.alias."""
        if not isinstance(name, str):
            raise InvalidInput("alias needs the name that it is to stand for, as 'of'")
        self.shared.models.alias(alias, name)

    def unload(self, name: str) -> None:
        """Take a model away, or an alias; a model's files stay, and `load` brings it back."""
        self.shared.commands.unload(name)

    def register_region(
        self, name: str, key: Any, offset: Any, size_bytes: Any, peer_uid: int | None, is_bound: bool = False
    ) -> None:
        """Map a client's shared memory; see RegionTable.register."""
        self.check_shared_memory()
        if not isinstance(key, str) or type(size_bytes) is not int or type(offset) is not int:
            raise InvalidInput("register needs a key (string), a byte_size and an offset (integers)")
        self.shared.regions.register(name, key, offset, size_bytes, peer_uid, is_bound)

    def check_shared_memory(self) -> None:
        """Raise InvalidInput where this accelerator maps no client's memory."""
        if not self.config.use_shared_memory:
            raise InvalidInput("shared memory is switched off on this accelerator")

    def _entry(self, name: str, model_version: str) -> ModelEntry:
        return self.shared.models.entry(name, model_version)

    def _ready(self, name: str, model_version: str) -> ModelEntry:
        return self.shared.models.ready(name, version=model_version)

    def _all_entries(self) -> list[ModelEntry]:
        return [*self.shared.models.entries(), *self.shared.models.others.entries()]

    def served(self) -> list[dict[str, Any]]:
        """Return a row for each model, as the report has them, those of the folder that are not served among them."""
        rows = [descriptions.summary(entry) for entry in self._all_entries()]
        return descriptions.with_absent(rows, self.shared.repository)

    def report(self) -> dict[str, Any]:
        """Return what is in force here and what was done, as `GET /v2/accelerator` answers it."""
        entries = self._all_entries()
        lease = self.shared.queue.lease_statistics()
        return {
            "accelerator_id": self.config.accelerator_id,
            "accelerator_type": self.config.accelerator_type,
            "device": self.config.device,
            "limits": self.config.limits or {},
            "doors": list(self.config.doors),
            "requests_per_second": None if self.rate is None else self.rate.per_second,
            "memory_limit_bytes": self.config.memory_limit_bytes,
            "queue": asdict(self.shared.queue.statistics()),
            "latency": latency((entry.latest() for entry in entries), time.monotonic()),
            "histograms": descriptions.histograms(entries),
            "lease": None if lease is None else asdict(lease),
            "models": self.served(),
        }
