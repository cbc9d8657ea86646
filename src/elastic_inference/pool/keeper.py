"""Sees to it that each accelerator of a pool is on a host: places it, brings it back, moves it, ends it.

What it changes it writes down at once, so that a successor goes on wherever this one ended.
"""

from __future__ import annotations

import logging
import ssl
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

from elastic_inference.errors import (
    AcceleratorNotFound,
    CapacityExceeded,
    ConnectionLost,
    DeadlineExceeded,
    ElasticInferenceError,
    Fenced,
    InvalidInput,
    StartFailed,
    TransportError,
)
from elastic_inference.host import events
from elastic_inference.host.accounts.capacity import Allocation
from elastic_inference.host.accounts.records import AcceleratorRecord, State
from elastic_inference.host.accounts.usage import Sample
from elastic_inference.host.tokens import hash_token, make_token
from elastic_inference.pool.books import Books, Place, device_name
from elastic_inference.pool.handover import endpoint_between_hosts
from elastic_inference.pool.homeless import Homeless
from elastic_inference.pool.link import HostLink, TenantPart
from elastic_inference.pool.model import HostState, Request
from elastic_inference.pool.store import HostRow, PlacementRow, PoolStore
from elastic_inference.pool.usage import NOTHING, UsageCount

logger = logging.getLogger(__name__)

_MAX_AT_ONCE = 16
_END_PAUSE_SECONDS = 0.1
_NO_ROOM = Allocation("", 0.0, 0)

Tell = Callable[[events.Kind, str, AcceleratorRecord | None], None]
Take = Callable[[str, Request, Iterable[str]], Place]


