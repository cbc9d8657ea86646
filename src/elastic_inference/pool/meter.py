"""What the accelerators of a pool use: asked of their hosts, all at once, and added up in the pool's database."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

from elastic_inference.errors import ElasticInferenceError
from elastic_inference.host.accounts.records import AcceleratorRecord
from elastic_inference.host.accounts.usage import Sample
from elastic_inference.host.meter import Reading
from elastic_inference.pool.books import Books
from elastic_inference.pool.keeper import PlacementKeeper
from elastic_inference.pool.model import HostState
from elastic_inference.pool.store import HostRow
from elastic_inference.pool.usage import NOTHING

logger = logging.getLogger(__name__)

_MAX_AT_ONCE = 16
_WRITE_SECONDS = 5.0  # between two additions where nobody asks


class PoolMeter:
    """Remembers the last reading of each accelerator; see `host.meter.Readings`.

    Args:
        now: Seconds since 1970, UTC.
    """

    def __init__(self, keeper: PlacementKeeper, books: Books, now: Callable[[], float]) -> None:
        self._keeper = keeper
        self._books = books
        self._now = now
        self._last: dict[str, Reading] = {}
        self._written_at = 0.0
        self._lock = threading.Lock()

    def last(self, accelerator_id: str) -> Reading | None:
        """Return the last reading, None before the first."""
        return self._last.get(accelerator_id)

    def forget(self, accelerator_id: str) -> None:
        """Drop what is remembered of an accelerator."""
        self._last.pop(accelerator_id, None)

    def read(self, record: AcceleratorRecord) -> Reading:
        """Read one accelerator now; its last figures where its host does not answer."""
        return self.read_all((record,))[record.accelerator_id]

    def read_all(
        self, records: Iterable[AcceleratorRecord], must_write: bool = True
    ) -> Mapping[str, Reading]:
        """Ask all hosts; one that does not answer has the last figures, and its accelerators are not healthy."""
        with self._lock:
            on_hosts = self._ask_all(must_write)
            self._keeper.end_unknown((row, told) for row, told in on_hosts)
            found = {(row.host_id, key): value for row, told in on_hosts for key, value in told.items()}
            now = self._now()
            is_due = must_write or now - self._written_at >= _WRITE_SECONDS
            readings = {}
            for record in records:
                key = record.accelerator_id
                place = self._books.place_of(key)
                told = None if place is None else found.get((place.host_id, key))
                self._last[key] = readings[key] = self._reading(record, told)
                if is_due and told is not None:
                    self._count(key, told)
            if is_due:
                self._written_at = now
            return readings

    def _ask_all(self, must_write: bool) -> list[tuple[HostRow, dict[str, Any]]]:
        """Ask all hosts what their accelerators use, at the same time; those that do not answer are left out."""

        def ask(row: HostRow) -> tuple[HostRow, dict[str, Any]] | None:
            try:
                return row, self._keeper.link(row).readings(must_write)
            except ElasticInferenceError:
                return None

        rows = [row for row in self._books.hosts() if row.state is not HostState.LOST]
        with ThreadPoolExecutor(max(1, min(len(rows), _MAX_AT_ONCE)), "look") as pool:
            return [found for found in pool.map(ask, rows) if found is not None]

    def _reading(self, record: AcceleratorRecord, told: Mapping[str, Any] | None) -> Reading:
        if told is not None and told["reading"] is not None:
            reading = told["reading"]
            return Reading(**{**reading, "sample": Sample.from_json(reading["sample"])})
        last = self._last.get(record.accelerator_id)
        if last is not None:
            return replace(last, is_healthy=False)
        return Reading(False, NOTHING, 0, record.kind.memory_bytes, None, 0, self._now(), {})

    def _count(self, accelerator_id: str, told: Mapping[str, Any]) -> None:
        try:
            self._keeper.counts.count(accelerator_id, Sample.from_json(told["total"]))
        except Exception:  # such as a database that is away: what is not counted now is new the next time
            logger.exception("usage is not written", extra={"accelerator_id": accelerator_id})
