"""Attaches accelerators: room for each, its process, and nothing left where that fails."""

from __future__ import annotations

import logging
from collections.abc import Callable

from elastic_inference.errors import CapacityExceeded, ElasticInferenceError, InvalidInput
from elastic_inference.host import events
from elastic_inference.host.accounts.capacity import Allocation
from elastic_inference.host.accounts.catalogue import AcceleratorType
from elastic_inference.host.accounts.leases import MIN_LEASE_SECONDS, LeaseBook, check_lease
from elastic_inference.host.accounts.names import check_name
from elastic_inference.host.accounts.records import AcceleratorRecord
from elastic_inference.host.accounts.scope import OPERATOR
from elastic_inference.host.accounts.token_book import TokenBook
from elastic_inference.host.accounts.wanted import Waiting, Wanted
from elastic_inference.host.attach_keys import Identity, KeyTurns
from elastic_inference.host.control import Attached
from elastic_inference.host.entrance import Entrance
from elastic_inference.host.events import EventLog
from elastic_inference.host.processes.context import HostContext
from elastic_inference.host.processes.fleet import Fleet
from elastic_inference.host.tokens import hash_token

logger = logging.getLogger(__name__)


class Attacher:
    """Takes what is asked for from the entrance to a process that serves.

    Args:
        find_type: Gives a type by its name, or raises InvalidInput.
        is_draining: Whether nothing new is attached.
        free: Gives back what an accelerator held.
        now: Seconds since 1970, UTC.
    """

    def __init__(
        self,
        context: HostContext,
        fleet: Fleet,
        entrance: Entrance,
        tokens: TokenBook,
        leases: LeaseBook,
        log: EventLog,
        find_type: Callable[[str], AcceleratorType],
        is_draining: Callable[[], bool],
        free: Callable[[str], None],
        now: Callable[[], float],
    ) -> None:
        self._context = context
        self._store = context.store
        self._fleet = fleet
        self._entrance = entrance
        self._tokens = tokens
        self._leases = leases
        self._log = log
        self._type = find_type
        self._is_draining = is_draining
        self._free = free
        self._now = now
        self._turns = KeyTurns()

    def ask(self, wanted: Wanted) -> Attached | Waiting:
        """Attach what is wanted, or say where in the line it stands; see HostService.ask."""
        try:
            return self._ask_once(wanted)
        except ElasticInferenceError as error:
            text = f"attach of {wanted.type_name:.80}: {error}"
            name = wanted.name or ""
            self._log.add(self._now(), events.Kind.REFUSED, text, name=name, tenant=wanted.tenant)
            raise

    def place(self, accelerator_id: str, token_sha256: str, wanted: Wanted) -> AcceleratorRecord:
        """Attach what a pool wants, under the id and the token that it chose."""
        kind = self._context.opening(self._type(wanted.type_name), wanted.doors)
        name = check_name(wanted.name) or accelerator_id[:12]
        self._check_open(wanted)
        self._store.check_name(name, wanted.tenant)
        allocation = self._entrance.take(accelerator_id, kind, wanted)
        assert not isinstance(allocation, Waiting)  # it did not say that it may wait
        return self._start(accelerator_id, name, allocation.settled(kind), allocation, wanted, token_sha256)

    def _check_open(self, wanted: Wanted) -> None:
        if self._is_draining():
            raise CapacityExceeded(
                "this host drains and attaches nothing new; attach at another host, or let the operator run "
                "`ei host drain --off`",
                requested=wanted.type_name,
                available="none",
            )

    def _ask_once(self, wanted: Wanted) -> Attached | Waiting:
        identity = Identity.of(wanted.key)
        with self._turns.turn(identity.accelerator_id):
            found = None if wanted.key is None else self._store.get(identity.accelerator_id)
            if found is None:
                return self._ask(wanted, identity)
            identity.check_same(found, wanted)
            self._leases.renew(identity.accelerator_id)
            return found, identity.token

    def _ask(self, wanted: Wanted, identity: Identity) -> Attached | Waiting:
        if self._context.settings.fence is not None:
            raise InvalidInput(
                "this host is of a pool, which places accelerators here; attach at the pool's address"
            )
        kind = self._context.opening(self._type(wanted.type_name), wanted.doors)
        check_lease(wanted.lease_seconds)
        accelerator_id = identity.accelerator_id
        name = check_name(wanted.name) or accelerator_id[:12]
        try:
            self._check_open(wanted)
            self._store.check_name(name, wanted.tenant)
            if wanted.tenant != OPERATOR:
                self._context.tenancy.check_budget(wanted.tenant)
            allocation = self._entrance.take(accelerator_id, kind, wanted)
            if isinstance(allocation, Waiting):
                if wanted.ticket is None:
                    text = f"for {kind.name}, in place {allocation.place}"
                    self._log.add(
                        self._now(), events.Kind.WAITS, text, name=wanted.name or "", tenant=wanted.tenant
                    )
                return allocation
            token, settled = identity.token, allocation.settled(kind)
            try:
                record = self._start(accelerator_id, name, settled, allocation, wanted, hash_token(token))
            except CapacityExceeded as error:
                if wanted.tenant == OPERATOR:
                    raise
                raise _no_room(kind) from error  # of ports or users, whose number says what others have
            return record, token
        except ElasticInferenceError:
            # Not where the process dies here: who waits asks the next one with the same ticket.
            if wanted.ticket is not None:
                self._entrance.leave(wanted.ticket)
            raise

    def _start(
        self,
        accelerator_id: str,
        name: str,
        kind: AcceleratorType,
        allocation: Allocation,
        wanted: Wanted,
        token_sha256: str,
    ) -> AcceleratorRecord:
        record = AcceleratorRecord(
            accelerator_id=accelerator_id,
            name=name,
            kind=kind,
            device=allocation.device,
            share=allocation.share,
            token_sha256=token_sha256,
            created_at=self._now(),
            lease_seconds=wanted.lease_seconds,
            tenant=wanted.tenant,
        )
        try:
            self._store.add(record)
            self._fleet.launch(record, self._context.settings.start_timeout_seconds + 10)
            self._store.begin_interval(record, self._now())
            attached = self._store.get(accelerator_id)
            assert attached is not None
            if wanted.ticket is not None:
                self._entrance.leave(wanted.ticket)
        except BaseException:
            self._end_unknown(record)
            raise
        self._tokens.set(accelerator_id, record.token_sha256)
        self._leases.grant(accelerator_id, wanted.lease_seconds)
        self._context.launcher.refill()
        extra = {"accelerator_id": accelerator_id, "type": kind.name, "tenant": wanted.tenant}
        logger.info("attached", extra=extra)
        return attached

    def _end_unknown(self, record: AcceleratorRecord) -> None:
        """End an accelerator whose attach failed, also one that serves: nobody would ever have its token."""
        try:
            self._fleet.end(record, drain_seconds=0.0)
            self._free(record.accelerator_id)
        except Exception:  # such as a database that is away: it is tried again, as if its lease had ended
            logger.exception("attach not undone yet", extra={"accelerator_id": record.accelerator_id})
            self._leases.grant(record.accelerator_id, MIN_LEASE_SECONDS)


def _no_room(kind: AcceleratorType) -> CapacityExceeded:
    text = (
        f"this host has no room for another accelerator, whatever its type; type {kind.name!r} was asked for"
    )
    return CapacityExceeded(text, requested=kind.name, available="not that much now")
