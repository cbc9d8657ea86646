"""One model of an accelerator: where it stands, how it runs, and what it has done."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from enum import Enum
from typing import Any

import numpy.typing as npt

from elastic_inference.accelerator.batching.model import ModelBatching
from elastic_inference.accelerator.model_statistics import ModelStatistics, Timing
from elastic_inference.accelerator.proofs import ModelProof
from elastic_inference.accelerator.recent import Recent
from elastic_inference.accelerator.seen_shapes import SeenShapes
from elastic_inference.accelerator.versions import FIRST
from elastic_inference.engines import memory
from elastic_inference.engines.base import Arrays, LoadedModel
from elastic_inference.errors import ElasticInferenceError, MemoryQuotaExceeded, ModelNotFound
from elastic_inference.models.package import ModelPackage
from elastic_inference.models.signature import Signature


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
        self.reason = ""
        self.error: ElasticInferenceError | None = None
        self.model: LoadedModel | None = None
        self.warm_up_seconds = 0.0
        self.warm_up_note = ""
        self.shapes = SeenShapes()
        self.proof = ModelProof()
        self.batching = ModelBatching(Signature({}, {}))  # until it is loaded
        self.statistics = ModelStatistics()
        self.recent = Recent()
        self.lock = threading.Lock()
        self.settled = threading.Event()

    @property
    def key(self) -> str:
        """What the table, logs and metrics call it."""
        return self._key or self.name

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
        if self.proof.wants_sample and not is_batch:
            self.proof.keep_sample(inputs)
        try:
            started = time.monotonic()
            outputs = memory.predict(model, inputs)
            if not is_batch:
                self.shapes.saw(inputs, time.monotonic() - started)
            return outputs
        except MemoryError as error:
            if isinstance(error, ElasticInferenceError):
                raise
            raise MemoryQuotaExceeded(
                f"the prediction needs more memory than the accelerator has: {error}"
            ) from error

    def count(self, outcome: str, timing: Timing) -> None:
        """Account for one request; outcome is "success" or an error class."""
        with self.lock:
            self.statistics.count(outcome, timing)
