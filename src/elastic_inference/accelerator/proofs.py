"""Which loaded models are compared with the reference of their format, when, and what follows from it."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from elastic_inference.accelerator.prover import Prover, Task, describe
from elastic_inference.engines import registry
from elastic_inference.engines.base import EngineOptions, LoadedModel
from elastic_inference.engines.guarded import GuardedModel
from elastic_inference.errors import ElasticInferenceError, UnsupportedModel
from elastic_inference.models.package import ModelPackage
from elastic_inference.models.signature import SignatureRequest
from elastic_inference.proof.proof import Mode, Proof, Verdict

log = logging.getLogger(__name__)
MAX_SAMPLE_BYTES = 16 << 20  # of a call's inputs that are kept for the comparison


@dataclass(frozen=True)
class Loaded:
    """A model that was loaded, and how."""

    model: LoadedModel
    package: ModelPackage
    request: SignatureRequest
    options: EngineOptions
    shapes: Mapping[str, tuple[int, ...]]


class ModelProof:
    """Where one model stands: its proof, and the inputs of one call while it is still to be compared."""

    def __init__(self) -> None:
        self.proof: Proof | None = None
        self.wants_sample = False
        self._sample: dict[str, npt.NDArray[Any]] | None = None
        self._lock = threading.Lock()

    def summary(self) -> str:
        """One line for people; "" for a model that the reference itself computes."""
        return "" if self.proof is None else self.proof.summary()

    def keep_sample(self, inputs: Mapping[str, npt.NDArray[Any]]) -> None:
        """Keep a copy of a call's inputs, of one call only, where they are not large."""
        size = sum(array.nbytes for array in inputs.values())
        with self._lock:
            if self.wants_sample and size <= MAX_SAMPLE_BYTES and not _has_strings(inputs):
                self._sample = {alias: array.copy() for alias, array in inputs.items()}
            self.wants_sample = False

    def take_sample(self) -> dict[str, npt.NDArray[Any]] | None:
        """Return the kept inputs, which are then forgotten."""
        with self._lock:
            self.wants_sample = False
            sample, self._sample = self._sample, None
            return sample


class Proofs:
    """Decides about models as they are loaded.

    Args:
        prover: Runs comparisons.
    """

    def __init__(self, prover: Prover) -> None:
        self._prover = prover

    def begin(self, loaded: Loaded, mode: Mode, state: ModelProof) -> None:
        """Compare a model now, later or never; `state` tells from then on.

        Raises:
            UnsupportedModel: It was to be proved before anything is answered, and cannot be compared.
        """
        reference = registry.reference_of(loaded.package.format)
        report = loaded.model.report
        if reference is None or report.engine == reference.name:
            return
        subject = f"{report.engine} {report.engine_version} {report.precision}"
        reason = _why_not(loaded, mode, reference)
        if reason:
            state.proof = Proof(subject, Verdict.NOT_COMPARED, reason=reason)
        else:
            self._compare(loaded, mode, state, subject)
        if mode is Mode.BEFORE and state.proof is not None and state.proof.verdict is Verdict.NOT_COMPARED:
            raise UnsupportedModel(f"proof='before' was asked for, but {subject} was {state.proof.summary()}")

    def close(self) -> None:
        """End what runs."""
        self._prover.close()

    def _compare(self, loaded: Loaded, mode: Mode, state: ModelProof, subject: str) -> None:
        task = Task(
            key=_key(loaded, subject),
            subject=subject,
            job=describe(
                loaded.package,
                request=loaded.request.to_json(),
                engine=loaded.model.report.engine,
                precision=loaded.options.precision,
                shapes={alias: tuple(shape) for alias, shape in loaded.shapes.items()},
                allow_unsafe_operations=loaded.options.allow_unsafe_operations,
            ),
            take_sample=state.take_sample,
            done=lambda proof: _conclude(loaded.model, state, proof),
        )
        known = self._prover.find(task.key)
        if known is not None or mode is Mode.BEFORE:
            task.done(known or self._prover.prove(task))
            return
        state.proof = Proof(subject, Verdict.NOT_COMPARED, reason="not yet, that waits until nobody calls")
        state.wants_sample = True
        self._prover.add(task)


def _why_not(loaded: Loaded, mode: Mode, reference: registry.Engine) -> str:
    """Why a model is not compared; "" where it is."""
    if mode is Mode.OFF:
        return "proof='off' was asked for"
    if loaded.options.precision not in ("fp32", "auto"):
        return f"precision {loaded.options.precision!r} was asked for, which is not exact"
    if not reference.is_installed():
        return f"engine {reference.name} is not installed here; install elastic-inference[{reference.extra}]"
    return ""


def _conclude(model: LoadedModel, state: ModelProof, proof: Proof) -> None:
    try:
        if proof.verdict is not Verdict.DIFFERS:
            log.info("model compared", extra={"proof": proof.summary()})
            return
        log.error("the engine does not compute what the model says", extra={"proof": proof.summary()})
        if isinstance(model, GuardedModel):
            try:
                model.switch(proof.summary())
            except ElasticInferenceError as error:
                log.error("the reference engine cannot take over", extra={"error": str(error)})
    finally:
        state.proof = proof  # last: whoever reads that it differs reads also who answers now


def _key(loaded: Loaded, subject: str) -> str:
    shapes = json.dumps({alias: list(shape) for alias, shape in sorted(loaded.shapes.items())})
    # What was rewritten in the model stands in the notes: a graph that is rewritten otherwise is to be compared anew.
    notes = json.dumps(loaded.model.report.notes)
    return f"{loaded.package.content_hash} {loaded.request.key()} {subject} {shapes} {notes}"


def _has_strings(inputs: Mapping[str, npt.NDArray[Any]]) -> bool:
    return any(array.dtype == np.dtype(object) for array in inputs.values())
