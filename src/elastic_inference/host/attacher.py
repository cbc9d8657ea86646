"""Attaches accelerators at a host: a process for what has its room, and nothing left where that fails."""

from __future__ import annotations

import logging
from collections.abc import Callable

from elastic_inference.errors import CapacityExceeded, InvalidInput
from elastic_inference.host.accounts.catalogue import AcceleratorType
from elastic_inference.host.accounts.leases import MIN_LEASE_SECONDS, LeaseBook
from elastic_inference.host.accounts.names import check_name
from elastic_inference.host.accounts.records import AcceleratorRecord
from elastic_inference.host.accounts.token_book import TokenBook
from elastic_inference.host.accounts.wanted import Waiting, Wanted
from elastic_inference.host.entrance import Entrance
from elastic_inference.host.processes.context import HostContext
from elastic_inference.host.processes.fleet import Fleet
from elastic_inference.host.reception import Admitted

logger = logging.getLogger(__name__)


class Attacher:
    """Takes what has its room to a process that serves.

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
        self._type = find_type
        self._is_draining = is_draining
        self._free = free
        self._now = now

    def check(self, wanted: Wanted) -> AcceleratorType:
        """Return the type that a client of this host wants; raises what refuses it."""
        if self._context.settings.fence is not None:
            raise InvalidInput(
                "this host is of a pool, which places accelerators here; attach at the pool's address"
            )
        return self._check(wanted)

    def place(self, accelerator_id: str, token_sha256: str, wanted: Wanted) -> AcceleratorRecord:
        """Attach what a pool wants, under the id and the token that it chose."""
        kind = self._check(wanted)
        name = check_name(wanted.name) or accelerator_id[:12]
        self._store.check_name(name, wanted.tenant)
        allocation = self._entrance.take(accelerator_id, kind, wanted)
        assert not isinstance(allocation, Waiting)  # it did not say that it may wait
        settled = allocation.settled(kind)
        return self.start(Admitted(accelerator_id, name, settled, allocation, wanted, token_sha256))

    def _check(self, wanted: Wanted) -> AcceleratorType:
        kind = self._context.opening(self._type(wanted.type_name), wanted.doors)
        if self._is_draining():
            raise CapacityExceeded(
                "this host drains and attaches nothing new; attach at another host, or let the operator run "
                "`ei host drain --off`",
                requested=wanted.type_name,
                available="none",
            )
        return kind

    def start(self, admitted: Admitted) -> AcceleratorRecord:
        """Start the process of what has its room; nothing is left of it where that fails."""
        record = admitted.record(self._now())
        accelerator_id = record.accelerator_id
        try:
            self._store.add(record)
            self._fleet.launch(record, self._context.settings.start_timeout_seconds + 10)
            self._store.begin_interval(record, self._now())
            attached = self._store.get(accelerator_id)
            assert attached is not None
        except BaseException:
            self._end_unknown(record)
            raise
        self._tokens.set(accelerator_id, record.token_sha256)
        self._leases.grant(accelerator_id, record.lease_seconds)
        self._context.launcher.refill()
        extra = {"accelerator_id": accelerator_id, "type": record.kind.name, "tenant": record.tenant}
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
