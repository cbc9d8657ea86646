"""Runs requests in their turn: a lone one as it came, those that wait together as one where that pays."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from elastic_inference.accelerator.batching.model import ShapeBatching
from elastic_inference.accelerator.batching.policy import Candidate, Costs, Plan, delay_seconds, plan
from elastic_inference.accelerator.batching.trials import Trials
from elastic_inference.accelerator.model_statistics import Timing
from elastic_inference.accelerator.model_table import ModelEntry
from elastic_inference.accelerator.queue import RequestQueue, Turn, Waiter
from elastic_inference.engines import memory
from elastic_inference.engines.base import Arrays, LoadedModel
from elastic_inference.engines.guarded import GuardedModel
from elastic_inference.errors import (
    ElasticInferenceError,
    MemoryQuotaExceeded,
    ModelError,
    ModelNotFound,
    RequestCancelled,
)

_MOST_LOOKED_AT = 128  # of those that wait, while the queue stands still

Outputs = dict[str, npt.NDArray[Any]]


@dataclass(frozen=True)
class _Answer:
    """What a run together left for one of its requests; times on time.monotonic."""

    outputs: Outputs
    started: float
    ended: float


class Runner:
    """Gives each request its turn and its answer, in the thread that received it.

    Args:
        queue: The turns.
        trials: Finds out what may run together.
    """

    def __init__(self, queue: RequestQueue, trials: Trials) -> None:
        self._queue = queue
        self._trials = trials

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
        with Turn(self._queue, timeout_seconds, request=(entry, inputs)) as turn:
            if turn.waiter is not None and turn.waiter.answer is not None:
                return _take_answer(turn.waiter.answer, entered, timing)
            timing.queue_seconds = turn.started - entered
            if is_wanted is not None and not is_wanted():
                raise RequestCancelled("the client cancelled the request while it waited; nothing ran")
            if turn.waiter is None and turn.started >= entry.batching.expects_until:
                outputs = predict(entry, inputs)
            else:
                deadline = math.inf if timeout_seconds is None else entered + timeout_seconds
                outputs = self._run_in_company(turn, entry, inputs, deadline, timing)
            timing.ended = time.monotonic()
            timing.service_seconds = timing.ended - turn.started
            return outputs

    def _run_in_company(
        self, turn: Turn, entry: ModelEntry, inputs: Arrays, deadline: float, timing: Timing
    ) -> Outputs:
        """Run a request while others wait, or are expected."""
        is_put_back = turn.waiter is not None and turn.waiter.request is None
        is_lone = not self._queue.has_waiting
        if (
            is_put_back
            or entry.batching.refusal
            or (is_lone and turn.started >= entry.batching.expects_until)
        ):
            return predict(entry, inputs)
        model = loaded(entry)
        shape = entry.batching.shape(inputs, model.report.engine)
        costs = None if shape is None else shape.costs
        if shape is None or costs is None:
            if shape is not None and not is_lone:
                self._sample(entry, shape, inputs)
            return predict(entry, inputs)
        leader = Candidate(timing.num_rows, deadline)
        if turn.started < entry.batching.expects_until:
            timing.queue_seconds += _wait_for_others(turn, entry, inputs, leader, costs)
        started = time.monotonic()
        made, others = _choose(turn, entry, inputs, leader, costs, started)
        if made is None:
            outputs = predict(entry, inputs)
            ended = time.monotonic()
            costs.note(timing.num_rows, timing.num_rows, ended - started, ended)
            entry.batching.expects_until = 0.0
            return outputs
        try:
            outputs = _run_together(
                entry, model, shape, made, [inputs, *(_inputs(other) for other in others)]
            )
        except BaseException as error:
            turn.put_back(others)
            if not isinstance(error, Exception):
                raise
            _learn(shape, costs, made.size, error)
            return predict(entry, inputs)  # whose fault it was, its own run says
        ended = time.monotonic()
        mine = _handed_out(turn, outputs, timing, others, started, ended)
        costs.note(made.size, timing.num_rows_run, ended - started, ended)
        entry.batching.expects_until = ended + costs.seconds_of(ended)[1]
        return mine

    def _sample(self, entry: ModelEntry, shape: ShapeBatching, inputs: Arrays) -> None:
        """Keep a row of a call, and begin a trial where there are enough."""
        if shape.wants_sample(time.monotonic()) and shape.keep_sample(inputs):
            self._trials.begin(entry, shape)


def _take_answer(answer: _Answer, entered: float, timing: Timing) -> Outputs:
    timing.queue_seconds = answer.started - entered
    timing.service_seconds = answer.ended - answer.started
    timing.ended = answer.ended
    timing.num_rows_run = 0
    return answer.outputs


def _wait_for_others(turn: Turn, entry: ModelEntry, inputs: Arrays, leader: Candidate, costs: Costs) -> float:
    """Let the device rest while those may come who ran together the last time; seconds that it rested."""
    now = time.monotonic()
    seconds_of = costs.seconds_of(now)

    def delay(waiting: Sequence[Waiter]) -> float:
        candidates = _candidates(waiting, entry, inputs)
        longest = entry.batching.options.max_delay_seconds
        return delay_seconds(leader, candidates, costs.num_rows_last, seconds_of, longest, now)

    seconds = delay(())
    if not seconds:
        return 0.0
    turn.wait_for_others(lambda waiting: not delay(waiting), seconds)
    turn.started = time.monotonic()
    return turn.started - now


def _choose(
    turn: Turn, entry: ModelEntry, inputs: Arrays, leader: Candidate, costs: Costs, now: float
) -> tuple[Plan | None, list[Waiter]]:
    """Decide who comes along, and take them out of the queue."""
    seconds_of = costs.seconds_of(now)
    made: Plan | None = None

    def choose(waiting: Sequence[Waiter]) -> tuple[int, ...]:
        nonlocal made
        made = plan(leader, _candidates(waiting, entry, inputs), seconds_of, now)
        return made.taken if made is not None else ()

    others = turn.take(choose)
    return made, others


def _candidates(waiting: Sequence[Waiter], entry: ModelEntry, inputs: Arrays) -> list[Candidate]:
    return [_candidate(waiter, entry, inputs) for waiter in itertools.islice(waiting, _MOST_LOOKED_AT)]


def _candidate(waiter: Waiter, entry: ModelEntry, inputs: Arrays) -> Candidate:
    deadline = math.inf if waiter.deadline is None else waiter.deadline
    if waiter.request is None or waiter.request[0] is not entry:
        return Candidate(0, deadline)
    fits = entry.batching.fits(inputs, waiter.request[1])
    return Candidate(entry.batching.num_rows(waiter.request[1]) if fits else 0, deadline)


def _inputs(waiter: Waiter) -> Arrays:
    inputs: Arrays = waiter.request[1]
    return inputs


def _run_together(
    entry: ModelEntry, model: LoadedModel, shape: ShapeBatching, made: Plan, requests: Sequence[Arrays]
) -> Outputs:
    """Return the outputs of all rows, in memory of their own."""
    if entry.proof.wants_sample:
        entry.proof.keep_sample(requests[0])
    num_by_reference = _num_reference_calls(model)
    batch = shape.filled(made.size, requests)
    outputs = predict(entry, batch)
    if _num_reference_calls(model) != num_by_reference:
        raise ModelError("the reference answered the batch, which it would not each of its requests")
    for alias, array in outputs.items():
        if array.ndim == 0 or len(array) != made.size:
            raise _NoBatch(f"output {alias!r} of {made.size} rows has shape {list(array.shape)}")
        if any(np.may_share_memory(array, memory) for memory in batch.values()):
            outputs[alias] = array.copy()
    return outputs


class _NoBatch(Exception):
    """Axis 0 of an output is no batch after all."""


def _learn(shape: ShapeBatching, costs: Costs, size: int, error: Exception) -> None:
    if isinstance(error, _NoBatch):
        shape.refuse(str(error))
    elif isinstance(error, MemoryError):
        shape.forbid(size, f"the memory is too small for {size} rows together")
    else:
        costs.failed(time.monotonic())


def _handed_out(
    turn: Turn, outputs: Outputs, timing: Timing, others: Sequence[Waiter], started: float, ended: float
) -> Outputs:
    """Give each of the others its rows; returns those of whoever has the turn."""
    first = end = timing.num_rows
    for other in others:
        start, end = end, end + other.request[0].batching.num_rows(other.request[1])
        rows = {alias: array[start:end] for alias, array in outputs.items()}
        turn.give(other, _Answer(rows, started, ended))
    timing.num_rows_run = end
    return {alias: array[:first] for alias, array in outputs.items()}


def _num_reference_calls(model: LoadedModel) -> int:
    return model.num_reference_calls if isinstance(model, GuardedModel) else 0


def predict(entry: ModelEntry, inputs: Arrays) -> Outputs:
    """Run; only with the turn, because that is what keeps the model from being unloaded meanwhile."""
    model = loaded(entry)
    if entry.proof.wants_sample:
        entry.proof.keep_sample(inputs)
    try:
        started = time.monotonic()
        outputs = memory.predict(model, inputs)
        entry.shapes.saw(inputs, time.monotonic() - started)
        return outputs
    except MemoryError as error:
        if isinstance(error, ElasticInferenceError):
            raise
        raise MemoryQuotaExceeded(
            f"the prediction needs more memory than the accelerator has: {error}"
        ) from error


def loaded(entry: ModelEntry) -> LoadedModel:
    """Return the model; ModelNotFound where it was unloaded meanwhile."""
    model = entry.model
    if model is None:
        raise ModelNotFound(f"model {entry.name!r} was unloaded while the request waited")
    return model
