"""One request that has the turn, and those that it takes along: who they are, their run, and what each gets of it."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from elastic_inference.accelerator.batching.model import ShapeBatching
from elastic_inference.accelerator.batching.policy import Candidate, Costs, Plan, delay_seconds, plan
from elastic_inference.accelerator.model_entry import ModelEntry
from elastic_inference.accelerator.model_statistics import Timing
from elastic_inference.accelerator.queue import Turn, Waiter
from elastic_inference.engines.base import Arrays
from elastic_inference.engines.guarded import GuardedModel
from elastic_inference.errors import ModelError

_MOST_LOOKED_AT = 128  # of those that wait, while the queue stands still

Outputs = dict[str, npt.NDArray[Any]]


@dataclass(frozen=True)
class Answer:
    """What a run together left for one of its requests; times on time.monotonic."""

    outputs: Outputs
    started: float
    ended: float


class Lead:
    """A request that has the turn, of a shape whose rows may run together.

    Args:
        turn: Its turn.
        entry, shape, costs: What is known of its model, of its inputs' shape, and of what runs take.
        inputs: Its own.
        deadline: By when its answer is of use, on time.monotonic; infinite where that is never too late.
        timing: Its own.
    """

    def __init__(
        self,
        turn: Turn,
        entry: ModelEntry,
        shape: ShapeBatching,
        costs: Costs,
        inputs: Arrays,
        deadline: float,
        timing: Timing,
    ) -> None:
        self._turn = turn
        self._entry = entry
        self._shape = shape
        self._costs = costs
        self._inputs = inputs
        self._own = Candidate(timing.num_rows, deadline)
        self._timing = timing

    def run(self) -> Outputs:
        """Run it, with others where that saves time; returns its own rows."""
        if self._turn.started < self._entry.batching.expects_until:
            self._wait_for_others()
        made, others = self._choose()
        if made is None:
            return self._run_alone()
        started = time.monotonic()
        try:
            outputs = self._run_together(made, [self._inputs, *(other.request[1] for other in others)])
        except BaseException as error:
            self._turn.put_back(others)
            if not isinstance(error, Exception):
                raise
            self._learn(made.size, error)
            return self._entry.predict(self._inputs)  # whose fault it was, its own run says
        ended = time.monotonic()
        self._hand_out(outputs, others, started, ended)
        self._costs.note(made.size, self._timing.num_rows_run, ended - started, ended)
        self._entry.batching.expects_until = ended + self._costs.seconds_of(ended)[1]
        return {alias: array[: self._own.num_rows] for alias, array in outputs.items()}

    def _wait_for_others(self) -> None:
        """Let the device rest while those may come who ran together just before."""
        now = time.monotonic()
        seconds_of = self._costs.seconds_of(now)
        longest = self._entry.batching.options.max_delay_seconds

        def delay(waiting: Sequence[Waiter]) -> float:
            candidates = self._candidates(waiting)
            return delay_seconds(self._own, candidates, self._costs.num_rows_last, seconds_of, longest, now)

        seconds = delay(())
        if seconds:
            self._turn.wait_for_others(lambda waiting: not delay(waiting), seconds)
            self._turn.started = time.monotonic()
            self._timing.queue_seconds += self._turn.started - now

    def _choose(self) -> tuple[Plan | None, list[Waiter]]:
        """Decide who comes along, and take them out of the queue."""
        now = time.monotonic()
        seconds_of = self._costs.seconds_of(now)
        made: Plan | None = None

        def choose(waiting: Sequence[Waiter]) -> tuple[int, ...]:
            nonlocal made
            made = plan(self._own, self._candidates(waiting), seconds_of, now)
            return made.taken if made is not None else ()

        others = self._turn.take(choose)
        return made, others

    def _candidates(self, waiting: Sequence[Waiter]) -> list[Candidate]:
        return [self._candidate(waiter) for waiter in itertools.islice(waiting, _MOST_LOOKED_AT)]

    def _candidate(self, waiter: Waiter) -> Candidate:
        deadline = math.inf if waiter.deadline is None else waiter.deadline
        if waiter.request is None or waiter.request[0] is not self._entry:
            return Candidate(0, deadline)
        batching, inputs = self._entry.batching, waiter.request[1]
        return Candidate(batching.num_rows(inputs) if batching.fits(self._inputs, inputs) else 0, deadline)

    def _run_alone(self) -> Outputs:
        started = time.monotonic()
        outputs = self._entry.predict(self._inputs)
        ended = time.monotonic()
        self._costs.note(self._own.num_rows, self._own.num_rows, ended - started, ended)
        self._entry.batching.expects_until = 0.0
        return outputs

    def _run_together(self, made: Plan, requests: Sequence[Arrays]) -> Outputs:
        """Return the outputs of all rows, in memory of their own."""
        num_by_reference = self._num_reference_calls()
        batch = self._shape.filled(made.size, requests)
        outputs = self._entry.predict(batch, is_batch=True)
        if self._num_reference_calls() != num_by_reference:
            raise ModelError("the reference answered the batch, which it would not each of its requests")
        for alias, array in outputs.items():
            if array.ndim == 0 or len(array) != made.size:
                raise _NoBatch(f"output {alias!r} of {made.size} rows has shape {list(array.shape)}")
            if any(np.may_share_memory(array, memory) for memory in batch.values()):
                outputs[alias] = array.copy()
        return outputs

    def _num_reference_calls(self) -> int:
        model = self._entry.model
        return model.num_reference_calls if isinstance(model, GuardedModel) else 0

    def _learn(self, size: int, error: Exception) -> None:
        """Remember that a batch of this size failed."""
        if isinstance(error, _NoBatch):
            self._shape.refuse(str(error))
        elif isinstance(error, MemoryError):
            self._shape.forbid(size, f"the memory is too small for {size} rows together")
        else:
            self._costs.failed(time.monotonic())

    def _hand_out(self, outputs: Outputs, others: Sequence[Waiter], started: float, ended: float) -> None:
        """Give each of the others its rows."""
        end = self._own.num_rows
        for other in others:
            start, end = end, end + self._entry.batching.num_rows(other.request[1])
            rows = {alias: array[start:end] for alias, array in outputs.items()}
            self._turn.give(other, Answer(rows, started, ended))
        self._timing.num_rows_run = end


class _NoBatch(Exception):
    """Axis 0 of an output is no batch after all."""
