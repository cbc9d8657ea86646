"""What a host sees of its accelerators now: one snapshot, read once for all who ask."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field

from elastic_inference.host.accounts.records import AcceleratorRecord
from elastic_inference.host.accounts.state import StateStore
from elastic_inference.host.meter import Meter, Reading


@dataclass(frozen=True)
class Snapshot:
    """All accelerators and what each was seen to use, at about the same time.

    Attributes:
        readings: By accelerator id; one that does not answer has its last figures and `is_healthy` False.
    """

    records: tuple[AcceleratorRecord, ...] = ()
    readings: Mapping[str, Reading] = field(default_factory=dict)

    @property
    def num_unhealthy(self) -> int:
        """How many accelerators do not answer."""
        return sum(not reading.is_healthy for reading in self.readings.values())


class Board:
    """The snapshot in force. However many ask at once, accelerators are read once, and all of them at the same time."""

    def __init__(self, store: StateStore, meter: Meter) -> None:
        self._store = store
        self._meter = meter
        self._snapshot = Snapshot()
        self._num_begun = self._num_finished = 0
        self._count = threading.Lock()
        self._turn = threading.Lock()

    @property
    def snapshot(self) -> Snapshot:
        """The last one; never waits."""
        return self._snapshot

    def fresh(self) -> Snapshot:
        """One whose readings began after this call; who asks meanwhile shares the next."""
        with self._count:
            wanted = self._num_begun + 1
        with self._turn:
            if self._num_finished < wanted:
                self._refresh()
            return self._snapshot

    def _refresh(self) -> None:
        with self._count:
            self._num_begun += 1
            number = self._num_begun
        records = self._store.list_all()
        self._snapshot = Snapshot(records, self._meter.read_all(records))
        self._num_finished = number
