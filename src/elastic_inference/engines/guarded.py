"""A quick engine with the reference engine behind it, for the calls and the models that the quick one gets wrong."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy.typing as npt

from elastic_inference.engines.base import Arrays, LoadedModel
from elastic_inference.engines.registry import Engine
from elastic_inference.errors import EngineNotAvailable, NotAsWritten

log = logging.getLogger(__name__)


class GuardedModel(LoadedModel):
    """Answers with the quick engine; a call that it would answer otherwise than the model says goes to the reference.

    The reference is loaded when it is first needed and then kept.

    Attributes:
        num_reference_calls: Calls that the reference has answered.
    """

    def __init__(
        self, quick: LoadedModel, reference: Engine, load_reference: Callable[[], LoadedModel]
    ) -> None:
        self.signature = quick.signature
        self.report = quick.report
        self.choice = quick.choice
        self.num_reference_calls = 0
        self._quick = quick
        self._engine = reference
        self._load_reference = load_reference
        self._reference: LoadedModel | None = None
        self._is_switched = False
        self._lock = threading.Lock()

    def predict(self, inputs: Arrays) -> dict[str, npt.NDArray[Any]]:
        if self._is_switched:
            return self._by_reference(inputs)
        try:
            return self._quick.predict(inputs)
        except NotAsWritten as refusal:
            if self._reference is None and not self._engine.is_installed():
                raise NotAsWritten(
                    f"{refusal}, but is not installed here: install elastic-inference[{self._engine.extra}]"
                ) from refusal
            if not self.num_reference_calls:
                self._tell(f"Engine {self._engine.name} answers some calls: {refusal}.")
            return self._by_reference(inputs)

    def switch(self, why: str) -> None:
        """Let the reference answer every call from now on; the report says why.

        Raises:
            ElasticInferenceError: The reference cannot load the model; the quick engine goes on.
        """
        reference = self._loaded_reference()
        self._is_switched = True
        kept = (*self.report.notes, f"Engine {self._engine.name} took over from {self.report.engine}: {why}.")
        self.report = replace(reference.report, notes=kept)
        log.error("the reference engine took over", extra={"engine": self._engine.name, "why": why})

    def empty(self) -> None:
        self._quick.empty()
        reference = self._reference
        if reference is not None:
            reference.empty()

    def close(self) -> None:
        self._quick.close()
        with self._lock:
            if self._reference is not None:
                self._reference.close()

    def _by_reference(self, inputs: Arrays) -> dict[str, npt.NDArray[Any]]:
        outputs = self._loaded_reference().predict(inputs)
        self.num_reference_calls += 1
        return outputs

    def _loaded_reference(self) -> LoadedModel:
        with self._lock:
            if self._reference is None:
                try:
                    self._reference = self._load_reference()
                except EngineNotAvailable as error:
                    raise NotAsWritten(
                        f"engine {self._engine.name} is needed for this call: {error}"
                    ) from error
            return self._reference

    def _tell(self, note: str) -> None:
        self.report = replace(self.report, notes=(*self.report.notes, note))
        log.warning("the reference engine answers a call", extra={"note": note})
