"""Which loaded models are compared with the reference of their format, when, and what follows from it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from elastic_inference.accelerator.prover import Prover, Task
from elastic_inference.engines import registry
from elastic_inference.engines.base import EngineOptions, EngineReport, LoadedModel
from elastic_inference.engines.guarded import GuardedModel
from elastic_inference.engines.proving import Job
from elastic_inference.errors import ElasticInferenceError, UnsupportedModel
from elastic_inference.models.package import ModelPackage
from elastic_inference.models.signature import SignatureRequest
from elastic_inference.proof.proof import Mode, Proof, Verdict

log = logging.getLogger(__name__)
Inputs = Mapping[str, npt.NDArray[Any]]
MAX_SAMPLE_BYTES = 16 << 20  # of calls' inputs that are kept for the comparison
MOST_SAMPLES = 6  # of calls; noise cannot judge a lower precision, and one call is little


@dataclass(frozen=True)
class Loaded:
    """A model that was loaded, and how."""

    model: LoadedModel
    package: ModelPackage
    request: SignatureRequest
    options: EngineOptions
    shapes: Mapping[str, tuple[int, ...]]


class ModelProof:
    """Where one model stands: its proof, and inputs of some calls while it is still to be compared.

    Attributes:
        wants_sample: Whether anything is done with calls' inputs; all that a call costs where nothing is.
    """

    def __init__(self) -> None:
        self.proof: Proof | None = None
        self.wants_sample = False
        self._is_to_compare = False
        self._record: Callable[[Inputs], None] | None = None
        self._samples: list[dict[str, npt.NDArray[Any]]] = []
        self._most = 0
        self._num_bytes = 0
        self._num_seen = 0
        self._lock = threading.Lock()

    def summary(self) -> str:
        """One line for people; "" for a model that the reference itself computes."""
        return "" if self.proof is None else self.proof.summary()

    def want_samples(self, most: int) -> None:
        """Keep the inputs of so many calls from now on."""
        with self._lock:
            self._most = most
            self._go_on(True)

    def record(self, saw: Callable[[Inputs], None]) -> None:
        """Tell `saw` the inputs of all calls that are answered from now on."""
        with self._lock:
            self._record = saw
            self._go_on(self._is_to_compare)

    def _go_on(self, is_to_compare: bool) -> None:
        self._is_to_compare = is_to_compare
        self.wants_sample = is_to_compare or self._record is not None

    def answered(self, inputs: Inputs) -> None:
        """Note that a call with these inputs was answered."""
        if self._record is not None:
            self._record(inputs)

    def keep_sample(self, inputs: Inputs) -> None:
        """Keep a copy of a call's inputs: of the first, second, fourth, eighth call and so on, unless they are large.

        Neighbours are often nearly equal, such as the pictures of a video.
        """
        size = sum(array.nbytes for array in inputs.values())
        with self._lock:
            if not self._is_to_compare:
                return
            self._num_seen += 1
            if self._num_seen & (self._num_seen - 1):
                return
            if self._num_bytes + size > MAX_SAMPLE_BYTES or _has_strings(inputs):
                self._go_on(False)
                return
            self._num_bytes += size
            self._samples.append({alias: array.copy() for alias, array in inputs.items()})
            self._go_on(len(self._samples) < self._most)

    def take_samples(self) -> list[dict[str, npt.NDArray[Any]]]:
        """Return the kept inputs, which are then forgotten."""
        with self._lock:
            self._go_on(False)
            samples, self._samples = self._samples, []
            return samples


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
        report = loaded.model.report
        subject = f"{report.engine} {report.engine_version} {report.precision}"
        choice = loaded.model.choice
        if choice is not None and choice.proof is not None and choice.proof.subject == subject:
            state.proof = choice.proof  # on real samples, before it was chosen
            return
        reference = _reference(loaded, report)
        if reference is None:
            return
        reason = _why_not(mode, reference)
        if reason:
            state.proof = Proof(subject, Verdict.NOT_COMPARED, reason=reason)
        else:
            self._compare(loaded, mode, state, reference)
        if mode is Mode.BEFORE and state.proof is not None and state.proof.verdict is Verdict.NOT_COMPARED:
            raise UnsupportedModel(f"proof='before' was asked for, but {subject} was {state.proof.summary()}")

    def close(self) -> None:
        """End what runs."""
        self._prover.close()

    def _compare(self, loaded: Loaded, mode: Mode, state: ModelProof, reference: registry.Engine) -> None:
        report, store = loaded.model.report, loaded.options.store
        subject = f"{report.engine} {report.engine_version} {report.precision}"
        task = Task(
            key=_key(loaded, subject),
            subject=subject,
            job=Job(
                loaded.package.to_json(),
                request=loaded.request.to_json(),
                engine=report.engine,
                precision=report.precision,
                reference=reference.name,
                shapes={alias: tuple(shape) for alias, shape in loaded.shapes.items()},
                store_dir=None if store is None else str(store.blobs.directory),
                allow_unsafe_operations=loaded.options.allow_unsafe_operations,
            ),
            take_samples=state.take_samples,
            done=lambda proof: _conclude(loaded.model, state, proof),
        )
        known = self._prover.find(task.key)
        if known is not None or mode is Mode.BEFORE:
            task.done(known or self._prover.prove(task))
            return
        state.proof = Proof(subject, Verdict.NOT_COMPARED, reason="not yet, that waits until nobody calls")
        state.want_samples(1 if report.precision == "fp32" else MOST_SAMPLES)
        self._prover.add(task)


def _reference(loaded: Loaded, report: EngineReport) -> registry.Engine | None:
    """Return the engine that a model is compared with; None where it computes as the model is written.

    A lower precision is compared with float32: of the reference of the format where that is installed, else of the same
    engine.
    """
    reference = registry.reference_of(loaded.package.format)
    if report.precision == "fp32":
        return None if reference is None or report.engine == reference.name else reference
    if reference is not None and reference.is_installed():
        return reference
    return registry.engine_named(report.engine)


def _why_not(mode: Mode, reference: registry.Engine) -> str:
    """Why a model is not compared; "" where it is."""
    if mode is Mode.OFF:
        return "proof='off' was asked for"
    if not reference.is_installed():
        return f"engine {reference.name} is not installed here; install elastic-inference[{reference.extra}]"
    return ""


def _conclude(model: LoadedModel, state: ModelProof, proof: Proof) -> None:
    try:
        if proof.verdict is not Verdict.DIFFERS:
            log.info("model compared", extra={"proof": proof.summary()})
            return
        if model.report.precision != "fp32":
            log.warning("the precision that was asked for is not exact", extra={"proof": proof.summary()})
            return
        log.error("the engine does not compute what the model says", extra={"proof": proof.summary()})
        if isinstance(model, GuardedModel):
            try:
                model.switch(proof.summary())
            except ElasticInferenceError as error:
                log.error("the reference engine cannot take over", extra={"error": str(error)})
    finally:
        state.proof = proof  # last: whoever reads that it differs reads also who answers now


def _key(loaded: Loaded, subject: str) -> dict[str, Any]:
    return {
        "model": loaded.package.content_hash,
        "signature": loaded.request.key(),
        "subject": subject,
        "shapes": {alias: list(shape) for alias, shape in sorted(loaded.shapes.items())},
        # What was rewritten in the model stands there: a graph that is rewritten otherwise is to be compared anew.
        "notes": list(loaded.model.report.notes),
    }


def _has_strings(inputs: Inputs) -> bool:
    return any(array.dtype == np.dtype(object) for array in inputs.values())
