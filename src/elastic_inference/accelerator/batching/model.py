"""What one loaded model stands at: whether its requests run together, in which sizes, and why not."""

from __future__ import annotations

import math
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

import numpy as np
import numpy.typing as npt

from elastic_inference.accelerator.batching import eligibility
from elastic_inference.accelerator.batching.policy import Costs
from elastic_inference.accelerator.batching.trial import Outcome
from elastic_inference.engines.base import Arrays, LoadedModel
from elastic_inference.errors import InvalidInput
from elastic_inference.models.signature import Signature

DEFAULT_MAX_ROWS = 32
LARGEST_MAX_ROWS = 1024
LARGEST_DELAY_SECONDS = 1.0
MAX_SHAPES = 4  # for which batches are kept; the one not seen for longest goes
FIRST_RETRY_SECONDS = 60.0
LONGEST_RETRY_SECONDS = 3600.0
"""Until another trial, each time twice as long: a machine was busy, memory came free, samples proved nothing."""
NUM_SAMPLES = 2  # of different calls, before a trial
MOST_SAMPLE_BYTES = 16 << 20
_ALIGNMENT = 64
TRYING = " (being tried now)"

Key = tuple[tuple[str, tuple[int, ...]], ...]


class Mode(Enum):
    """When requests run together."""

    AUTO = "auto"  # where every bit of the answers is as it is alone
    CLOSE = "close"  # where they are within 1e-5
    OFF = "off"  # never

    @classmethod
    def parse(cls, text: object) -> Mode:
        """Return the mode of this name; raises InvalidInput with all names."""
        try:
            return cls(text)
        except ValueError:
            names = ", ".join(repr(mode.value) for mode in cls)
            raise InvalidInput(f"batching {text!r:.40} is not one of {names}") from None


@dataclass(frozen=True)
class Options:
    """What the user asks for.

    Attributes:
        max_rows: The largest batch.
        max_delay_seconds: How long a request that has the turn may wait for others; None: as `policy` has it.

    Raises:
        InvalidInput: A value is out of range.
    """

    mode: Mode = Mode.AUTO
    max_rows: int = DEFAULT_MAX_ROWS
    max_delay_seconds: float | None = None

    def __post_init__(self) -> None:
        if not 1 <= self.max_rows <= LARGEST_MAX_ROWS:
            raise InvalidInput(f"max_batch_rows must be 1 to {LARGEST_MAX_ROWS}, not {self.max_rows}")
        if self.max_delay_seconds is not None and not 0 <= self.max_delay_seconds <= LARGEST_DELAY_SECONDS:
            raise InvalidInput(
                f"max_batch_delay_seconds must be 0 to {LARGEST_DELAY_SECONDS:g}, not {self.max_delay_seconds}"
            )


class ShapeBatching:
    """Inputs of one shape but for axis 0: samples, then what their trial found, and the memory of a batch.

    Attributes:
        costs: What runs cost, once a trial found sizes that gain; None before, and where none does.
        outcome: What the trial came to; None before.
        is_trying: Whether a trial is on its way.
    """

    def __init__(self) -> None:
        self.costs: Costs | None = None
        self.outcome: Outcome | None = None
        self.samples: list[Arrays] = []
        self.is_trying = False
        self._num_trials = 0
        self._next_at = 0.0
        self._memory: dict[str, npt.NDArray[Any]] = {}

    def wants_sample(self, now: float) -> bool:
        """Whether the inputs of a call are of use."""
        return self.costs is None and not self.is_trying and now >= self._next_at

    def keep_sample(self, inputs: Arrays) -> bool:
        """Keep a copy of a call's first row; True where there are enough for a trial, which the caller then begins."""
        row = {alias: array[:1].copy() for alias, array in inputs.items()}
        size = sum(array.nbytes for array in row.values())
        if size * NUM_SAMPLES > MOST_SAMPLE_BYTES:
            self.refuse(f"the inputs of one row exceed {MOST_SAMPLE_BYTES // NUM_SAMPLES >> 20} MiB")
            return False
        self.samples.append(row)
        self.is_trying = len(self.samples) >= NUM_SAMPLES
        return self.is_trying

    def adopt(self, seconds_of: Mapping[int, float]) -> None:
        """Let rows run together in these sizes, while the trial looks for larger ones."""
        if self.costs is None and len(seconds_of) > 1:
            self.costs = Costs(seconds_of)
        elif self.costs is not None:
            self.costs.add(*max(seconds_of.items()))

    def conclude(self, outcome: Outcome | None, now: float) -> None:
        """Take what the trial came to; None where it did not take place."""
        self.outcome = outcome or Outcome(reason="the trial did not get its turn")
        self.samples = []
        self._next_at = now + min(FIRST_RETRY_SECONDS * 2**self._num_trials, LONGEST_RETRY_SECONDS)
        self._num_trials += 1
        self.is_trying = False

    def filled(self, size: int, requests: Sequence[Arrays]) -> dict[str, npt.NDArray[Any]]:
        """Return the requests' rows one after the other, filled up to `size`, in memory that the next call reuses."""
        batch = {}
        for alias, first in requests[0].items():
            array = self._memory.get(alias)
            if array is None or len(array) < size:
                array = self._memory[alias] = _aligned((size, *first.shape[1:]), first.dtype)
            end = 0
            for request in requests:
                start, end = end, end + len(request[alias])
                array[start:end] = request[alias]
            array[end:size] = first[:1]
            batch[alias] = array[:size]
        return batch

    def forbid(self, size: int, reason: str) -> None:
        """Run no batch of this size or above again."""
        if self.costs is not None:
            self.costs.forbid(size)
            self._memory = {}
            if not self.costs.sizes():
                self.refuse(reason)

    def refuse(self, reason: str) -> None:
        """Run nothing together any more."""
        self.costs, self.outcome, self._memory, self._next_at = None, Outcome(reason=reason), {}, math.inf


