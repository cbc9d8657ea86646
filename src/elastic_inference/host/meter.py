"""Reads what accelerators use and adds it up in the state store; knows no price and shows nothing."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from elastic_inference.errors import ElasticInferenceError
from elastic_inference.host.accounts.records import AcceleratorRecord
from elastic_inference.host.accounts.usage import Sample
from elastic_inference.host.processes.context import HostContext

_TIMEOUT_SECONDS = 1.0


@dataclass(frozen=True)
class Reading:
    """What one accelerator was seen to use.

    Attributes:
        is_healthy: Whether its process answered.
        sample: Counters of its process and group.
        utilisation_share: Device seconds used of those that its share gives, since the reading before; above
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


class Meter:
    """Reads accelerators one after another and remembers the last reading of each."""

    def __init__(self, context: HostContext, wall_clock: Callable[[], float] = time.time) -> None:
        self._context = context
        self._wall_clock = wall_clock
        self._last: dict[str, Reading] = {}
        self._lock = threading.Lock()  # a reading and its addition belong together

    def last(self, accelerator_id: str) -> Reading | None:
        """The last reading, None before the first."""
        return self._last.get(accelerator_id)

    def forget(self, accelerator_id: str) -> None:
        """Drop the last reading."""
        self._last.pop(accelerator_id, None)

    def read(self, record: AcceleratorRecord) -> Reading:
        """Read one accelerator and add what is new to its hour."""
        with self._lock:
            return self._read(self._context.store.get(record.accelerator_id) or record)

    def _read(self, record: AcceleratorRecord) -> Reading:
        reading = self._look(record)
        added = reading.sample.since(record.sample)
        if self._context.store.change(record.accelerator_id, sample=reading.sample) is not None:
            self._context.store.add_usage(
                record.accelerator_id,
                int(reading.read_at // 3600),
                added.inferences,
                added.device_seconds,
                added.throttled_seconds,
            )
            self._last[record.accelerator_id] = reading
        return reading

    def _look(self, record: AcceleratorRecord) -> Reading:
        read_at = self._wall_clock()
        sample, memory_bytes, limit_bytes, num_oom_kills = record.sample, 0, record.kind.memory_bytes, 0
        inferences, held_back = sample.inferences, 0.0
        statistics = self._ask(record)
        if statistics is not None:
            inferences = int(statistics["queue"]["num_served"])
            held_back = float(statistics["queue"]["throttled_seconds"])
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
            sample=Sample(inferences, device_seconds, throttled_seconds),
            memory_bytes=memory_bytes,
            memory_limit_bytes=limit_bytes,
            utilisation_share=self._utilisation(record, device_seconds, read_at),
            num_oom_kills=num_oom_kills,
            read_at=read_at,
            statistics=statistics or {},
        )

    def _ask(self, record: AcceleratorRecord) -> dict[str, Any] | None:
        try:
            value = self._context.control(record, "GET", "/v2/accelerator", timeout_seconds=_TIMEOUT_SECONDS)
        except ElasticInferenceError:
            return None
        return dict(value)

    def _utilisation(self, record: AcceleratorRecord, device_seconds: float, read_at: float) -> float | None:
        last = self._last.get(record.accelerator_id)
        if last is None or read_at <= last.read_at or device_seconds < last.sample.device_seconds:
            return None
        used = device_seconds - last.sample.device_seconds
        return used / (read_at - last.read_at) / record.share
