"""The process that measures one cell: `python -m elastic_inference.explorer.measuring.worker`, task in, outcome out.

A process of its own, so that it can be bound to some cores before any thread of an engine exists, and so that a
model which does not fit takes nothing else down.
"""

from __future__ import annotations

import ctypes
import json
import math
import os
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from statistics import fmean
from typing import Any

from elastic_inference.client.predictor import EIPredictor
from elastic_inference.client.report import CallTiming
from elastic_inference.errors import ElasticInferenceError
from elastic_inference.explorer.cost import ThroughputPoint
from elastic_inference.explorer.measuring.arrivals import (
    OpenLoopRun,
    constant_offsets,
    poisson_offsets,
    run_open_loop,
)
from elastic_inference.explorer.measuring.task import INVALID, Outcome, Task, read_input
from elastic_inference.explorer.observation import Observation
from elastic_inference.explorer.reporting.result import Detail
from elastic_inference.explorer.statistics import (
    MeanRule,
    TailRule,
    TailVerdict,
    mean_interval,
    warm_up_length,
)
from elastic_inference.percentiles import percentile

# Load of the tail run where no rate is asked for: low enough that evenly spaced requests do not queue.
LIGHT_LOAD_SHARE = 0.5
# Above these the client is what was measured: its processors are busy, or it starts requests late.
BUSY_CLIENT_SHARE = 0.9
LATE_SHARE = 0.1
_PR_SET_PDEATHSIG = 1
SHARES = (0.5, 0.9, 0.95, 0.99)
MAX_CALL_PARTS = 200  # kept of a cell


def main() -> int:
    """Read a task from standard input and write its outcome to standard output; always exit code 0."""
    _end_with_parent()
    # Engines print to standard output; what the parent reads must hold the outcome alone.
    answer = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    task = Task.from_json(json.load(sys.stdin))
    if task.cores is not None:
        os.sched_setaffinity(0, task.cores)
    json.dump(run_task(task).to_json(), answer)
    answer.close()
    return 0


