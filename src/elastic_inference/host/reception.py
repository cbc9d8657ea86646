"""Takes attaches in, at a host and at a pool alike: once for each key, by name, budget and turn in the line."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from elastic_inference.errors import CapacityExceeded, ElasticInferenceError, TransportError
from elastic_inference.host import events
from elastic_inference.host.accounts.capacity import Allocation
from elastic_inference.host.accounts.catalogue import AcceleratorType
from elastic_inference.host.accounts.leases import LeaseBook, check_lease
from elastic_inference.host.accounts.names import check_name
from elastic_inference.host.accounts.records import AcceleratorRecord
from elastic_inference.host.accounts.scope import OPERATOR
from elastic_inference.host.accounts.state import StateStore
from elastic_inference.host.accounts.wanted import Waiting, Wanted
from elastic_inference.host.attach_keys import Identity, KeyTurns
from elastic_inference.host.control import Attached
from elastic_inference.host.entrance import Entrance
from elastic_inference.host.events import EventLog
from elastic_inference.host.tenancy import Tenancy
from elastic_inference.host.tokens import hash_token

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Admitted:
    """An attach that has its room.

    Attributes:
        kind: With the figures that its place decided.
    """

    accelerator_id: str
    name: str
    kind: AcceleratorType
    allocation: Allocation
    wanted: Wanted
    token_sha256: str

    def record(self, created_at: float) -> AcceleratorRecord:
        """Return the accelerator as it is before its process is started."""
        return AcceleratorRecord(
            accelerator_id=self.accelerator_id,
            name=self.name,
            kind=self.kind,
            device=self.allocation.device,
            share=self.allocation.share,
            token_sha256=self.token_sha256,
            created_at=created_at,
            lease_seconds=self.wanted.lease_seconds,
            tenant=self.wanted.tenant,
        )


class Reception:
    """Where attaches are asked for.

    Args:
        check: Gives the type that is wanted, or raises what refuses it whatever is free.
        start: Lets an accelerator serve; gives its room back where that fails.
        now: Seconds since 1970, UTC.
    """

    def __init__(
        self,
        store: StateStore,
        tenancy: Tenancy,
        entrance: Entrance,
        leases: LeaseBook,
        log: EventLog,
        check: Callable[[Wanted], AcceleratorType],
        start: Callable[[Admitted], AcceleratorRecord],
        now: Callable[[], float],
    ) -> None:
        self._store = store
        self._tenancy = tenancy
        self._entrance = entrance
        self._leases = leases
        self._log = log
        self._check = check
        self._start = start
        self._now = now
        self._turns = KeyTurns()

    def ask(self, wanted: Wanted) -> Attached | Waiting:
        """Attach what is wanted, or say where in the line it stands; see HostService.ask."""
        try:
            return self._ask_once(wanted)
        except ElasticInferenceError as error:
            self._tell(events.Kind.REFUSED, f"attach of {wanted.type_name:.80}: {error}", wanted)
            # Not where the process dies here: who waits asks the next one with the same ticket.
            self._leave_line(wanted)
            raise

    def _ask_once(self, wanted: Wanted) -> Attached | Waiting:
        identity = Identity.of(wanted.key)
        with self._turns.turn(identity.accelerator_id):
            found = None if wanted.key is None else self._store.get(identity.accelerator_id)
            if found is None:
                return self._ask(wanted, identity)
            identity.check_same(found, wanted)
            self._leave_line(wanted)  # it died between the attach and this
            self._leases.renew(identity.accelerator_id)
            return found, identity.token

    def _ask(self, wanted: Wanted, identity: Identity) -> Attached | Waiting:
        kind = self._check(wanted)
        check_lease(wanted.lease_seconds)
        accelerator_id = identity.accelerator_id
        name = check_name(wanted.name) or accelerator_id[:12]
        self._store.check_name(name, wanted.tenant)
        if wanted.tenant != OPERATOR:
            self._tenancy.check_budget(wanted.tenant)
        allocation = self._entrance.take(accelerator_id, kind, wanted)
        if isinstance(allocation, Waiting):
            if wanted.ticket is None:
                self._tell(events.Kind.WAITS, f"for {kind.name}, in place {allocation.place}", wanted)
            return allocation
        admitted = Admitted(
            accelerator_id, name, allocation.settled(kind), allocation, wanted, hash_token(identity.token)
        )
        try:
            record = self._start(admitted)
        except (CapacityExceeded, TransportError):  # of ports or users, or where the host was lost
            waiting = self._entrance.rejoin(wanted.ticket) if wanted.ticket is not None else None
            if waiting is not None:
                return waiting
            with without_figures(wanted.tenant, kind.name):
                raise
        self._leave_line(wanted)
        return record, identity.token

    def _leave_line(self, wanted: Wanted) -> None:
        if wanted.ticket is None:
            return
        try:
            self._entrance.leave(wanted.ticket)
        except Exception:  # such as a database that is away: then it is forgotten as one that asks no more
            logger.exception("a place in the line is not given up yet")

    def _tell(self, kind: events.Kind, text: str, wanted: Wanted) -> None:
        self._log.add(self._now(), kind, text, name=wanted.name or "", tenant=wanted.tenant)


@contextlib.contextmanager
def without_figures(tenant: str, type_name: str) -> Iterator[None]:
    """Say of a refusal for want of room no more to a tenant than that: what is left says what others have."""
    try:
        yield
    except CapacityExceeded as error:
        if tenant == OPERATOR:
            raise
        text = f"there is no room for type {type_name!r} now, beside what is attached or waited for"
        raise CapacityExceeded(text, requested=type_name, available="not that much now") from error
