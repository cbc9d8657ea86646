"""A model computed in this process (`use_ei=False`): no accelerator, no wire."""

from __future__ import annotations

import logging
import os
import time
import weakref
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy.typing as npt

from elastic_inference import settings
from elastic_inference.client.load_options import LoadOptions
from elastic_inference.client.load_stages import OnStage
from elastic_inference.client.prediction import Prediction
from elastic_inference.client.report import PredictorReport
from elastic_inference.deadline import Deadline
from elastic_inference.errors import EngineNotAvailable
from elastic_inference.models.package import ModelPackage
from elastic_inference.models.signature import Signature, SignatureRequest

if TYPE_CHECKING:
    from elastic_inference.engines.base import LoadedModel
    from elastic_inference.engines.registry import Engine
    from elastic_inference.models.artifacts.store import ArtifactStore

log = logging.getLogger(__name__)


class LocalModel:
    """One signature of one model on an engine of this process. Safe for several threads."""

    def __init__(
        self,
        package: ModelPackage,
        request: SignatureRequest,
        load: LoadOptions,
        num_threads: int | None = None,
        device: str = "cpu:0",
        allow_unsafe_operations: bool = True,
        graph: Any = None,
        config: Any = None,
        on_stage: OnStage | None = None,
    ) -> None:
        """Load; engines are imported here, so that a client without them stays small.

        Raises:
            EngineNotAvailable: No engine is installed on this side.
            ElasticInferenceError: What the engine says.
        """
        try:
            from elastic_inference.engines import memory, registry, select
            from elastic_inference.engines.base import EngineOptions
            from elastic_inference.engines.stages import told_to
            from elastic_inference.engines.warm_up import warm_up as run_once
        except ImportError as error:
            raise EngineNotAvailable(
                f"use_ei=False computes in this process, which needs `pip install elastic-inference[host]`: {error}"
            ) from error
        self._note = ""
        engine = load.engine
        reference = registry.reference_of(package.format)
        if engine == "auto" and reference is not None and reference.supports(load.precision):
            engine = self._reference_engine(reference)
        options = EngineOptions(
            engine, device, load.precision, num_threads, _store(load.cache_dir), allow_unsafe_operations
        )
        _check_process()
        with _session_arguments(graph, config), told_to(on_stage):
            self._model = select.load(package, request, options)
        self._run = memory.predict
        self._pid = os.getpid()
        _loaded.add(self._model)
        self.signature: Signature = self._model.signature
        self._warm_up_seconds, self._warm_up_note = run_once(self._model, load.warm_up)

    @property
    def session(self) -> Any:
        """TensorFlow's session where it is the engine, else None."""
        return getattr(self._model, "session", None)

    def _reference_engine(self, reference: Engine) -> str:
        if reference.is_installed():
            return reference.name
        self._note = f"Engine {reference.name} is not installed here, so another engine computes in its place"
        log.warning(self._note)
        return "auto"

    def predict(
        self,
        inputs: Mapping[str, npt.NDArray[Any]],
        deadline: Deadline,  # noqa: ARG002  # a computation in this process cannot be broken off
    ) -> Prediction:
        """Run once; see `EIPredictor.__call__`."""
        if self._pid != os.getpid():
            _check_process()
        start = time.monotonic()
        outputs = self._run(self._model, inputs)
        return Prediction(outputs, 0.0, time.monotonic() - start)

    def report(self, start_seconds: float) -> PredictorReport:
        """Return what is in force in this process."""
        engine = self._model.report
        return PredictorReport(
            use_ei=False,
            engine=engine.engine,
            engine_version=engine.engine_version,
            device=engine.device,
            precision=engine.precision,
            num_threads=engine.num_threads,
            transport="in process",
            start_seconds=start_seconds,
            load_seconds=engine.load_seconds,
            warm_up_seconds=self._warm_up_seconds,
            source=engine.source,
            notes=tuple(note for note in (self._note, *engine.notes, self._warm_up_note) if note),
        )

    def close(self) -> None:
        """Free the engine, except in a forked child, where that could wait for ever; closing twice is fine."""
        if self._pid == os.getpid():
            self._model.close()


_engine_pid: int | None = None
_loaded: weakref.WeakSet[LoadedModel] = weakref.WeakSet()


def _keep_after_fork() -> None:
    """Never free a parent's models in its child: an engine would wait for its threads, at the interpreter's end too."""
    if _loaded:
        import ctypes

        for model in _loaded:
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(model))


if hasattr(os, "register_at_fork"):  # not on Windows, where nothing forks
    os.register_at_fork(after_in_child=_keep_after_fork)


def _store(cache_dir: str | Literal[False] | None) -> ArtifactStore | None:
    if not cache_dir:
        return None
    # Its locks are those of Unix, which a client without engines need not have.
    from elastic_inference.models.artifacts.store import ArtifactStore

    return ArtifactStore.at(Path(cache_dir), settings.store_limit_bytes() or None)


def _check_process() -> None:
    """Refuse to compute in a child forked after an engine was loaded, which would wait for threads that are gone."""
    global _engine_pid
    if _engine_pid is None:
        _engine_pid = os.getpid()
    if _engine_pid != os.getpid():
        raise EngineNotAvailable(
            f"an engine computes in process {_engine_pid}, and its threads did not survive the fork of this one "
            f"({os.getpid()}); fork before the first predictor with use_ei=False, or use the start method spawn, or "
            "use_ei=True"
        )


@contextmanager
def _session_arguments(graph: Any, config: Any) -> Iterator[None]:
    """Hand TensorFlow's own objects to its engine; the others have no use for them."""
    if graph is None and config is None:
        yield
        return
    from elastic_inference.engines.tensorflow import given_session

    token = given_session.set((graph, config))
    try:
        yield
    finally:
        given_session.reset(token)
