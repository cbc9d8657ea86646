"""Whether axis 0 of a model is a batch, and what it is worth: rows run alone, then together, and are compared.

Nothing here knows queues or engines: how a run is made is an argument.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from elastic_inference.accelerator.batching.eligibility import open_axes
from elastic_inference.accelerator.batching.policy import GAIN
from elastic_inference.engines.base import Arrays
from elastic_inference.errors import ModelError
from elastic_inference.models.signature import Signature
from elastic_inference.proof.agreement import compare
from elastic_inference.proof.proof import Proof, Verdict

CLOSE = 1e-5
"""How far an answer may be from that alone where the user allows it: relative to the value, and to the largest one."""
NUM_ROWS = 4  # different rows that are compared
LONGEST_RUN_SECONDS = 1.0  # all others wait for it
QUICK_SECONDS = 0.05  # rows that end sooner alone are timed several times
LEAST_ROOM_BYTES = 64 << 20
ROOM_PER_BYTE = 64
"""Before anything is known, a row is taken to need this many times its inputs and outputs: convolutions need 30."""
MOST_INPUT_BYTES = 64 << 20  # of one batch, whose memory is kept
_NUM_QUICK, _NUM_SLOW = 3, 1  # timed runs of a size
_MIXES = 4  # tries for each row that lacks: values mixed can be as they were
_PATIENCE = 2  # sizes in a row that gain nothing, before larger ones are not tried

OF_THE_VALUES = (ModelError, MemoryError)
"""What a model fails with; all else says that it did not run."""

Run = Callable[[Arrays], tuple[Arrays, float]]


@dataclass(frozen=True)
class Outcome:
    """What a trial came to.

    Attributes:
        seconds_of: Seconds of a run by its rows, of sizes that may run; with one row alone in it.
        proof: What comparing came to; None where it did not come to that.
        reason: Why nothing runs together; "" where something does.
        is_of_model: Whether the reason holds for all shapes and for good.
    """

    seconds_of: Mapping[int, float] = field(default_factory=dict)
    proof: Proof | None = None
    reason: str = ""
    is_of_model: bool = False


@dataclass(frozen=True)
class Limits:
    """What a trial may do.

    Attributes:
        max_rows: The largest batch.
        is_close_enough: Whether answers within CLOSE of those alone will do; else every bit must be the same.
        room_bytes: Asked how much memory is left; the answer None is no limit.
    """

    max_rows: int
    is_close_enough: bool = False
    room_bytes: Callable[[], int | None] = lambda: None


def attempt(
    samples: Sequence[Arrays],
    signature: Signature,
    run: Run,
    limits: Limits,
    found: Callable[[Mapping[int, float]], None] = lambda _: None,
) -> Outcome:
    """Run rows alone and together.

    Args:
        samples: Inputs of one row each; values that callers sent.
        run: Runs the model once; returns its outputs and the seconds that it took.
        found: Told what is known so far of sizes that may run, after each of them: seconds of a run by its rows.

    Raises:
        ElasticInferenceError: A run did not get its turn.
    """
    rows, answers, seconds = _run_alone(_different(samples), run)
    if not rows:
        return Outcome(reason="no sample could be run")
    reason = _shape_refusal(rows, answers, signature)
    if reason:
        return Outcome(reason=reason, is_of_model=True)
    if all(_is_same(answers[0], other) for other in answers[1:]):
        return Outcome(reason="all samples had the same answer, which proves nothing")
    return _Sizes(rows, answers, seconds, run, limits).outcome(found)


class _Sizes:
    """Batches of 2, 4, 8, ... rows, until one differs, has no room or gains nothing."""

    def __init__(
        self, rows: Sequence[Arrays], answers: Sequence[Arrays], seconds: float, run: Run, limits: Limits
    ) -> None:
        self._rows = rows
        self._answers = answers
        self._run = run
        self._limits = limits
        self._row_bytes = _size_of(rows[0])
        self._need_bytes = max(LEAST_ROOM_BYTES, 2 * ROOM_PER_BYTE * (self._row_bytes + _size_of(answers[0])))
        self._seconds_of = {1: seconds}
        self._worst = 0.0
        self._difference = ""

    def outcome(self, found: Callable[[Mapping[int, float]], None]) -> Outcome:
        num_vain, reason = 0, ""
        least = self._seconds_of[1]  # seconds a row
        size = 2
        while size <= self._limits.max_rows and num_vain < _PATIENCE and not reason:
            reason = self._obstacle(size) or self._tried(size)
            if not reason:
                a_row = self._seconds_of[size] / size
                found(self._useful())
                num_vain = 0 if a_row <= GAIN * least else num_vain + 1
                least = min(least, a_row)
                size *= 2
        useful = self._useful()
        if len(useful) > 1:
            return Outcome(useful, self._proof(max(useful)))
        if self._difference:
            return Outcome(proof=self._proof(2), reason=self._difference, is_of_model=True)
        return Outcome(reason=reason or self._no_gain())

    def _useful(self) -> dict[int, float]:
        """Return seconds of a run by its rows, of one row and of those that gain together."""
        alone = self._seconds_of[1]
        return {
            size: seconds
            for size, seconds in self._seconds_of.items()
            if size == 1 or seconds <= GAIN * size * alone
        }

    def _obstacle(self, size: int) -> str:
        """Say what stands against a run of this many rows."""
        longest = 2 * self._seconds_of[size // 2]
        if longest > LONGEST_RUN_SECONDS:
            return f"{size} rows might take {longest:.2g} s, for which others would have to wait"
        if size * self._row_bytes > MOST_INPUT_BYTES:
            return f"the inputs of {size} rows exceed {MOST_INPUT_BYTES >> 20} MiB"
        room = self._limits.room_bytes()
        if room is not None and self._need_bytes > room // 2:
            return f"{size} rows might need {self._need_bytes >> 20} MiB, of {room >> 20} MiB that are left"
        return ""

    def _tried(self, size: int) -> str:
        """Run this many rows; says why they cannot run together, "" where they can."""
        places = [place % len(self._rows) for place in range(size)]
        batch = {
            alias: np.concatenate([self._rows[place][alias] for place in places]) for alias in self._rows[0]
        }
        before = self._limits.room_bytes()
        try:
            outputs, _ = self._run(batch)  # compiling for this size is in its time
            self._difference = self._compared(outputs, places)
            if self._difference:
                return self._difference
            seconds = self._timed(batch)
        except OF_THE_VALUES as error:
            return f"{size} rows together failed: {error}"
        self._seconds_of[size] = seconds
        after = self._limits.room_bytes()
        if before is not None and after is not None:
            self._need_bytes = max(LEAST_ROOM_BYTES, 2 * (before - after))
        return ""

    def _timed(self, batch: Arrays) -> float:
        """Return the seconds of the quickest run, by turns with one row alone: the machine may be busy meanwhile."""
        least = math.inf
        for _ in range(_NUM_QUICK if self._seconds_of[1] <= QUICK_SECONDS else _NUM_SLOW):
            least = min(least, self._run(batch)[1])
            self._seconds_of[1] = min(self._seconds_of[1], self._run(self._rows[0])[1])
        return least

    def _compared(self, outputs: Arrays, places: Sequence[int]) -> str:
        """Say where an answer differs from that alone; "" where none does."""
        for alias, array in outputs.items():
            if array.ndim == 0 or array.shape[0] != len(places):
                return f"output {alias!r} of {len(places)} rows has shape {list(array.shape)}"
        for index, place in enumerate(places):
            ours = {alias: array[index : index + 1] for alias, array in outputs.items()}
            text = self._apart(ours, self._answers[place])
            if text:
                return text
        return ""

    def _apart(self, ours: Arrays, alone: Arrays) -> str:
        for alias, wanted in alone.items():
            scale = _largest(wanted) if self._limits.is_close_enough else 0.0
            relative = CLOSE if self._limits.is_close_enough else 0.0
            worst, deviations = compare({alias: ours[alias]}, {alias: wanted}, relative, CLOSE * scale)
            self._worst = max(self._worst, worst)
            if deviations:
                return f"output {alias!r} of rows together is another than alone: {deviations[0].what}"
        return ""

    def _no_gain(self) -> str:
        size = max(self._seconds_of)
        if size == 1:
            return "at most one row was allowed"
        together, alone = self._seconds_of[size], size * self._seconds_of[1]
        return f"{size} rows take {together * 1e3:.3g} ms together and {alone * 1e3:.3g} ms one by one"

    def _proof(self, size: int) -> Proof:
        tolerance = CLOSE if self._limits.is_close_enough else 0.0
        verdict = Verdict.DIFFERS if self._difference and len(self._seconds_of) == 1 else Verdict.AGREES
        return Proof(
            f"up to {size} rows together",
            verdict,
            "each row alone",
            len(self._rows),
            tolerance=tolerance,
            worst=self._worst,
        )


def _run_alone(rows: Sequence[Arrays], run: Run) -> tuple[list[Arrays], list[Arrays], float]:
    """Return the rows that the model takes, their answers, and the seconds of the quickest run."""
    taken, answers, least = [], [], math.inf
    for row in rows:
        try:
            outputs, seconds = run(row)
        except OF_THE_VALUES:
            continue
        taken.append(row)
        answers.append(outputs)
        least = min(least, seconds)
    return taken, answers, least


def _different(samples: Sequence[Arrays]) -> list[Arrays]:
    """Return samples that differ in every row, made of the given ones' own values where there are too few.

    A model that mixes the rows of its batch would be found right on rows that are all the same.
    """
    rows: list[Arrays] = []
    for sample in samples:
        if not any(_is_same(sample, row) for row in rows):
            rows.append(sample)
    random, sent = np.random.default_rng(1), list(rows)
    for place in range(_MIXES * NUM_ROWS):
        if len(rows) >= NUM_ROWS:
            break
        # Values that stay within those of a real call are as valid as they are: ids, pixels, lengths.
        mixed = {
            alias: random.permutation(array.reshape(-1)).reshape(array.shape)
            for alias, array in sent[place % len(sent)].items()
        }
        if not any(_is_same(mixed, other) for other in rows):
            rows.append(mixed)
    return rows[:NUM_ROWS]


def _shape_refusal(rows: Sequence[Arrays], answers: Sequence[Arrays], signature: Signature) -> str:
    """Say whether an answer has no rows, or its shape depends on the values."""
    open_sizes = {
        rows[0][alias].shape[axis]
        for alias, spec in signature.inputs.items()
        if alias in rows[0]
        for axis in open_axes(spec)
    }
    for alias, array in answers[0].items():
        if array.ndim == 0 or array.shape[0] != 1:
            return f"output {alias!r} of one row has shape {list(array.shape)}"
        if any(other[alias].shape != array.shape for other in answers[1:]):
            return f"the shape of output {alias!r} depends on the values"
        for axis in open_axes(signature.outputs[alias]):
            if array.shape[axis] not in open_sizes:
                return f"axis {axis} of output {alias!r} is open and of no input's size, so it may depend on the values"
    return ""


def _is_same(one: Arrays, other: Arrays) -> bool:
    return all(np.array_equal(array, other[alias]) for alias, array in one.items())


def _size_of(arrays: Arrays) -> int:
    return sum(array.nbytes for array in arrays.values())


def _largest(array: npt.NDArray[Any]) -> float:
    """Return the largest size of any finite number."""
    numbers = np.abs(array[np.isfinite(array)]) if array.dtype.kind == "f" else array[:0]
    return float(numbers.max()) if numbers.size else 0.0