def _end_with_parent() -> None:
    """End, with accelerators detached, when the parent says so, or the kernel because the parent was killed.

    Ctrl-C reaches a terminal's whole group: the parent hears it and passes it on, and once is enough.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _end)
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _end(*_: object) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # a second one would break off the detaching
    sys.exit(1)


def run_task(task: Task) -> Outcome:
    """Load, warm up, measure; an error of ours becomes an outcome without measurement."""
    start = time.perf_counter()
    try:
        with EIPredictor(task.model, accelerator=task.accelerator, load=task.load) as predictor:
            load_seconds = time.perf_counter() - start
            return _Measurement(task, predictor, load_seconds).outcome()
    except (ElasticInferenceError, OSError, MemoryError) as error:
        return Outcome.failed(f"{type(error).__name__}: {error}")


class _Measurement:
    def __init__(self, task: Task, predictor: EIPredictor, load_seconds: float) -> None:
        self.task, self.predictor, self.load_seconds = task, predictor, load_seconds
        self.inputs = read_input(task.input, predictor.feed_tensors, task.seed)
        self.problems: list[str] = []

    def outcome(self) -> Outcome:
        first = self._timed_call()
        timings = self._sequential()
        num_warm_up = warm_up_length([timing.latency_seconds for timing in timings])
        steady = timings[num_warm_up:]
        latencies = [timing.latency_seconds for timing in steady]
        rate = 1 / fmean(latencies)
        tail, tail_rate, spaced = self._tail(rate)
        curve = self._curve(rate)
        counted = [] if tail is None else tail.latencies_seconds
        share = self.task.percentile
        detail = Detail(
            num_samples=len(steady),
            num_warm_up=num_warm_up,
            load_seconds=self.load_seconds,
            first_call_seconds=first.latency_seconds,
            queue_seconds=fmean(timing.queue_seconds for timing in steady),
            service_seconds=fmean(timing.service_seconds for timing in steady),
            wire_seconds=fmean(timing.wire_seconds for timing in steady),
            call_parts=call_parts(spaced or steady),
            percentiles={f"p{each * 100:g}": percentile(counted, each) for each in SHARES} if counted else {},
            offered_per_second=tail_rate if tail is not None else None,
            schedule_delay_seconds=percentile(tail.delays_seconds, 0.99)
            if tail and tail.delays_seconds
            else None,
            curve=curve,
            notes=tuple(self.problems),
        )
        interval = mean_interval(latencies)
        observation = Observation(
            interval.mean,
            percentile(counted, share) if counted and share is not None else None,
            problem=next((text for text in self.problems if text.startswith(INVALID)), ""),
            interval=interval if math.isfinite(interval.low) else None,
        )
        return Outcome(observation, detail, self.predictor.report.to_json())

    def _timed_call(self) -> CallTiming:
        return self.predictor.predict_timed(self.inputs)[1]

    def _sequential(self) -> list[CallTiming]:
        task = self.task
        rule = MeanRule(task.width_share, min_runs=task.min_runs, max_runs=task.max_runs)
        timings: list[CallTiming] = []
        start = time.perf_counter()
        while True:
            timings.append(self._timed_call())
            latencies = [timing.latency_seconds for timing in timings]
            elapsed = time.perf_counter() - start
            if elapsed >= task.min_seconds and rule.is_done(latencies[warm_up_length(latencies) :]):
                return timings
            if elapsed > task.max_seconds and len(timings) >= task.min_runs:
                self.problems.append(
                    f"the mean is known to {_width(latencies):.0%} only: {task.max_seconds:g} s were over "
                    f"after {len(timings)} inferences"
                )
                return timings

    def _tail(self, sequential_rate: float) -> tuple[OpenLoopRun | None, float, list[CallTiming]]:
        task, timings = self.task, list[CallTiming]()
        if task.percentile is None:
            return None, 0.0, timings
        rule = TailRule(task.percentile)
        required = rule.required_requests(1)
        rate = task.rate_per_second or LIGHT_LOAD_SHARE * sequential_rate
        offsets = constant_offsets(rate) if task.rate_per_second is None else poisson_offsets(rate, task.seed)

        def is_decided(latencies: list[float]) -> bool:
            if task.target_seconds is None:
                return len(latencies) >= required
            num_late = sum(latency > task.target_seconds for latency in latencies)
            return rule.verdict(len(latencies), num_late) is not TailVerdict.OPEN

        run = self._open_loop(offsets, is_decided, lambda: timings.append(self._timed_call()))
        if not is_decided(run.latencies_seconds):
            self.problems.append(
                f"p{task.percentile * 100:g} is that of {len(run.latencies_seconds)} requests; "
                f"{required} would prove it"
            )
        if run.errors:
            self.problems.append(
                f"{INVALID}{len(run.errors)} requests failed, the first with {run.errors[0]}"
            )
        # Without accelerator the client computes, so it is the limit by right.
        if run.latencies_seconds and self.predictor.report.use_ei:
            cores = task.cores or tuple(os.sched_getaffinity(0))
            self.problems += client_problems(run, rate, len(cores), task.target_seconds)
        return run, rate, timings

    def _curve(self, sequential_rate: float) -> tuple[ThroughputPoint, ...]:
        share = self.task.curve_percentile or 0.95
        required = TailRule(share).required_requests(1)
        points = []
        for load in self.task.loads:
            offsets = poisson_offsets(load * sequential_rate, self.task.seed)
            run = self._open_loop(offsets, lambda latencies: len(latencies) >= required, self._timed_call)
            if not run.latencies_seconds or run.errors:
                self.problems.append(f"at {load * sequential_rate:.3g} /s requests failed: {run.errors[:1]}")
                break
            points.append(
                ThroughputPoint(run.throughput_per_second, percentile(run.latencies_seconds, share))
            )
        return tuple(points)

    def _open_loop(
        self, offsets: Any, is_done: Callable[[list[float]], bool], call: Callable[[], object]
    ) -> OpenLoopRun:
        end = time.perf_counter() + self.task.max_seconds
        return run_open_loop(call, offsets, lambda latencies: is_done(latencies) or time.perf_counter() > end)


def call_parts(timings: list[CallTiming]) -> tuple[tuple[float, float], ...]:
    """Return computation and wire of calls, by rising computation; of more than `MAX_CALL_PARTS`, so many evenly."""
    measured = sorted((timing.service_seconds, timing.wire_seconds) for timing in timings)
    kept = min(len(measured), MAX_CALL_PARTS)
    return tuple(measured[int((place + 0.5) * len(measured) / kept)] for place in range(kept))


def client_problems(
    run: OpenLoopRun, rate: float, num_cores: int, target_seconds: float | None = None
) -> list[str]:
    """Why a run measured the client rather than the accelerator; nothing where it did not.

    A late start counts into the latency, so it never flatters; it matters where it is large beside what is
    judged: the target, or the median where that is longer or there is no target.
    """
    problems = []
    busy = run.client_seconds / (run.elapsed_seconds * num_cores)
    if busy > BUSY_CLIENT_SHARE:
        problems.append(
            f"{INVALID}the client is the limit, its processors are {busy:.0%} busy at {rate:.3g} /s"
        )
    late = percentile(run.delays_seconds, 0.99)
    judged = max(percentile(run.latencies_seconds, 0.5), target_seconds or 0.0)
    if late > LATE_SHARE * judged:
        problems.append(
            f"{INVALID}the client is the limit, it starts requests up to {late * 1e3:.3g} ms late "
            f"where {judged * 1e3:.3g} ms are judged"
        )
    return problems


def _width(latencies: list[float]) -> float:
    interval = mean_interval(latencies[warm_up_length(latencies) :])
    return interval.width_share


if __name__ == "__main__":
    with suppress(BrokenPipeError):
        sys.exit(main())
