"""Adds up what accelerators did, over all hosts that they were on: each host counts for itself, and this the sum."""

from __future__ import annotations

import logging
import threading
import time

from elastic_inference.host.accounts.usage import Sample
from elastic_inference.pool.store import PoolStore

logger = logging.getLogger(__name__)

NOTHING = Sample()


class UsageCount:
    """Counts once what hosts say more than once. Any thread may call.

    A host says all that an accelerator did there. What was counted of that is the record's `sample`, which begins anew
    with each place.
    """

    def __init__(self, store: PoolStore) -> None:
        self._store = store
        self._lock = threading.Lock()

    def count(self, accelerator_id: str, total: Sample) -> None:
        """Count what is new of a total of the host that has it now."""
        with self._lock:
            current = self._store.get(accelerator_id)
            if current is not None and total != current.sample:
                self._store.change(accelerator_id, sample=total)
                self._add(accelerator_id, total.since(current.sample))

    def count_last(self, accelerator_id: str, base: Sample, total: Sample) -> None:
        """Count the last total of a host that it has left; `base`: what was counted of it."""
        with self._lock:
            self._add(accelerator_id, total.since(base))

    def _add(self, accelerator_id: str, added: Sample) -> None:
        self._store.add_usage(accelerator_id, int(time.time() // 3600), added)
