"""One model of an accelerator: where it stands, how it runs, and what it has done."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from enum import Enum
from functools import cached_property
from typing import Any

import numpy.typing as npt

from elastic_inference.accelerator.batching.model import ModelBatching
from elastic_inference.accelerator.model_statistics import ModelStatistics, Timing
from elastic_inference.accelerator.proofs import ModelProof
from elastic_inference.accelerator.recent import Recent
from elastic_inference.accelerator.recording import Recording
from elastic_inference.accelerator.seen_shapes import SeenShapes
from elastic_inference.accelerator.versions import FIRST
from elastic_inference.engines import memory
from elastic_inference.engines.base import Arrays, LoadedModel
from elastic_inference.engines.stages import Stage
from elastic_inference.errors import ElasticInferenceError, MemoryQuotaExceeded, ModelNotFound
from elastic_inference.models.package import ModelPackage
from elastic_inference.models.signature import DEFAULT_SIGNATURE_KEY, Signature, SignatureRequest
from elastic_inference.protocol.heads import RequestHead

MAX_UNCOUNTED = 256  # counting them takes 0.2 ms


class ModelState(Enum):
    """Where a model stands."""

    LOADING = "LOADING"  # the engine reads, compiles or warms it up
    READY = "READY"  # requests run
    UNAVAILABLE = "UNAVAILABLE"  # loading failed; the reason says why


class ModelEntry:
    """One model of the table, or one version of it.

    Args:
        version: A number as text.
        key: What the table calls this version; None: the name, for a model without versions.
    """

    def __init__(
        self,
        name: str,
        load: Mapping[str, Any],
        package: ModelPackage,
        version: str = FIRST,
        key: str | None = None,
    ) -> None:
        self.name = name
        self.version = version
        self._key = key
        self.load = load
        self.package = package
        self.state = ModelState.LOADING
        self.reason = ""  # why it is unavailable; while it loads, what that does now
        self.stage = ""  # of a choice of its precision while it answers, for a further load
        self.error: ElasticInferenceError | None = None
        self.model: LoadedModel | None = None
        self.warm_up_seconds = 0.0
        self.warm_up_note = ""
        self.shapes = SeenShapes()
        self.proof = ModelProof()
        self.recording: Recording | None = None
        self.awaits_choice = False  # of its precision, which was asked for and not made when it was loaded
        self.batching = ModelBatching(Signature({}, {}))  # until it is loaded
        self.fitting: RequestHead | None = None  # the last head of a request that was found to fit the model
        self._statistics = ModelStatistics()
        self._recent = Recent()
        self._uncounted: deque[Timing] = deque()
        self._lock = threading.Lock()
        self.settled = threading.Event()

    @property
    def key(self) -> str:
        """What the table, logs and metrics call it."""
        return self._key or self.name

    @property
    def title(self) -> str:
        """Its name, with the signature where it is another one than its model was loaded with."""
        _, mark, signature = self.key.partition("#")
        return self.name + mark + signature

    @cached_property
    def signature_key(self) -> str:
        """The key of the signature that it was loaded with, "" where tensors were named instead."""
        request = SignatureRequest.from_json(self.load.get("signature", {}))
        return "" if request.input_names is not None else request.signature_def_key or DEFAULT_SIGNATURE_KEY

    def is_at(self, stage: str) -> None:
        """Note what its load does now."""
        self.reason = stage

    def chooses(self, stage: str) -> None:
        """Note what is done to choose its precision while it answers."""
        self.stage = stage

    @contextmanager
    def choosing(self) -> Iterator[None]:
        """Note that a further load may choose its precision, and forget the stage at the end."""
        self.stage = self.stage or Stage.WAITING.value  # else another load's is shown
        try:
            yield
        finally:
            self.stage = ""

    def loaded(self) -> LoadedModel:
        """Return the model; ModelNotFound where it was unloaded meanwhile."""
        model = self.model
        if model is None:
            raise ModelNotFound(f"model {self.name!r} was unloaded while the request waited")
        return model

    def predict(self, inputs: Arrays, is_batch: bool = False) -> dict[str, npt.NDArray[Any]]:
        """Run; only with the turn, because that is what keeps the model from being unloaded meanwhile.

        Args:
            is_batch: Whether these are several calls' inputs, of which neither sample nor shape is remembered.
        """
        model = self.loaded()
        wants_sample = self.proof.wants_sample and not is_batch
        if wants_sample:
            self.proof.keep_sample(inputs)
        try:
            if is_batch:
                return memory.predict(model, inputs)
            started = time.monotonic()
            outputs = memory.predict(model, inputs)
            self.shapes.saw(inputs, time.monotonic() - started)
            if wants_sample:
                self.proof.answered(inputs)
            return outputs
        except MemoryError as error:
            if isinstance(error, ElasticInferenceError):
                raise
            raise MemoryQuotaExceeded(
                f"the prediction needs more memory than the accelerator has: {error}"
            ) from error

    def answered(self, timing: Timing) -> None:
        """Account for one request. The hot path: many are counted at once, when somebody looks or they are many."""
        self._uncounted.append(timing)
        if len(self._uncounted) >= MAX_UNCOUNTED:
            with self.accounts():
                pass

    def failed(self, outcome: str, timing: Timing) -> None:
        """Account for one request that was not answered; outcome is an error's class."""
        with self.accounts() as statistics:
            statistics.failed(outcome, timing)

    @contextmanager
    def accounts(self) -> Iterator[ModelStatistics]:
        """Give what was done so far; it stays so for the block."""
        with self._lock:
            new = [self._uncounted.popleft() for _ in range(len(self._uncounted))]
            if new:
                self._statistics.succeeded(new)
                self._recent.add(new)
            yield self._statistics

    def latest(self) -> Recent:
        """Return the latest requests."""
        with self.accounts():
            return self._recent