class PlacementKeeper:
    """Puts accelerators on hosts. Any thread may call; one accelerator is one caller's at a time.

    Args:
        part_of: Gives what a host is told of a tenant.
        tell: Writes an event.
        drain_seconds: How long calls in flight may take to finish where an accelerator moves.
    """

    def __init__(
        self,
        store: PoolStore,
        books: Books,
        part_of: Callable[[str, str], TenantPart],
        tls: ssl.SSLContext | None,
        tell: Tell,
        drain_seconds: float,
    ) -> None:
        self._store = store
        self._part_of = part_of
        self._books = books
        self._tls = tls
        self._tell = tell
        self.counts = UsageCount(store)
        self._drain_seconds = drain_seconds
        self._stop = threading.Event()
        self._pool = ThreadPoolExecutor(_MAX_AT_ONCE, "place")
        self._busy: dict[str, threading.Lock] = {}
        self._lock = threading.Lock()
        self._homeless = Homeless(store, self.request_of, self._pool, self._bring_back)
        self._suspects: set[tuple[str, int, str]] = set()

    def close(self) -> None:
        """Begin nothing more; twice is fine."""
        self._stop.set()
        self._pool.shutdown(wait=False, cancel_futures=True)

    def link(self, host: HostRow) -> HostLink:
        """Return the way to ask a host."""
        return HostLink(host, self._store.epoch, self._tls)

    def turn(self, accelerator_id: str) -> threading.Lock:
        """Return the lock by which one caller at a time changes an accelerator."""
        with self._lock:
            return self._busy.setdefault(accelerator_id, threading.Lock())

    def forget(self, accelerator_id: str) -> None:
        """Drop the lock of an accelerator that is gone."""
        with self._lock:
            self._busy.pop(accelerator_id, None)

    # One accelerator

    def put(
        self, record: AcceleratorRecord, request: Request, number: int, take: Take | None = None
    ) -> AcceleratorRecord:
        """Put an accelerator on a host, on that where it holds room already first, and write down where it is.

        Args:
            take: Holds room for it on none of these hosts; None: any that is left, whoever waits for that.

        Raises:
            CapacityExceeded: It fits on none.
            StartFailed: None of those where it fits started it.
        """
        key, take = record.accelerator_id, take or self._books.take
        tried: dict[str, ElasticInferenceError] = {}
        while True:
            try:
                place = self._books.place_of(key) or take(key, request, tried)
            except (CapacityExceeded, InvalidInput) as error:
                if tried:
                    raise next(iter(tried.values())) from error
                raise
            try:
                return self._settle(key, place, record, number)
            except (TransportError, StartFailed, CapacityExceeded, Fenced, DeadlineExceeded) as error:
                if isinstance(error, Fenced) and self._books.serves(place):
                    raise  # it is this service that was given up
                logger.warning("not placed", extra={"host_id": place.host_id, "why": str(error)})
                self._end_doubtful(key, place)
                tried[place.host_id] = error
            except BaseException:
                self._end_doubtful(key, place)
                raise

    def _settle(
        self,
        accelerator_id: str,
        place: Place,
        record: AcceleratorRecord,
        number: int,
        old: Place | None = None,
    ) -> AcceleratorRecord:
        """Let a place's host start the accelerator, and write down that it is there.

        Args:
            old: Where it still is; its models are brought from there first, under a token that clients do not have.
        """
        token = make_token()
        link = self.link(self._books.host(place.host_id))
        # One that is named by its id has no name: nobody may give such a one.
        name = None if record.name == accelerator_id[: len(record.name)] else record.name
        given = record.token_sha256 if old is None else hash_token(token)
        part = self._part_of(record.tenant, place.host_id) if record.tenant else None
        told = link.place(accelerator_id, given, place.request.type_name, name, part)
        if part is not None and part != (now := self._part_of(record.tenant, place.host_id)):
            link.put_tenant(now)  # it was changed while the accelerator started
        if old is not None:
            self._hand_over(accelerator_id, old, told["endpoints"], token)
            link.put_token(accelerator_id, record.token_sha256)
        if not self._books.serves(place):
            raise ConnectionLost(f"host {place.host_id} was lost while it started the accelerator")
        changed = replace(
            record,
            kind=self._books.kind_of(place),
            device=device_name(place.host_id, place.allocation.device),
            share=place.allocation.share,
            state=State.READY,
            endpoints=tuple(told["endpoints"]),
            sample=NOTHING,
        )
        self._write(changed, place, number, dict(told["limits"]))
        return changed

    def _hand_over(self, accelerator_id: str, old: Place, endpoints: list[str], token: str) -> None:
        """Bring its models to its new place; where that fails, its clients load them there, as after a failover."""
        try:
            link = self.link(self._books.host(old.host_id))
            told = link.hand_over(accelerator_id, endpoint_between_hosts(endpoints), token)
        except ElasticInferenceError as error:
            told = {"all": str(error)}
        failed = {name: why for name, why in told.items() if why}
        if failed:
            extra = {"accelerator_id": accelerator_id, "why": failed}
            logger.warning("moves without some models, which its clients load", extra=extra)

    def _write(
        self, record: AcceleratorRecord, place: Place | None, number: int, limits: dict[str, str]
    ) -> None:
        accelerator_id = record.accelerator_id
        host_id, epoch = (None, 0) if place is None else (place.host_id, place.host_epoch)
        request = place.request if place is not None else self.request_of(accelerator_id)
        self._store.put_placement(PlacementRow(accelerator_id, host_id, epoch, number, request, limits))
        self._store.change(
            accelerator_id,
            sample=record.sample,
            kind=record.kind,
            device=record.device,
            share=record.share,
            state=record.state,
            endpoints=record.endpoints,
            num_restarts=record.num_restarts,
            last_exit=record.last_exit,
        )

    def note_resized(
        self, record: AcceleratorRecord, place: Place, type_name: str, told: dict[str, Any]
    ) -> AcceleratorRecord:
        """Write down that an accelerator has another type where it is."""
        request = replace(place.request, type_name=type_name)
        kind = self._books.host(place.host_id).offer.catalogue[type_name]
        if told["device_memory_bytes"] is not None:  # on a GPU its place decides these
            kind = replace(
                kind,
                device_kind="cuda",
                cpu_share=float(told["cpu_share"]),
                device_memory_bytes=int(told["device_memory_bytes"]),
            )
        allocation = Allocation.of(kind, place.allocation.device, float(told["share"]), request.tenant)
        now = Place(place.host_id, place.host_epoch, allocation, request)
        changed = replace(record, kind=kind, share=allocation.share, endpoints=tuple(told["endpoints"]))
        self._books.put(record.accelerator_id, now)
        number = self.row_of(record.accelerator_id).number
        self._write(changed, now, number, dict(told["limits"]))
        return changed

    def request_of(self, accelerator_id: str) -> Request:
        """Return what was asked for; raises AcceleratorNotFound."""
        return self.row_of(accelerator_id).request

    def row_of(self, accelerator_id: str) -> PlacementRow:
        """Return where an accelerator is, as written down; raises AcceleratorNotFound."""
        row = self._store.placement(accelerator_id)
        if row is None:
            raise AcceleratorNotFound(f"no accelerator {accelerator_id:.60} is attached in this pool")
        return row

    def end(self, accelerator_id: str, place: Place, drain_seconds: float | None) -> Sample | None:
        """End an accelerator on a host; where that does not answer, when its lease has ended it at the latest.

        Returns:
            All that it did there; None where nobody can say.

        Raises:
            ElasticInferenceError: The host answers, and does not end it.
        """
        while self._books.serves(place) and not self._stop.is_set():
            try:
                return self.link(self._books.host(place.host_id)).end(accelerator_id, drain_seconds)
            except Fenced:
                if self._books.serves(place):
                    raise
            except (TransportError, DeadlineExceeded) as error:
                logger.warning("host does not answer", extra={"host_id": place.host_id, "why": str(error)})
                self._stop.wait(_END_PAUSE_SECONDS)
        return None

    def _end_doubtful(self, key: str, place: Place) -> None:
        """See to it, in the background, that nothing is left of what a host may have started after all."""
        accelerator_id = key.partition("@")[0]
        waiting = f"{accelerator_id}@{place.host_id}"
        self._books.put(waiting, place)  # its room is not free before it has ended
        self._books.free(key)
        self._pool.submit(self._end_quietly, accelerator_id, place, waiting)

    def _end_quietly(self, accelerator_id: str, place: Place, waiting: str | None = None) -> None:
        now = self._books.place_of(accelerator_id)
        if waiting is None and now is not None and now.host_id == place.host_id:
            return  # it has come there since
        try:
            self.end(accelerator_id, place, 0.0)
        except ElasticInferenceError as error:
            logger.error("may be left over", extra={"host_id": place.host_id, "why": str(error)})
        finally:
            if waiting is not None:
                self._books.free(waiting)

    # Failover

    def give_up(self, host: HostRow) -> None:
        """Take from a lost host all that it held; `bring_back` places it elsewhere."""
        self._store.put_host(host)
        num = len(self._books.on_host(host.host_id))
        self._tell(
            events.Kind.HOST, f"host {host.host_id} ({host.url}) is lost, with {num} accelerators", None
        )
        self.sweep()

    def sweep(self) -> None:
        """Note of each accelerator whose host was given up that it is nowhere."""
        with self._homeless.noting:
            for record in self._store.list_all():
                key = record.accelerator_id
                place = self._books.place_of(key)
                if record.state is not State.READY or (place is not None and self._books.serves(place)):
                    continue
                lock = self.turn(key)
                # Where it is another's turn, whoever changes it sees to that, or the next sweep does.
                if lock.acquire(blocking=False):
                    try:
                        self._unplace(key, "its host was lost")
                    finally:
                        lock.release()

    def end_unknown(self, on_hosts: Iterable[tuple[HostRow, Iterable[str]]]) -> None:
        """End what hosts have and nobody knows: of a pool service that died between asking and writing it down.

        What hosts say is a second old, so only what was unknown the last time too.
        """
        unknown = set()
        for row, ids in on_hosts:
            known = {key.partition("@")[0] for key in self._books.on_host(row.host_id)}
            unknown |= {(row.host_id, row.epoch, accelerator_id) for accelerator_id in set(ids) - known}
        again, self._suspects = unknown & self._suspects, unknown
        for host_id, epoch, accelerator_id in again:
            logger.warning("nobody's", extra={"accelerator_id": accelerator_id, "host_id": host_id})
            place = Place(host_id, epoch, _NO_ROOM, Request(""))
            self._pool.submit(self._end_quietly, accelerator_id, place)

    def _unplace(self, accelerator_id: str, why: str) -> None:
        record = self._store.get(accelerator_id)
        if record is not None:
            row = self.row_of(accelerator_id)
            lost = replace(
                record,
                state=State.RESTARTING,
                endpoints=(),
                last_exit=why,
                num_restarts=record.num_restarts + 1,
            )
            self._write(lost, None, row.number, {})
            self._homeless.note(accelerator_id)
        self._books.free(accelerator_id)

    def note_homeless(self, accelerator_id: str) -> None:
        """Note of an accelerator that it is nowhere, as an earlier service left it."""
        self._homeless.note(accelerator_id)

    def bring_back(self) -> None:
        """Begin to place what is nowhere; waits for none of it."""
        if any(row.state is HostState.READY for row in self._books.hosts()):
            self._homeless.begin()

    def _bring_back(self, record: AcceleratorRecord, request: Request) -> None:
        lock = self.turn(record.accelerator_id)
        if not lock.acquire(blocking=False):
            return  # it is being detached
        try:
            current = self._store.get(record.accelerator_id)
            if current is None or current.state is not State.RESTARTING:
                return
            number = self.row_of(record.accelerator_id).number + 1
            back = self.put(current, request, number)
            self._tell(events.Kind.SERVES_AGAIN, f"serves on {back.device}", back)
        except ElasticInferenceError as error:
            extra = {"accelerator_id": record.accelerator_id, "why": str(error)}
            logger.warning("not brought back yet", extra=extra)
        finally:
            lock.release()

    # Draining

    def move(self, accelerator_id: str) -> bool:
        """Move an accelerator to another host, no call of it failing; False where it is gone or nowhere.

        Raises:
            CapacityExceeded: No other host has room.
        """
        with self.turn(accelerator_id):
            record, old = self._store.get(accelerator_id), self._books.place_of(accelerator_id)
            if record is None or old is None or record.state is not State.READY:
                return False
            key = f"{accelerator_id}@new"
            place = self._books.take(key, old.request, [old.host_id])
            number = self.row_of(accelerator_id).number + 1
            counted = record.sample
            try:
                moved = self._settle(accelerator_id, place, record, number, old)
            except BaseException:
                self._end_doubtful(key, place)
                raise
            leaving = f"{accelerator_id}@{old.host_id}"
            self._books.put(leaving, old)
            self._books.rename(key, accelerator_id)
            self._tell(events.Kind.HOST, f"moved to {moved.device}", moved)
            try:
                total = self.end(accelerator_id, old, self._drain_seconds)
                if total is not None:
                    self.counts.count_last(accelerator_id, counted, total)
            finally:
                self._books.free(leaving)
            return True
