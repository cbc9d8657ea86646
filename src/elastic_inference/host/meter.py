"""Reads what accelerators use and adds it up in the state store; knows no price and shows nothing."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from typing import Any, Protocol

from elastic_inference.errors import ElasticInferenceError
from elastic_inference.host.accounts.records import AcceleratorRecord, State
from elastic_inference.host.accounts.usage import Sample
from elastic_inference.host.processes.context import HostContext

logger = logging.getLogger(__name__)

PATIENCE_SECONDS = 2.5
_TIMEOUT_SECONDS = 2.0
# Between two additions where nobody asks; who asks sees what is now. A host that dies loses nothing, for processes
# count on; a machine that stops loses so much, and an accelerator that dies while its host is away. Each addition is a
# transaction, the dearest part of the readings.
_WRITE_SECONDS = 15.0
_UTILISATION_SECONDS = 5.0
_MAX_MODELS = 200  # of one accelerator that are told apart
_MAX_NAME_LENGTH = 255
_OTHERS = "(others)"
_MAX_READINGS = 256  # threads; there are never more than two readings of one accelerator


@dataclass(frozen=True)
class Reading:
    """What one accelerator was seen to use.

    Attributes:
        is_healthy: Whether its process answered.
        sample: Counters of its process and group.
        utilisation_share: Device seconds used of those that its share gives, over the last seconds; above
            1 where it bursts; None for the first.
        num_oom_kills: Since its group was made.
        statistics: As `GET /v2/accelerator` of its process answers; {} where it did not.
    """

    is_healthy: bool
    sample: Sample
    memory_bytes: int
    memory_limit_bytes: int
    utilisation_share: float | None
    num_oom_kills: int
    read_at: float
    statistics: Mapping[str, object]


class Readings(Protocol):
    """Who knows what accelerators use."""

    def last(self, accelerator_id: str) -> Reading | None:
        """Return the last reading, None before the first."""

    def read(self, record: AcceleratorRecord) -> Reading:
        """Read one accelerator now; its last figures where it does not answer in time."""

    def read_all(
        self, records: Iterable[AcceleratorRecord], must_write: bool = True
    ) -> Mapping[str, Reading]:
        """Read all of them at the same time; `must_write`: whether counters are in the database then."""


class Meter:
    """Reads accelerators, all at the same time, and remembers the last reading of each.

    One that hangs holds up its own reading alone: nobody waits for it longer than `PATIENCE_SECONDS`, and who asks for
    all does not wait for those that did not answer the last time.
    """

    def __init__(self, context: HostContext, now: Callable[[], float]) -> None:
        self._context = context
        self._now = now
        self._last: dict[str, Reading] = {}
        self._bases: dict[str, tuple[float, float]] = {}  # of the utilisation: when, and device seconds then
        self._written_at: dict[str, float] = {}
        self._begin: dict[str, Future[Reading]] = {}  # those that wait for the reading before them to end
        self._must_write: set[str] = set()
        self._turns: dict[str, threading.Lock] = {}  # a reading and its addition belong together
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(_MAX_READINGS, "meter")

    def last(self, accelerator_id: str) -> Reading | None:
        """Return the last reading, None before the first."""
        return self._last.get(accelerator_id)

    def forget(self, accelerator_id: str) -> None:
        """Drop what is remembered of an accelerator."""
        with self._lock:
            for kept in (self._last, self._bases, self._written_at, self._turns):
                kept.pop(accelerator_id, None)
            self._must_write.discard(accelerator_id)

    def close(self) -> None:
        """Begin no more readings; twice is fine."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def read(self, record: AcceleratorRecord) -> Reading:
        """Read one accelerator and add what is new to its hour; its last figures where it does not answer in time."""
        future = self._start(record, must_write=True)
        wait([future], PATIENCE_SECONDS)
        return future.result() if future.done() else self._silent(record)

    def read_all(self, records: Iterable[AcceleratorRecord], must_write: bool = True) -> dict[str, Reading]:
        """Read all of them at the same time.

        Args:
            must_write: Whether counters are added now, or only where that is due.
        """
        started = [(record, self._start(record, must_write)) for record in records]
        wait([future for record, future in started if self._is_expected(record)], PATIENCE_SECONDS)
        return {
            record.accelerator_id: future.result() if future.done() else self._silent(record)
            for record, future in started
        }

    def _is_expected(self, record: AcceleratorRecord) -> bool:
        last = self._last.get(record.accelerator_id)
        return last is None or last.is_healthy

    def _silent(self, record: AcceleratorRecord) -> Reading:
        last = self._last.get(record.accelerator_id)
        if last is not None:
            return replace(last, is_healthy=False)
        return Reading(False, record.sample, 0, record.kind.memory_bytes, None, 0, self._now(), {})

    def _start(self, record: AcceleratorRecord, must_write: bool) -> Future[Reading]:
        """Begin a reading, or join one that has not begun."""
        accelerator_id = record.accelerator_id
        with self._lock:
            if must_write:
                self._must_write.add(accelerator_id)
            future = self._begin.get(accelerator_id)
            if future is None:
                future = self._begin[accelerator_id] = self._pool.submit(self._run, record)
            return future

    def _run(self, record: AcceleratorRecord) -> Reading:
        accelerator_id = record.accelerator_id
        with self._lock:
            turn = self._turns.setdefault(accelerator_id, threading.Lock())
        with turn:
            with self._lock:
                self._begin.pop(accelerator_id, None)
                must_write = accelerator_id in self._must_write
                self._must_write.discard(accelerator_id)
            return self._read(record, must_write)

    def _read(self, record: AcceleratorRecord, must_write: bool) -> Reading:
        accelerator_id = record.accelerator_id
        before = self._last.get(accelerator_id)
        reading = self._look(record, record.sample if before is None else before.sample)
        # One that does not serve yet is not silent: nobody must wait any less for its first answer.
        if reading.is_healthy or record.state is not State.STARTING:
            self._last[accelerator_id] = reading
        is_new_process = before is not None and reading.sample.began_after(before.sample)
        is_due = reading.read_at - self._written_at.get(accelerator_id, 0.0) >= _WRITE_SECONDS
        if must_write or is_due or is_new_process:
            try:
                if before is not None and is_new_process:  # what its last process did up to the last look
                    self._write(record, before)
                self._write(record, reading)
            except (
                Exception
            ):  # such as a database that is away: what is not written now is new the next time too
                logger.exception("usage is not written", extra={"accelerator_id": accelerator_id})
            else:
                self._written_at[accelerator_id] = reading.read_at
        return reading

    def _write(self, record: AcceleratorRecord, reading: Reading) -> None:
        hour = int(reading.read_at // 3600)
        if not self._context.store.add_sample(record.accelerator_id, hour, reading.sample):
            self.forget(record.accelerator_id)

    def _look(self, record: AcceleratorRecord, sample: Sample) -> Reading:
        """Read what its process and its group say; `sample` stands for what does not answer."""
        read_at = self._now()
        memory_bytes, limit_bytes, num_oom_kills = 0, record.kind.memory_bytes, 0
        inferences, held_back, models = sample.inferences, 0.0, sample.models
        statistics = self._ask(record)
        if statistics is not None:
            inferences = int(statistics["queue"]["num_served"])
            held_back = float(statistics["queue"]["throttled_seconds"])
            models = _models(statistics["models"])
        try:
            usage = self._context.limits.usage(record.accelerator_id)
        except ElasticInferenceError:
            device_seconds, throttled_seconds = sample.device_seconds, sample.throttled_seconds
        else:
            # One device second is one second of all cores of the device.
            device_seconds = usage.cpu_seconds / self._context.num_cores[record.device]
            throttled_seconds = usage.throttled_seconds + held_back
            memory_bytes, limit_bytes = usage.memory_bytes, usage.memory_limit_bytes
            num_oom_kills = usage.num_oom_kills
        return Reading(
            is_healthy=statistics is not None,
            sample=Sample(inferences, device_seconds, throttled_seconds, models),
            memory_bytes=memory_bytes,
            memory_limit_bytes=limit_bytes,
            utilisation_share=self._utilisation(record, device_seconds, read_at),
            num_oom_kills=num_oom_kills,
            read_at=read_at,
            statistics=statistics or {},
        )

    def _ask(self, record: AcceleratorRecord) -> dict[str, Any] | None:
        try:
            return self._context.look(record, _TIMEOUT_SECONDS)
        except ElasticInferenceError:
            return None

    def _utilisation(self, record: AcceleratorRecord, device_seconds: float, read_at: float) -> float | None:
        """Over some seconds: between two questions that come close together there is little to see."""
        base_at, base_seconds = self._bases.get(record.accelerator_id, (read_at, device_seconds))
        is_anew = device_seconds < base_seconds or read_at < base_at  # another process, or another clock
        if is_anew or read_at - base_at >= _UTILISATION_SECONDS or record.accelerator_id not in self._bases:
            self._bases[record.accelerator_id] = (read_at, device_seconds)
        if is_anew or read_at <= base_at:
            last = self._last.get(record.accelerator_id)
            return None if is_anew or last is None else last.utilisation_share
        return (device_seconds - base_seconds) / (read_at - base_at) / record.share


def _models(rows: list[dict[str, Any]]) -> dict[str, tuple[int, float]]:
    """Return inferences and service seconds by model; what goes beyond `_MAX_MODELS` is told together."""
    found: dict[str, tuple[int, float]] = {}
    for row in rows:
        name = str(row["name"])[:_MAX_NAME_LENGTH]
        name = name if name in found or len(found) < _MAX_MODELS else _OTHERS
        count, seconds = found.get(name, (0, 0.0))
        found[name] = (
            count + int(row["num_by_outcome"].get("success", 0)),
            seconds + float(row["service_seconds"]),
        )
    return found