class ModelBatching:
    """One model's requests.

    Args:
        signature: Of the model.
        changes: See LoadedModel.
        engine: What computes it now.

    Attributes:
        expects_until: Until when, on time.monotonic, others are likely to come who ran together just before.
    """

    def __init__(
        self,
        signature: Signature,
        changes: tuple[str, ...] = (),
        engine: str = "",
        options: Options = Options(),  # it is frozen
    ) -> None:
        form = eligibility.refusal(signature, changes)
        self.signature = signature
        self.options = options
        self.expects_until = 0.0
        self._engine = engine
        self._has_rows = not form
        self.refusal = form
        if options.mode is Mode.OFF:
            self.refusal = "batching='off' was asked for"
        elif not form and options.max_rows < 2:
            self.refusal = f"max_batch_rows={options.max_rows} was asked for"
        self._shapes: OrderedDict[Key, ShapeBatching] = OrderedDict()
        self._lock = threading.Lock()

    @classmethod
    def of(cls, model: LoadedModel, options: Options) -> ModelBatching:
        """Return the state of a model that was just loaded."""
        return cls(model.signature, model.changes, model.report.engine, options)

    def num_rows(self, inputs: Arrays) -> int:
        """Count the rows of a request; 1 where axis 0 cannot be a batch."""
        if self._has_rows:
            for array in inputs.values():
                return len(array)
        return 1

    def shape(self, inputs: Arrays, engine: str) -> ShapeBatching | None:
        """Return the state of requests of this shape; None where they run alone, whatever the trial says.

        Args:
            engine: What computes the model now; where another took over, nothing is known of it.
        """
        key = _key(inputs)
        if self.refusal or key is None:
            return None
        with self._lock:
            if engine != self._engine:
                self._shapes.clear()
                self._engine = engine
            shape = self._shapes.get(key)
            if shape is None:
                shape = self._shapes[key] = ShapeBatching()
                if len(self._shapes) > MAX_SHAPES:
                    self._shapes.popitem(last=False)
            self._shapes.move_to_end(key)
            return shape

    def fits(self, inputs: Arrays, others: Arrays) -> bool:
        """Whether two requests have the same inputs, of the same shape but for axis 0."""
        key = _key(inputs)
        return key is not None and key == _key(others)

    def refuse(self, reason: str) -> None:
        """Run nothing together any more, of any shape."""
        with self._lock:
            self.refusal = reason
            self._shapes.clear()

    def summary(self) -> str:
        """One line for people."""
        with self._lock:
            shapes = list(self._shapes.values())
        if self.refusal:
            return f"not batched: {self.refusal}"
        return self._of_shapes(shapes) + (TRYING if any(shape.is_trying for shape in shapes) else "")

    @staticmethod
    def _of_shapes(shapes: Sequence[ShapeBatching]) -> str:
        """Say what the shape came to that was seen last among those that gain, else among those that were tried."""
        for shape in reversed(shapes):
            if shape.costs is not None:
                return _gain(shape.costs, shape.outcome)
        for shape in reversed(shapes):
            if shape.outcome is not None:
                return f"not batched: {shape.outcome.reason}"
        return "not batched yet: that is tried when requests wait together"


def _aligned(shape: tuple[int, ...], dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    """Return new memory that begins where vector units like it, as a received tensor does."""
    size = math.prod(shape) * dtype.itemsize
    memory = np.empty(size + _ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % _ALIGNMENT
    return memory[start : start + size].view(dtype).reshape(shape)


def _gain(costs: Costs, outcome: Outcome | None) -> str:
    size, together, alone = costs.largest()
    proof = None if outcome is None else outcome.proof
    how = "every value as alone"
    if proof is not None and proof.worst:
        how = f"values within {proof.worst:.2g} of those alone"
    seconds = f"{together * 1e3:.3g} ms instead of {size * alone * 1e3:.3g} ms"
    return f"batched: up to {size} rows together, in {seconds}; {how}"


def _key(inputs: Arrays) -> Key | None:
    """Return what must agree between requests that run together; None where the inputs have no common rows."""
    num_rows = {array.shape[:1] for array in inputs.values()}
    if len(num_rows) != 1 or num_rows in ({()}, {(0,)}):
        return None
    return tuple(sorted((alias, array.shape[1:]) for alias, array in inputs.items()))
