"""What a host sees of its accelerators: one snapshot, read once for all who ask, with an hour behind it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from elastic_inference.host.accounts.capacity import Capacity
from elastic_inference.host.accounts.records import AcceleratorRecord, State
from elastic_inference.host.accounts.state import StateStore
from elastic_inference.host.accounts.usage import UsageRow, summarize
from elastic_inference.host.events import EventLog, Seen, compare
from elastic_inference.host.history import History
from elastic_inference.host.meter import Reading, Readings
from elastic_inference.host.rates import Rates
from elastic_inference.host.rows import accelerator_row, device_rows

logger = logging.getLogger(__name__)

Rows = Sequence[Mapping[str, Any]]
_COST_SECONDS = 10.0  # between two sums over the database


@dataclass(frozen=True)
class Snapshot:
    """All accelerators and what each was seen to use, at about the same time.

    Attributes:
        at: Seconds since 1970, UTC.
        readings: By accelerator id; one that does not answer has its last figures and `is_healthy` False.
        rows: What is shown of each, in the order of attaching; see `rows`.
        devices: What is granted and used of each.
        tenants: What each has and has spent; see `TenantCare.rows`.
        waiting: Who waits for capacity, the next in front.
        cost_usd: Of all that are attached, since they were; those without a price left out.
        num_unpriced: How many of them were left out.
    """

    at: float = 0.0
    records: tuple[AcceleratorRecord, ...] = ()
    readings: Mapping[str, Reading] = field(default_factory=dict)
    rows: tuple[Mapping[str, Any], ...] = ()
    devices: tuple[Mapping[str, Any], ...] = ()
    tenants: tuple[Mapping[str, Any], ...] = ()
    waiting: tuple[Mapping[str, Any], ...] = ()
    cost_usd: Decimal = Decimal(0)
    num_unpriced: int = 0

    @property
    def num_unhealthy(self) -> int:
        """How many accelerators do not answer."""
        return sum(not reading.is_healthy for reading in self.readings.values())

    def seen(self) -> dict[str, Seen]:
        """Return each accelerator as it was seen, by id in the order of attaching."""
        return {r.accelerator_id: Seen(r, self.readings.get(r.accelerator_id)) for r in self.records}


class Board:
    """The snapshot in force. However many ask at once, accelerators are read once, and all of them at the same time.

    Args:
        capacity: Gives what is held of the devices, now.
        sharing: By what means each device is shared.
        lease_left: Gives the seconds until an accelerator's lease ends.
        now: Seconds since 1970, UTC.
        tenants: Gives a row of each tenant, and of each that waits for capacity.
    """

    def __init__(
        self,
        store: StateStore,
        meter: Readings,
        capacity: Callable[[], Capacity],
        sharing: Mapping[str, str],
        lease_left: Callable[[str], float | None],
        now: Callable[[], float],
        tenants: Callable[[], tuple[Rows, Rows]] = lambda: ((), ()),
    ) -> None:
        self.events = EventLog()
        self.history = History()
        self._store = store
        self._meter = meter
        self._capacity = capacity
        self._sharing = dict(sharing)
        self._lease_left = lease_left
        self._now = now
        self._tenants = tenants
        self._rates = Rates()
        self._costs: Mapping[str, UsageRow] = {}
        self._costs_at = 0.0
        self._snapshot = Snapshot()
        self._listeners: list[Callable[[Snapshot], None]] = []
        self._num_begun = self._num_finished = 0
        self._must_write = False
        self._count = threading.Lock()
        self._turn = threading.Lock()

    @property
    def snapshot(self) -> Snapshot:
        """The last one; never waits."""
        return self._snapshot

    def listen(self, listener: Callable[[Snapshot], None]) -> None:
        """Let each new snapshot be told, in the thread that made it; who listens must not wait."""
        self._listeners.append(listener)

    def begin(self, records: tuple[AcceleratorRecord, ...]) -> None:
        """Take what the host finds at its start as known: it is not news."""
        self._snapshot = Snapshot(self._now(), records)

    def fresh(self, must_write: bool = False) -> Snapshot:
        """One whose readings began after this call; who asks meanwhile shares the next.

        Args:
            must_write: Whether what is new of the counters is in the database then, and not some seconds later.
        """
        with self._count:
            wanted = self._num_begun + 1
            self._must_write |= must_write
        with self._turn:
            if self._num_finished < wanted:
                self._refresh()
            return self._snapshot

    def _refresh(self) -> None:
        with self._count:
            self._num_begun += 1
            number = self._num_begun
            must_write, self._must_write = self._must_write, False
        records = self._store.list_all()
        readings = self._meter.read_all(records, must_write)
        before, self._snapshot = self._snapshot, self._make(records, readings)
        self._num_finished = number
        self._note(before, self._snapshot)
        for listener in self._listeners:
            try:
                listener(self._snapshot)
            except Exception:  # whoever shows it must not stop those who read it
                logger.exception("a snapshot was not taken")

    def _make(self, records: tuple[AcceleratorRecord, ...], readings: Mapping[str, Reading]) -> Snapshot:
        now = self._now()
        self._sum_costs(records, now)
        rates = self._rates.of({key: (reading.read_at, reading.sample) for key, reading in readings.items()})
        rows = tuple(
            accelerator_row(
                record,
                readings[record.accelerator_id],
                rates[record.accelerator_id],
                self._lease_left(record.accelerator_id),
                self._costs.get(record.accelerator_id),
            )
            for record in records
        )
        tenants, waiting = self._tenants()
        mine = [self._costs[r.accelerator_id] for r in records if r.accelerator_id in self._costs]
        return Snapshot(
            at=now,
            records=records,
            readings=readings,
            rows=rows,
            devices=tuple(device_rows(self._capacity(), self._sharing, rows)),
            tenants=tuple(tenants),
            waiting=tuple(waiting),
            cost_usd=sum((row.cost_usd for row in mine if row.cost_usd is not None), Decimal(0)),
            num_unpriced=sum(row.cost_usd is None for row in mine),
        )

    def _sum_costs(self, records: tuple[AcceleratorRecord, ...], now: float) -> None:
        """Sum up what is attached; not each second, for that reads the database."""
        ids = [record.accelerator_id for record in records]
        is_known = self._costs.keys() >= set(ids)
        if is_known and 0 <= now - self._costs_at < _COST_SECONDS:
            return
        found = summarize(self._store.list_intervals(0.0, ids), self._store.list_usage(0.0, ids), 0.0, now)
        self._costs = {row.accelerator_id: row for row in found}
        self._costs_at = now

    def _note(self, before: Snapshot, after: Snapshot) -> None:
        for found in compare(before.seen(), after.seen()):
            record = found.record
            self.events.add(
                after.at, found.kind, found.text, record.accelerator_id, record.name, record.tenant
            )
        if self.history.is_due(after.at):
            self.history.note(after.at, {row["accelerator_id"]: _point(row) for row in after.rows})


def _point(row: Mapping[str, Any]) -> tuple[float | None, ...]:
    p99 = row["p99"]
    return (
        row["requests_per_second"],
        None if p99 is None else p99["total_ms"] / 1000,
        row["utilisation_share"],
        float(row["memory_bytes"]),
        float(row["num_waiting"]),
    )


def num_by_state(records: tuple[AcceleratorRecord, ...]) -> dict[str, int]:
    """Count accelerators by state; states without any are left out."""
    counts = {state.value: sum(record.state is state for record in records) for state in State}
    return {state: count for state, count in counts.items() if count}
