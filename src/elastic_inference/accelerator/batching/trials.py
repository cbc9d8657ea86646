"""Trials of models that are in use: one at a time, in a thread of its own, each run in a turn as a request has it."""

from __future__ import annotations

import logging
import threading
import time

import psutil

from elastic_inference.accelerator.batching.model import Mode, ShapeBatching
from elastic_inference.accelerator.batching.trial import Limits, Outcome, attempt
from elastic_inference.accelerator.model_entry import ModelEntry
from elastic_inference.accelerator.queue import RequestQueue
from elastic_inference.engines.base import Arrays
from elastic_inference.errors import ElasticInferenceError, ModelNotFound

log = logging.getLogger(__name__)
TURN_SECONDS = 60.0  # that a run of a trial waits for its turn


class Trials:
    """Begins trials of models whose requests wait together.

    Args:
        queue: Whose turns their runs take.
        memory_limit_bytes: Of the accelerator; None: the machine's is the limit.
    """

    def __init__(self, queue: RequestQueue, memory_limit_bytes: int | None) -> None:
        self._queue = queue
        self._memory_limit_bytes = memory_limit_bytes
        self._one_at_a_time = threading.Lock()

    def begin(self, entry: ModelEntry, shape: ShapeBatching) -> None:
        """Try a model's requests of one shape; returns at once."""
        try:
            threading.Thread(target=self._run, args=(entry, shape), name="trial", daemon=True).start()
        except RuntimeError:  # no memory for another thread
            shape.conclude(None, time.monotonic())

    def _run(self, entry: ModelEntry, shape: ShapeBatching) -> None:
        outcome: Outcome | None = None
        try:
            with self._one_at_a_time:
                batching = entry.batching
                options = batching.options
                limits = Limits(options.max_rows, options.mode is Mode.CLOSE, self._room_bytes)
                outcome = attempt(
                    shape.samples,
                    batching.signature,
                    lambda inputs: self._one_run(entry, inputs),
                    limits,
                    shape.adopt,
                )
        except ElasticInferenceError as error:  # the accelerator drains, or the model was unloaded
            log.info("a trial of batches was given up", extra={"model": entry.name, "error": str(error)})
        except Exception:
            log.exception("a trial of batches failed", extra={"model": entry.name})
        finally:
            shape.conclude(outcome, time.monotonic())
        if outcome is not None and outcome.is_of_model:
            entry.batching.refuse(outcome.reason)
        log.info("batches were tried", extra={"model": entry.name, "batching": entry.batching.summary()})

    def _one_run(self, entry: ModelEntry, inputs: Arrays) -> tuple[Arrays, float]:
        with self._queue.turn(TURN_SECONDS, is_own_work=True, uses_device=True):
            model = entry.model
            if model is None:
                raise ModelNotFound(f"model {entry.name!r} was unloaded")
            started = time.monotonic()
            outputs = model.predict(inputs)
            return outputs, time.monotonic() - started

    def _room_bytes(self) -> int:
        if self._memory_limit_bytes is None:
            return int(psutil.virtual_memory().available)
        return self._memory_limit_bytes - int(psutil.Process().memory_info().rss)
