"""What a host does for its callers: attach, detach, resize, tokens, usage. HTTP is another module's.

One lock orders what changes capacity; starting and ending processes happens outside it.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Iterator, Mapping

from elastic_inference.clock import Clock, MonotonicClock
from elastic_inference.errors import AcceleratorBusy, AcceleratorNotFound, InvalidInput
from elastic_inference.host import events
from elastic_inference.host.accounts.calendar import Calendar
from elastic_inference.host.accounts.capacity import Allocation, Capacity
from elastic_inference.host.accounts.catalogue import AcceleratorType
from elastic_inference.host.accounts.leases import MIN_LEASE_SECONDS, LeaseBook
from elastic_inference.host.accounts.ledger import Ledger
from elastic_inference.host.accounts.records import AcceleratorRecord, State
from elastic_inference.host.accounts.scope import ALL, OPERATOR, Scope
from elastic_inference.host.accounts.sums import By, UsageSum
from elastic_inference.host.accounts.token_book import TokenBook
from elastic_inference.host.accounts.usage import UsageRow
from elastic_inference.host.accounts.wanted import Waiting, Wanted
from elastic_inference.host.attacher import Attacher
from elastic_inference.host.board import Board
from elastic_inference.host.control import MAX_DRAIN_SECONDS, Attached, Offer
from elastic_inference.host.entrance import Entrance
from elastic_inference.host.expiry import Expiry
from elastic_inference.host.meter import Meter
from elastic_inference.host.processes.context import HostContext
from elastic_inference.host.processes.fleet import Fleet
from elastic_inference.host.processes.gpu_watch import Subject
from elastic_inference.host.processes.token_keeper import TokenKeeper
from elastic_inference.host.reception import Reception, without_figures
from elastic_inference.host.report import UsageReport
from elastic_inference.host.resizer import Resizer
from elastic_inference.host.tenant_care import TenantCare
from elastic_inference.host.tokens import hash_token, make_token

logger = logging.getLogger(__name__)


class HostService:
    """A host's accelerators.

    Args:
        catalogue: Types by name.
        capacity: Devices, with nothing held.
        calendar: For usage.
        clock: For leases.
    """

    def __init__(
        self,
        context: HostContext,
        catalogue: Mapping[str, AcceleratorType],
        capacity: Capacity,
        calendar: Calendar,
        clock: Clock | None = None,
    ) -> None:
        self.context = context
        self.catalogue = dict(catalogue)
        self.leases = LeaseBook(clock or MonotonicClock())
        self.tokens = TokenBook()
        self.meter = Meter(context, calendar.now)
        self.board = Board(
            context.store,
            self.meter,
            lambda: self.capacity,
            context.sharing,
            self.leases.left_seconds,
            calendar.now,
            lambda: (self.tenants.rows(), self.entrance.rows()),
        )
        self.started_at = calendar.now()
        self._is_draining = False
        self._store = context.store
        self._fleet = Fleet(context)
        self._calendar = calendar
        self._report = UsageReport(context.store, self.board, self.meter, calendar.now)
        self._lock = threading.Lock()
        self._ledger = Ledger(capacity, self.catalogue)
        self._resizer = Resizer(context, self._fleet, self._ledger, self.meter)
        self._token_keeper = TokenKeeper(context)
        self._busy: dict[str, threading.Lock] = {}
        self.expiry = Expiry(self.leases, self._detach_expired)
        self.tenancy, log = context.tenancy, self.board.events
        self.entrance = Entrance(self._ledger, self.tenancy, calendar)
        self.tenants = TenantCare(
            self.tenancy,
            self._ledger,
            self.entrance,
            self.expiry,
            log,
            context.audit,
            self.detach,
            context.request_rates.put,
            context.forget_tenant,
            calendar.now,
        )
        self._attacher = Attacher(
            context,
            self._fleet,
            self.entrance,
            self.tokens,
            self.leases,
            self._type,
            lambda: self.is_draining,
            self._free,
            calendar.now,
        )
        self._reception = Reception(
            self._store,
            self.tenancy,
            self.entrance,
            self.leases,
            log,
            self._attacher.check,
            self._attacher.start,
            calendar.now,
        )

    def open(self) -> None:
        """Find the accelerators of an earlier run, and begin to keep them."""
        recovered = self._fleet.recover()
        self.board.begin(recovered)
        for record in recovered:
            allocation = Allocation.of(record.kind, record.device, record.share, record.tenant)
            self._ledger.put(record.accelerator_id, allocation)
            self._token_keeper.put_again(record.accelerator_id)
            self.tokens.set(record.accelerator_id, record.token_sha256)
            # Heartbeats that came while the host was away were lost, so each lease begins anew.
            self.leases.grant(record.accelerator_id, record.lease_seconds)
            if self._calendar.ended_at is not None:
                self._store.end_interval(record.accelerator_id, self._calendar.ended_at)
                self._store.begin_interval(record, self.started_at)
        # An interval whose accelerator is gone was left open by a crash between two writes.
        known = {record.accelerator_id for record in self._store.list_all()}
        for row in self._store.list_intervals(since=self.started_at):
            if row["ended_at"] is None and row["accelerator_id"] not in known:
                self._store.end_interval(row["accelerator_id"], self.started_at)

    def close(self, keep_running: bool = False) -> None:
        """End all accelerators in order, to be started again by the next run; or leave them running."""
        self._is_draining = True
        self.expiry.close()
        try:
            self.board.fresh(must_write=True)
        except Exception:  # such as a database that is away: the processes must end all the same
            logger.exception("the last reading of the meters failed")
        self._fleet.close(keep_running)
        self.meter.close()
        self._token_keeper.close()

    # What there is

    @property
    def is_draining(self) -> bool:
        """Whether nothing new is attached."""
        return self._is_draining

    def drain(self, is_draining: bool) -> None:
        """Refuse new accelerators from now on, or take them again; attached ones are not touched."""
        if is_draining != self._is_draining:
            self._is_draining = is_draining
            text = "drains: refuses new accelerators" if is_draining else "takes new accelerators again"
            self.board.events.add(self._calendar.now(), events.Kind.HOST, text)

    @property
    def capacity(self) -> Capacity:
        """Devices and what is held of them, now."""
        return self._ledger.capacity

    def offers(self) -> tuple[Offer, ...]:
        """All types, and how many of each still fit."""
        capacity = self.capacity
        return tuple(Offer(kind, capacity.num_available(kind)) for kind in self.catalogue.values())

    def list_all(self) -> tuple[AcceleratorRecord, ...]:
        """All accelerators, oldest first."""
        return self._store.list_all()

    def get(self, accelerator_id: str) -> AcceleratorRecord:
        """One accelerator; raises AcceleratorNotFound."""
        record = self._store.get(accelerator_id)
        if record is None:
            raise AcceleratorNotFound(f"no accelerator {accelerator_id:.60} is attached here")
        return record

    def on_gpus(self) -> list[Subject]:
        """Return the processes of accelerators that have memory of a GPU, and how much they may have."""
        return [
            Subject(record.accelerator_id, record.process.pid, record.kind.device_memory_bytes)
            for record in self._store.list_all()
            if record.process is not None and record.kind.device_memory_bytes is not None
        ]

    def kill(self, accelerator_id: str, why: str) -> None:
        """End an accelerator's process at once; it is started again. Nothing where it was detached meanwhile."""
        with contextlib.suppress(AcceleratorNotFound):
            self._fleet.keeper(accelerator_id).kill(why)

    def limits_of(self, record: AcceleratorRecord) -> dict[str, str]:
        """Return what is in force for an accelerator and by what means; {} while its process starts."""
        with contextlib.suppress(AcceleratorNotFound):
            applied = self._fleet.keeper(record.accelerator_id).applied
            if applied is not None:
                cores = self.context.cores.describe(record.accelerator_id)
                means = self.context.describe_limits(record, applied)
                return means | ({} if cores is None else {"cores": cores})
        return {}

    def placement_of(self, accelerator_id: str) -> int | None:  # noqa: ARG002  # as a pool answers it
        """Return None: what a host has attached stays there."""
        return None

    # Attach, detach

    def attach(
        self,
        type_name: str,
        name: str | None = None,
        lease_seconds: float | None = None,
        tenant: str = OPERATOR,
    ) -> Attached:
        """Give an accelerator away at once; see `ask`."""
        attached = self.ask(Wanted(type_name, name, lease_seconds, tenant))
        assert not isinstance(attached, Waiting)
        return attached

    def ask(self, wanted: Wanted) -> Attached | Waiting:
        """Give an accelerator away; it serves when this returns. Or let whoever asks wait for it.

        Returns:
            Its record, and its bearer token, which nobody can read again; or where in the line it waits.

        Raises:
            InvalidInput: No such type, or a value beyond its limit.
            NameTaken: Another accelerator of the tenant has this name.
            CapacityExceeded: It does not fit; with what is left. Or the host drains.
            TenantQuotaExceeded, BudgetReached: The tenant may not have it.
            ElasticInferenceError: Its process did not start; nothing is left of it.
        """
        attached = self._reception.ask(wanted)
        if not isinstance(attached, Waiting):
            self.tenants.budgets.touch(wanted.tenant)
        return attached

    def place(
        self, accelerator_id: str, token_sha256: str, type_name: str, name: str | None, tenant: str
    ) -> AcceleratorRecord:
        """Attach an accelerator whose id and token a pool chose; one that is there already is given back as it is."""
        known = self._store.get(accelerator_id)
        if known is not None and known.token_sha256 == token_sha256:
            return known
        return self._attacher.place(accelerator_id, token_sha256, Wanted(type_name, name, tenant=tenant))

    def leave_line(self, ticket: str, tenant: str | None = None) -> bool:
        """Take one that waits out of the line; False where none waits with this ticket, or none of the tenant's."""
        return self.entrance.leave(ticket, tenant)

    def detach(self, accelerator_id: str, drain_seconds: float | None = None) -> None:
        """Take an accelerator back, after it has finished what is in flight.

        Raises:
            AcceleratorNotFound: It is not attached (any more).
        """
        if drain_seconds is not None and not 0 <= drain_seconds <= MAX_DRAIN_SECONDS:
            raise InvalidInput(f"drain_seconds {drain_seconds} is not between 0 and {MAX_DRAIN_SECONDS:g}")
        with self._alone(accelerator_id) as record:
            self._store.change(accelerator_id, state=State.DRAINING)
            self.meter.read(record)
            try:
                self._fleet.end(record, drain_seconds)
                self._store.end_interval(accelerator_id, self._calendar.now())
            except BaseException:
                self.leases.grant(accelerator_id, MIN_LEASE_SECONDS)  # half done: it is tried again
                raise
            self.meter.forget(accelerator_id)
            self._free(accelerator_id)
        self.tenants.budgets.touch(record.tenant)
        logger.info("detached", extra={"accelerator_id": accelerator_id})

    def _detach_expired(self, accelerator_id: str) -> None:
        try:
            self.detach(accelerator_id)
        except AcceleratorNotFound:
            self._free(accelerator_id)  # of an attach that failed before it was written down

    def resize(self, accelerator_id: str, type_name: str) -> tuple[AcceleratorRecord, bool]:
        """Give an attached accelerator another type; it keeps its id, token, endpoints and models.

        Returns:
            Its record, and whether its process was started again: the kernel's limits change under a running
            process, the number of its threads does not.

        Raises:
            CapacityExceeded: The new type does not fit beside the others.
            TenantQuotaExceeded, BudgetReached: The tenant may not have it.
            MemoryQuotaExceeded: It uses more memory now than the new type has.
        """
        kind = self._type(type_name)
        with self._alone(accelerator_id) as record, without_figures(record.tenant, type_name):
            check = self.tenants.check_resize(record.tenant, kind)
            changed, was_restarted = self._resizer.resize(record, kind, check)
            self.context.cores.refresh()
            self._store.begin_interval(changed, self._calendar.now())
        self.tenants.budgets.touch(record.tenant)
        return self.get(accelerator_id), was_restarted

    # Leases, tokens

    def heartbeat(self, accelerator_id: str) -> float | None:
        """Note that the client is there; seconds that its lease lasts from now, None where it has none.

        Waits for nothing, the database least of all.
        """
        if accelerator_id not in self.capacity.held:
            raise AcceleratorNotFound(f"no accelerator {accelerator_id:.60} is attached here")
        return self.leases.renew(accelerator_id)

    def rotate_token(self, accelerator_id: str) -> str:
        """Give an accelerator a new bearer token; the old one is refused from now on.

        Raises:
            ElasticInferenceError: The accelerator did not take it, and the old one counts.
        """
        token = make_token()
        self.put_token(accelerator_id, hash_token(token))
        return token

    def put_token(self, accelerator_id: str, token_sha256: str) -> None:
        """Put the token of this hash in force, which a pool made; as `rotate_token`."""
        with self._alone(accelerator_id) as record:
            self._token_keeper.change(record, token_sha256)
            self.tokens.set(accelerator_id, token_sha256)

    def put_tokens(self) -> None:
        """See to it that accelerators that may have taken a token nobody has take back the one that counts."""
        self._token_keeper.put_all()

    def reload_tls(self) -> None:
        """Let all accelerators read their TLS files again."""
        self._fleet.reload_tls()

    # Usage

    def usage(self, since: float = 0.0, scope: Scope = ALL) -> tuple[UsageRow, ...]:
        """Attached time, cost and counters since a moment, detached accelerators included.

        Args:
            scope: Of what is asked, and what alone is read.
        """
        return self._report.rows(since, scope)

    def usage_sums(self, by: By, since: float = 0.0, scope: Scope = ALL) -> tuple[UsageSum, ...]:
        """Sum up the same by tenant, type, model or day."""
        return self._report.sums(by, since, scope)

    # Shared

    def _type(self, name: str) -> AcceleratorType:
        kind = self.catalogue.get(name)
        if kind is None:
            raise InvalidInput(f"type {name!r:.80} is not one of {', '.join(sorted(self.catalogue))}")
        return kind

    def _free(self, accelerator_id: str) -> None:
        self._ledger.free(accelerator_id)
        self.leases.release(accelerator_id)
        self.tokens.remove(accelerator_id)
        self._token_keeper.forget(accelerator_id)
        with self._lock:
            self._busy.pop(accelerator_id, None)

    @contextlib.contextmanager
    def _alone(self, accelerator_id: str) -> Iterator[AcceleratorRecord]:
        """Change an accelerator alone.

        Nobody waits: callers that did could take all threads of the API from others.
        """
        self.get(accelerator_id)
        with self._lock:
            lock = self._busy.setdefault(accelerator_id, threading.Lock())
        if not lock.acquire(blocking=False):
            raise AcceleratorBusy(
                f"accelerator {accelerator_id} is being changed by another request; try again"
            )
        try:
            yield self.get(accelerator_id)
        finally:
            lock.release()
