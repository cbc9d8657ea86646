"""Requests at their own times, whether or not earlier ones are answered: an open loop.

A closed loop waits for each answer, so that during a stall it sends nothing and its percentiles omit the stall
(coordinated omission). Here each latency counts from the moment at which the request was to start.
"""

from __future__ import annotations

import queue
import random
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from elastic_inference.errors import ElasticInferenceError, InvalidInput

MAX_IN_FLIGHT = 64


def constant_offsets(rate_per_second: float) -> Iterator[float]:
    """Seconds from the start, evenly spaced, without end."""
    interval = 1 / _positive(rate_per_second)
    return (number * interval for number in _count())


def poisson_offsets(rate_per_second: float, seed: int) -> Iterator[float]:
    """Seconds from the start with exponential gaps: independent users; without end, the same for equal seeds."""
    chance, now = random.Random(seed), 0.0
    _positive(rate_per_second)
    while True:
        now += chance.expovariate(rate_per_second)
        yield now


def _count() -> Iterator[int]:
    number = 0
    while True:
        yield number
        number += 1


def _positive(rate_per_second: float) -> float:
    if not 0 < rate_per_second < float("inf"):
        raise InvalidInput(f"rate {rate_per_second} must be finite and above 0 requests a second")
    return rate_per_second


@dataclass
class OpenLoopRun:
    """What came of the requests; lists are parallel and in order of completion.

    Attributes:
        latencies_seconds: From the intended start to the answer, waiting for a free sender included.
        delays_seconds: By how much the generator itself was late in handing each request to its senders.
        errors: Texts of failed requests; these count in no list.
        elapsed_seconds: From the start to the last answer.
        client_seconds: Processor time of this process meanwhile.
    """

    latencies_seconds: list[float] = field(default_factory=list)
    delays_seconds: list[float] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    elapsed_seconds: float = 0.0
    client_seconds: float = 0.0

    @property
    def throughput_per_second(self) -> float:
        """Answers a second over the whole run."""
        return len(self.latencies_seconds) / self.elapsed_seconds if self.elapsed_seconds else 0.0


Stop = Callable[[list[float]], bool]


def run_open_loop(
    call: Callable[[], object],
    offsets: Iterable[float],
    should_stop: Stop,
    max_in_flight: int = MAX_IN_FLIGHT,
) -> OpenLoopRun:
    """Make calls at their offsets until `should_stop` says so or the offsets end.

    Args:
        call: One request; called from several threads at once.
        offsets: Seconds from now, not falling.
        should_stop: Given the latencies so far (not to be changed), before each request.
        max_in_flight: Senders; a request beyond that waits, and its wait counts.
    """
    return _OpenLoop(call, max_in_flight).run(offsets, should_stop)


class _OpenLoop:
    def __init__(self, call: Callable[[], object], max_in_flight: int) -> None:
        self._call = call
        self._waiting: queue.SimpleQueue[float | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._run = OpenLoopRun()
        self._threads = [threading.Thread(target=self._send, daemon=True) for _ in range(max_in_flight)]

    def run(self, offsets: Iterable[float], should_stop: Stop) -> OpenLoopRun:
        for thread in self._threads:
            thread.start()
        start, cpu_start = time.perf_counter(), time.process_time()
        is_stopped = True
        unsent: list[float] = []
        try:
            is_stopped = self._dispatch(start, offsets, should_stop)
        finally:
            if is_stopped:
                unsent = self._drain()
            for _ in self._threads:
                self._waiting.put(None)
            for thread in self._threads:
                thread.join()
        end = time.perf_counter()
        # What was never sent has waited at least this long; leaving it out would flatter an overloaded server.
        self._run.latencies_seconds += [end - intended for intended in unsent]
        self._run.elapsed_seconds = end - start
        self._run.client_seconds = time.process_time() - cpu_start
        return self._run

    def _dispatch(self, start: float, offsets: Iterable[float], should_stop: Stop) -> bool:
        """Hand out requests; whether it was told to stop before the offsets ended."""
        for offset in offsets:
            intended = start + offset
            while (left := intended - time.perf_counter()) > 0:
                time.sleep(left)
                with self._lock:
                    if should_stop(self._run.latencies_seconds):
                        return True
            with self._lock:
                if should_stop(self._run.latencies_seconds):
                    return True
                self._run.delays_seconds.append(time.perf_counter() - intended)
            self._waiting.put(intended)
        return False

    def _drain(self) -> list[float]:
        unsent: list[float] = []
        while True:
            try:
                intended = self._waiting.get_nowait()
            except queue.Empty:
                return unsent
            if intended is not None:
                unsent.append(intended)

    def _send(self) -> None:
        while (intended := self._waiting.get()) is not None:
            try:
                self._call()
            except ElasticInferenceError as error:
                with self._lock:
                    self._run.errors.append(f"{type(error).__name__}: {error}")
                continue
            latency = time.perf_counter() - intended
            with self._lock:
                self._run.latencies_seconds.append(latency)
