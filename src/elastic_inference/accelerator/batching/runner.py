"""Runs requests in their turn: a lone one as it came, those that wait together as one where that pays."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from elastic_inference.accelerator.batching.lead import Answer, Lead, Outputs
from elastic_inference.accelerator.batching.model import ShapeBatching
from elastic_inference.accelerator.batching.trials import Trials
from elastic_inference.accelerator.model_entry import ModelEntry
from elastic_inference.accelerator.model_statistics import Timing
from elastic_inference.accelerator.queue import RequestQueue, Turn
from elastic_inference.engines.base import Arrays
from elastic_inference.errors import DeviceLost, ModelNotReady, RequestCancelled


class Runner:
    """Gives each request its turn and its answer, in the thread that received it.

    Args:
        queue: The turns.
        trials: Finds out what may run together.

    Attributes:
        is_device_lost: Whether the device computes nothing in this process any more.
        on_device_lost: Called, once or more often, when that is found out.
    """

    def __init__(self, queue: RequestQueue, trials: Trials) -> None:
        self._queue = queue
        self._trials = trials
        self.is_device_lost = False
        self.on_device_lost: Callable[[], object] = lambda: None

    def run(
        self,
        entry: ModelEntry,
        inputs: Arrays,
        timeout_seconds: float | None,
        timing: Timing,
        is_wanted: Callable[[], bool] | None = None,
    ) -> Outputs:
        """Run one request, by itself or with others.

        Args:
            inputs: As LoadedModel.predict takes them; they must stay as they are until this returns.
            timeout_seconds: How long the turn may take to come; None: no bound.
            timing: Is filled in, as far as the request came.
            is_wanted: Asked when the turn has come, since the client may have left meanwhile; None: it stays.

        Raises:
            ModelNotFound: The model was unloaded meanwhile.
            RequestCancelled: The request is not wanted any more.
            ElasticInferenceError: What the queue or the model says, of this request alone.
        """
        entered = time.monotonic()
        timing.num_rows = timing.num_rows_run = entry.batching.num_rows(inputs)
        with Turn(self._queue, timeout_seconds, False, (entry, inputs)) as turn:
            if turn.waiter is not None and turn.waiter.answer is not None:
                return _take_answer(turn.waiter.answer, entered, timing)
            timing.queue_seconds = turn.started - entered
            if self.is_device_lost:  # nothing else runs on it; clients try again, and find a new process
                raise ModelNotReady("the device was lost; the accelerator ends, and a host starts it again")
            if is_wanted is not None and not is_wanted():
                raise RequestCancelled("the client cancelled the request while it waited; nothing ran")
            try:
                if turn.waiter is None and turn.started >= entry.batching.expects_until:
                    outputs = entry.predict(inputs)
                else:
                    deadline = math.inf if timeout_seconds is None else entered + timeout_seconds
                    outputs = self._run_in_company(turn, entry, inputs, deadline, timing)
            except DeviceLost:  # while the turn is held, so that the next one sees it
                self.is_device_lost = True
                self.on_device_lost()
                raise
            timing.ended = time.monotonic()
            timing.service_seconds = timing.ended - turn.started
            return outputs

    def _run_in_company(
        self, turn: Turn, entry: ModelEntry, inputs: Arrays, deadline: float, timing: Timing
    ) -> Outputs:
        """Run a request while others wait, or are expected."""
        batching = entry.batching
        is_put_back = turn.waiter is not None and turn.waiter.request is None
        is_lone = not self._queue.has_waiting and turn.started >= batching.expects_until
        if is_put_back or is_lone or batching.refusal:
            return entry.predict(inputs)
        shape = batching.shape(inputs, entry.loaded().report.engine)
        if shape is None:
            return entry.predict(inputs)
        costs = shape.costs
        if costs is None:
            self._sample(entry, shape, inputs)
            return entry.predict(inputs)
        return Lead(turn, entry, shape, costs, inputs, deadline, timing).run()

    def _sample(self, entry: ModelEntry, shape: ShapeBatching, inputs: Arrays) -> None:
        """Keep a row of a call, and begin a trial where there are enough."""
        if shape.wants_sample(time.monotonic()) and shape.keep_sample(inputs):
            self._trials.begin(entry, shape)


def _take_answer(answer: Answer, entered: float, timing: Timing) -> Outputs:
    timing.queue_seconds = answer.started - entered
    timing.service_seconds = answer.ended - answer.started
    timing.ended = answer.ended
    timing.num_rows_run = 0
    return answer.outputs
