"""Calls of a program recorded as a CUDA graph and replayed, where that was seen to be equal and faster.

A small request takes a GPU less time to compute than the CPU to launch, operation by operation. A recorded call is
launched at once, but it is cut nowhere, keeps the memory of its intermediate results, and is one of given shapes. So
a form of request (shapes and dtypes) is recorded when it has come some times, tried beside the plain call on the
request's own values and on the same ones reversed, and taken only if `why_not` has nothing against it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any, Protocol, TypeVar

import numpy.typing as npt

from elastic_inference.engines.preemption import let_others, paced
from elastic_inference.engines.torch.program import Run
from elastic_inference.proof.agreement import Criterion, Judgement, Kind, Pair, judge
from elastic_inference.proof.choice import LEAST_GAIN

T = TypeVar("T")
CALLS_BEFORE = 3  # of a form, before it is worth a recording
MAX_FORMS = 4  # recorded; each keeps memory of its own
LONGEST_SECONDS = 0.05  # of a plain call; beyond, launching is the smaller part
EQUAL = Criterion(Kind.NUMBERS, 1e-5)  # the same operations: what differs is the order of additions at most
_MAX_COUNTED = 64  # forms; who changes shapes all the time has none that is worth it
_ROUNDS = 5
_Form = tuple[tuple[Any, Any], ...]


class Recorder(Protocol):
    """What a device that replays calls has to offer."""

    def record(self, run: Run, tensors: Sequence[Any]) -> Run:
        """Record a call and return what replays it on other tensors, with results in memory of their own."""

    def timed(self, call: Callable[[], T]) -> tuple[float, T]:
        """Return the seconds until the device is through with a call, and what it returned."""


def why_not(
    judgement: Judgement,
    plain: Sequence[float],
    replayed: Sequence[float],
    longest_seconds: float | None,
) -> str:
    """Say what speaks against replaying; "" if nothing does.

    Args:
        plain, replayed: Seconds of calls that took turns.
        longest_seconds: That the device may be held without a point; None: as long as it takes.
    """
    if not judgement.agrees:
        return f"its answers differ: {judgement.reason}"
    gain = min(plain) / min(replayed)
    if gain < LEAST_GAIN:
        return f"it is {gain:.2f} times as fast, which is less than the {LEAST_GAIN:g} that would count"
    if longest_seconds is not None and min(replayed) > longest_seconds:
        return (
            f"it takes {min(replayed) * 1e3:.1f} ms and is cut nowhere, on a device shared by lease (at most "
            f"{longest_seconds * 1e3:g} ms)"
        )
    return ""


class GraphedRun:
    """A program's run that replays the forms for which that was found better. Safe for several threads.

    Args:
        run: The plain one; it must leave its inputs as they are.
        longest_seconds: See `why_not`.
        say: Called with a sentence for each form that was tried.
    """

    def __init__(
        self, run: Run, recorder: Recorder, longest_seconds: float | None, say: Callable[[str], None]
    ) -> None:
        self._run = run
        self._recorder = recorder
        self._longest_seconds = longest_seconds
        self._say = say
        self._num_calls: dict[_Form, int] = {}
        self._replays: dict[_Form, Run] = {}
        self._is_over = False
        self._lock = threading.Lock()  # a replay has one place for its inputs, and for its results

    def __call__(self, tensors: Sequence[Any]) -> list[Any]:
        form = tuple((tensor.shape, tensor.dtype) for tensor in tensors)
        with self._lock:
            if form in self._replays:
                return self._replays[form](tensors)
            if self._is_due(form):
                return self._tried(form, tensors)
        return self._run(tensors)

    def forget(self) -> None:
        """Give back what recordings keep, for good: memory has run short."""
        with self._lock:
            self._is_over = True
            self._replays.clear()

    def _is_due(self, form: _Form) -> bool:
        if self._is_over or len(self._replays) >= MAX_FORMS:
            return False
        if form not in self._num_calls and len(self._num_calls) >= _MAX_COUNTED:
            self._num_calls.clear()
        self._num_calls[form] = self._num_calls.get(form, 0) + 1
        return self._num_calls[form] == CALLS_BEFORE + 1

    def _tried(self, form: _Form, tensors: Sequence[Any]) -> list[Any]:
        """Answer the call, and see whether calls like it are to be replayed."""
        seconds, answer = self._recorder.timed(lambda: self._run(tensors))
        if seconds > LONGEST_SECONDS:
            return answer
        replay: Run | None = None
        try:
            replay = self._recorder.record(self._run, tensors)
            reason = self._against(replay, tensors, answer)
        except Exception as error:  # whatever it is, the plain call goes on
            text = str(error).strip() or type(error).__name__
            reason = f"it cannot be recorded: {text.splitlines()[0]:.200}"
        shapes = ", ".join(str(list(shape)) for shape, _ in form)
        if reason or replay is None:
            self._say(f"No CUDA graph for {shapes}: {reason}.")
        else:
            self._replays[form] = replay
            self._say(f"A CUDA graph answers calls of {shapes}.")
        return answer

    def _against(self, replay: Run, tensors: Sequence[Any], answer: list[Any]) -> str:
        reversed_ones = [tensor.flip(*range(tensor.ndim)) if tensor.ndim else tensor for tensor in tensors]
        judgement = judge(
            EQUAL,
            [
                Pair("the call", _arrays(replay(tensors)), _arrays(answer)),
                Pair("reversed", _arrays(replay(reversed_ones)), _arrays(self._run(reversed_ones))),
            ],
        )
        plain, replayed = [], []
        for _ in range(_ROUNDS):
            plain.append(self._recorder.timed(lambda: self._run(tensors))[0])
            replayed.append(self._recorder.timed(lambda: replay(tensors))[0])
            let_others()
        return why_not(judgement, plain, replayed, self._longest_seconds)


def _arrays(values: Sequence[Any]) -> dict[str, npt.NDArray[Any]]:
    """Return the tensors among the results as arrays; floats that numpy does not have as float32."""
    return {
        str(number): (value.float() if value.is_floating_point() else value).cpu().numpy()
        for number, value in enumerate(values)
        if hasattr(value, "is_floating_point")
    }


class CudaRecorder:
    """CUDA graphs, recorded and replayed on one stream."""

    def __init__(self, torch: ModuleType, stream: Any) -> None:
        self._torch = torch
        self._stream = stream

    def record(self, run: Run, tensors: Sequence[Any]) -> Run:
        """See Recorder."""
        torch = self._torch
        kept = [tensor.clone() for tensor in tensors]
        graph = torch.cuda.CUDAGraph()
        # Points would wait for the device, which nothing may while it records. Other threads may go on.
        with paced(_pass), torch.cuda.graph(graph, stream=self._stream, capture_error_mode="thread_local"):
            results = run(kept)

        def replay(given: Sequence[Any]) -> list[Any]:
            for own, tensor in zip(kept, given, strict=True):
                own.copy_(tensor, non_blocking=True)
            graph.replay()
            return [value.clone() if isinstance(value, torch.Tensor) else value for value in results]

        return replay

    def timed(self, call: Callable[[], T]) -> tuple[float, T]:
        """See Recorder."""
        self._stream.synchronize()
        started = time.perf_counter()
        value = call()
        self._stream.synchronize()
        return time.perf_counter() - started, value


def _pass() -> None:
    """Let nobody in, at a point while a call is recorded."""
