"""The accelerators that are on no host: in what order they are placed again, and that each is placed once."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Executor

from elastic_inference.host.accounts.records import AcceleratorRecord, State
from elastic_inference.pool.failover import order_of_return
from elastic_inference.pool.model import Request
from elastic_inference.pool.store import PoolStore


class Homeless:
    """Which they are. Any thread may note one; one thread begins.

    Args:
        workers: Place them, several at once.
        place: Places one, or fails: then it is tried again.

    Attributes:
        noting: Held while all that one host had is noted, so that all of it is there before the first is placed.
    """

    def __init__(
        self,
        store: PoolStore,
        request_of: Callable[[str], Request],
        workers: Executor,
        place: Callable[[AcceleratorRecord, Request], None],
    ) -> None:
        self.noting = threading.Lock()
        self._store = store
        self._request_of = request_of
        self._workers = workers
        self._place = place
        self._ids: set[str] = set()
        self._under_way: set[str] = set()

    def note(self, accelerator_id: str) -> None:
        """Note of an accelerator that it is nowhere."""
        self._ids.add(accelerator_id)

    def begin(self) -> None:
        """Begin to place those for which that is not under way, in the order that `order_of_return` gives.

        It waits for none of them: one that starts slowly must not hold up those that lose their host meanwhile.
        """
        with self.noting:
            lost = {key: record for key in self._ids - self._under_way if (record := self._lost(key))}
        requests = {key: self._request_of(key) for key in lost}
        for key in order_of_return(requests, {key: record.share for key, record in lost.items()}):
            self._under_way.add(key)
            self._workers.submit(self._place_one, lost[key], requests[key])

    def _lost(self, key: str) -> AcceleratorRecord | None:
        record = self._store.get(key)
        if record is not None and record.state is State.RESTARTING:
            return record
        self._ids.discard(key)  # detached, or back
        return None

    def _place_one(self, record: AcceleratorRecord, request: Request) -> None:
        try:
            self._place(record, request)
        finally:
            self._under_way.discard(record.accelerator_id)
