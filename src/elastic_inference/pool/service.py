"""What a pool does for its callers: attach, detach, resize, tokens, usage, by the words of a host (`host.control`)."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial

from elastic_inference.clock import Clock, MonotonicClock
from elastic_inference.errors import (
    AcceleratorBusy,
    AcceleratorNotFound,
    CapacityExceeded,
    InvalidInput,
)
from elastic_inference.host import events
from elastic_inference.host.accounts.calendar import Calendar
from elastic_inference.host.accounts.capacity import Allocation, Capacity
from elastic_inference.host.accounts.catalogue import AcceleratorType
from elastic_inference.host.accounts.leases import MIN_LEASE_SECONDS, LeaseBook
from elastic_inference.host.accounts.records import AcceleratorRecord, State
from elastic_inference.host.accounts.scope import ALL, Scope
from elastic_inference.host.accounts.sums import By, UsageSum
from elastic_inference.host.accounts.token_book import TokenBook
from elastic_inference.host.accounts.usage import UsageRow
from elastic_inference.host.accounts.wanted import Waiting, Wanted
from elastic_inference.host.audit import AuditLog
from elastic_inference.host.board import Board
from elastic_inference.host.control import MAX_DRAIN_SECONDS, Attached, Offer
from elastic_inference.host.entrance import Entrance
from elastic_inference.host.expiry import Expiry
from elastic_inference.host.reception import Admitted, Reception, without_figures
from elastic_inference.host.report import UsageReport
from elastic_inference.host.tenancy import Tenancy
from elastic_inference.host.tenant_care import TenantCare
from elastic_inference.host.tokens import hash_token, make_token
from elastic_inference.pool.books import Books, Place, device_name
from elastic_inference.pool.keeper import PlacementKeeper
from elastic_inference.pool.meter import PoolMeter
from elastic_inference.pool.model import HostState
from elastic_inference.pool.stock import PoolStock
from elastic_inference.pool.store import PoolStore
from elastic_inference.pool.tenant_orders import TenantOrders

logger = logging.getLogger(__name__)

MakeKeeper = Callable[[Callable[[events.Kind, str, AcceleratorRecord | None], None]], PlacementKeeper]


class PoolService:
    """The accelerators of all hosts.

    Args:
        stock: What the books have left, for those that ask.
        make_keeper: Makes what places them; given the way to write an event.
        audit: For what the pool does by itself.
        calendar: For usage.
        clock: For leases.
    """

    def __init__(
        self,
        store: PoolStore,
        books: Books,
        stock: PoolStock,
        tenancy: Tenancy,
        make_keeper: MakeKeeper,
        audit: AuditLog,
        calendar: Calendar,
        clock: Clock | None = None,
    ) -> None:
        self.leases = LeaseBook(clock or MonotonicClock())
        self.tokens = TokenBook()
        self.started_at = calendar.now()
        self.tenancy = tenancy
        self.keeper = make_keeper(self._tell)
        self.meter = PoolMeter(self.keeper, books, calendar.now)
        self.board = Board(
            store,
            self.meter,
            books.capacity,
            {},
            self.leases.left_seconds,
            calendar.now,
            lambda: (self.tenants.rows(), self.entrance.rows()),
        )
        self.expiry = Expiry(self.leases, self.detach)
        self.entrance = Entrance(stock, tenancy, calendar)
        self.orders = TenantOrders(self.keeper, books, tenancy)
        self.tenants = TenantCare(
            tenancy,
            stock,
            self.entrance,
            self.expiry,
            self.board.events,
            audit,
            self.detach,
            self.orders.put,
            self.orders.forget,
            calendar.now,
        )
        self._reception = Reception(
            store,
            tenancy,
            self.entrance,
            self.leases,
            self.board.events,
            self._check,
            self._start,
            calendar.now,
        )
        self._store, self._stock = store, stock
        self._books = books
        self._calendar = calendar
        self._report = UsageReport(store, self.board, self.meter, calendar.now)
        self._is_draining = False

    def open(self) -> None:
        """Find the accelerators that an earlier pool service attached, and where they are."""
        rows = {row.accelerator_id: row for row in self._store.list_placements()}
        records = []
        for record in self._store.list_all():
            key, row = record.accelerator_id, rows.get(record.accelerator_id)
            if row is None or record.state is State.STARTING:
                self._store.end_interval(key, self.started_at)
                self._store.remove(key)  # no client has its token: its attach has failed
                continue
            _, _, device = record.device.partition("/")
            allocation = Allocation.of(record.kind, device, record.share, record.tenant)
            if row.host_id is not None:
                self._books.put(key, Place(row.host_id, row.host_epoch, allocation, row.request))
            else:
                self._books.own(key, row.request, allocation)
                self.keeper.note_homeless(key)
            self.tokens.set(key, record.token_sha256)
            self.leases.grant(key, record.lease_seconds)
            records.append(record)
        self.board.begin(tuple(records))

    def close(self) -> None:
        """Begin nothing more; the accelerators go on."""
        self._is_draining = True
        self.keeper.close()
        self.expiry.close()
        self.orders.close()

    # What there is

    @property
    def is_draining(self) -> bool:
        """Whether nothing new is attached."""
        return self._is_draining

    @property
    def catalogue(self) -> Mapping[str, AcceleratorType]:
        """Types of all hosts by name."""
        return self._books.catalogue()

    @property
    def capacity(self) -> Capacity:
        """Devices of all hosts and what is held of them, now."""
        return self._books.capacity()

    def drain(self, is_draining: bool) -> None:
        """Refuse new accelerators from now on, or take them again; attached ones are not touched."""
        if is_draining != self._is_draining:
            self._is_draining = is_draining
            text = "drains: refuses new accelerators" if is_draining else "takes new accelerators again"
            self._tell(events.Kind.HOST, text, None)

    def offers(self) -> tuple[Offer, ...]:
        """All types, and how many of each still fit on all hosts together."""
        ready = [view for view in self._books.views() if view.state is HostState.READY]
        return tuple(
            Offer(
                kind,
                sum(
                    view.capacity.num_available(view.catalogue[name])
                    for view in ready
                    if name in view.catalogue
                ),
            )
            for name, kind in self.catalogue.items()
        )

    def list_all(self) -> tuple[AcceleratorRecord, ...]:
        """All accelerators, oldest first."""
        return self._store.list_all()

    def get(self, accelerator_id: str) -> AcceleratorRecord:
        """One accelerator; raises AcceleratorNotFound."""
        record = self._store.get(accelerator_id)
        if record is None:
            raise AcceleratorNotFound(f"no accelerator {accelerator_id:.60} is attached in this pool")
        return record

    def limits_of(self, record: AcceleratorRecord) -> dict[str, str]:
        """Return what is in force for an accelerator, as its host said when it started it."""
        row = self._store.placement(record.accelerator_id)
        limits = {} if row is None else row.limits
        others = {name: text for name, text in limits.items() if name != "requests"}
        return self.tenancy.quota(record.tenant).describe(record.tenant) | others

    def placement_of(self, accelerator_id: str) -> int | None:
        """Return the number of its place, which rises with each move."""
        row = self._store.placement(accelerator_id)
        return None if row is None else row.number

    # Attach, detach

    def ask(self, wanted: Wanted) -> Attached | Waiting:
        """Give an accelerator of some host away; it serves when this returns. Or let whoever asks wait for it.

        Returns:
            Its record, and its bearer token, which nobody can read again; or where in the line it waits.

        Raises:
            InvalidInput: No such type, or a value beyond its limit.
            NameTaken: Another accelerator of the tenant has this name.
            CapacityExceeded: It fits on no host; with what is left. Or the pool drains.
            TenantQuotaExceeded, BudgetReached: The tenant may not have it.
            ElasticInferenceError: No host started its process; nothing is left of it.
        """
        attached = self._reception.ask(wanted)
        if not isinstance(attached, Waiting):
            self.tenants.budgets.touch(wanted.tenant)
        return attached

    def leave_line(self, ticket: str, tenant: str | None) -> bool:
        """Take one that waits out of the line; False where none waits with this ticket, or none of the tenant's."""
        return self.entrance.leave(ticket, tenant)

    def _check(self, wanted: Wanted) -> AcceleratorType:
        if wanted.doors is not None:
            raise InvalidInput("an accelerator of a pool opens the doors of its type; choose no other ones")
        if self.is_draining:
            raise CapacityExceeded(
                "this pool drains and attaches nothing new; let the operator run `ei host drain --off`",
                requested=wanted.type_name,
                available="none",
            )
        kinds = self.catalogue
        if wanted.type_name not in kinds:
            known = ", ".join(sorted(kinds)) or "none: no host has joined yet"
            raise InvalidInput(f"type {wanted.type_name!r:.80} is not one of {known}")
        return kinds[wanted.type_name]

    def _start(self, admitted: Admitted) -> AcceleratorRecord:
        """Let a host start what has its room in the books."""
        accelerator_id = admitted.accelerator_id
        with self.keeper.turn(accelerator_id):
            try:
                place = self._books.place_of(accelerator_id)
                assert place is not None
                request = replace(place.request, priority=admitted.wanted.priority)
                self._books.put(accelerator_id, replace(place, request=request))
                record = replace(
                    admitted.record(self._calendar.now()),
                    kind=self._books.kind_of(place),
                    device=device_name(place.host_id, place.allocation.device),
                )
                self._store.add(record)
                keep = partial(self.entrance.keep_from, admitted.wanted, record.created_at)
                attached = self.keeper.put(record, request, 1, partial(self._stock.take_elsewhere, keep))
                self._store.begin_interval(attached, self._calendar.now())
            except BaseException:
                self._undo(accelerator_id)
                raise
            self.tokens.set(accelerator_id, record.token_sha256)
            self.leases.grant(accelerator_id, record.lease_seconds)
        extra = {"accelerator_id": accelerator_id, "type": record.kind.name, "tenant": record.tenant}
        logger.info("attached", extra=extra)
        return attached

    def _undo(self, accelerator_id: str) -> None:
        """Forget an attach that failed; its host is told to end what it may have started (see `end_unknown`)."""
        self._books.forget(accelerator_id)
        self.keeper.forget(accelerator_id)
        try:
            self._store.end_interval(accelerator_id, self._calendar.now())
            self._store.remove(accelerator_id)
        except Exception:  # such as a database that is away: a lease that ends tries again
            logger.exception("attach not undone yet", extra={"accelerator_id": accelerator_id})
            self.leases.grant(accelerator_id, MIN_LEASE_SECONDS)

    def detach(self, accelerator_id: str, drain_seconds: float | None = None) -> None:
        """Take an accelerator back, after it has finished what is in flight.

        Raises:
            AcceleratorNotFound: It is not attached (any more).
        """
        if drain_seconds is not None and not 0 <= drain_seconds <= MAX_DRAIN_SECONDS:
            raise InvalidInput(f"drain_seconds {drain_seconds} is not between 0 and {MAX_DRAIN_SECONDS:g}")
        with self._alone(accelerator_id) as record:
            self._store.change(accelerator_id, state=State.DRAINING)
            place = self._books.place_of(accelerator_id)
            try:
                if place is not None:
                    total = self.keeper.end(accelerator_id, place, drain_seconds)
                    if total is not None:
                        self.keeper.counts.count(accelerator_id, total)
                self._store.end_interval(accelerator_id, self._calendar.now())
                self._store.remove(accelerator_id)
            except BaseException:
                self.leases.grant(accelerator_id, MIN_LEASE_SECONDS)  # half done: it is tried again
                raise
            self._books.forget(accelerator_id)
            self.leases.release(accelerator_id)
            self.tokens.remove(accelerator_id)
            self.meter.forget(accelerator_id)
        self.keeper.forget(accelerator_id)
        self.tenants.budgets.touch(record.tenant)
        logger.info("detached", extra={"accelerator_id": accelerator_id})

    def resize(self, accelerator_id: str, type_name: str) -> tuple[AcceleratorRecord, bool]:
        """Give an accelerator another type on the host where it is.

        Raises:
            CapacityExceeded: The new type does not fit there.
            TenantQuotaExceeded, BudgetReached: The tenant may not have it.
            AcceleratorBusy: It is nowhere at this moment.
        """
        with self._alone(accelerator_id) as record, without_figures(record.tenant, type_name):
            place = self._books.place_of(accelerator_id)
            if place is None or record.state is not State.READY:
                raise AcceleratorBusy(f"accelerator {accelerator_id} has no host at this moment; try again")
            host = self._books.host(place.host_id)
            kind = host.offer.catalogue.get(type_name)
            if kind is not None:  # else the host says which types it has
                check = self.tenants.check_resize(record.tenant, kind)
                self._books.widen(accelerator_id, kind, check)
            try:
                told = self.keeper.link(host).resize(accelerator_id, type_name)
            except BaseException:
                self._books.put(accelerator_id, place)
                raise
            changed = self.keeper.note_resized(record, place, type_name, told)
            self._store.begin_interval(changed, self._calendar.now())
        self.tenants.budgets.touch(record.tenant)
        return changed, bool(told["was_restarted"])

    # Leases, tokens

    def heartbeat(self, accelerator_id: str) -> float | None:
        """Note that the client is there; seconds that its lease lasts from now, None where it has none."""
        if not self.tokens.knows(accelerator_id):
            raise AcceleratorNotFound(f"no accelerator {accelerator_id:.60} is attached in this pool")
        return self.leases.renew(accelerator_id)

    def rotate_token(self, accelerator_id: str) -> str:
        """Give an accelerator a new bearer token; the old one is refused from now on."""
        token = make_token()
        with self._alone(accelerator_id):
            place = self._books.place_of(accelerator_id)
            if place is not None:
                link = self.keeper.link(self._books.host(place.host_id))
                link.put_token(accelerator_id, hash_token(token))
            self._store.change(accelerator_id, token_sha256=hash_token(token))
            self.tokens.set(accelerator_id, hash_token(token))
        return token

    # Usage

    def usage(self, since: float = 0.0, scope: Scope = ALL) -> tuple[UsageRow, ...]:
        """Attached time, cost and counters since a moment, over all hosts that an accelerator was on."""
        return self._report.rows(since, scope)

    def usage_sums(self, by: By, since: float = 0.0, scope: Scope = ALL) -> tuple[UsageSum, ...]:
        """Sum up the same by tenant, type, model or day."""
        return self._report.sums(by, since, scope)

    # Shared

    def _tell(self, kind: events.Kind, text: str, record: AcceleratorRecord | None) -> None:
        if record is None:
            self.board.events.add(self._calendar.now(), kind, text)
        else:
            self.board.events.add(
                self._calendar.now(), kind, text, record.accelerator_id, record.name, record.tenant
            )

    @contextlib.contextmanager
    def _alone(self, accelerator_id: str) -> Iterator[AcceleratorRecord]:
        """Change an accelerator alone; nobody waits, as at a host."""
        self.get(accelerator_id)
        lock = self.keeper.turn(accelerator_id)
        if not lock.acquire(blocking=False):
            raise AcceleratorBusy(
                f"accelerator {accelerator_id} is being changed by another request; try again"
            )
        try:
            yield self.get(accelerator_id)
        finally:
            lock.release()
