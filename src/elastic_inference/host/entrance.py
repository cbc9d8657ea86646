"""Who may take capacity now and who waits for it: one at a time, and written down, so that a restart loses nobody."""

from __future__ import annotations

import secrets
import threading
from typing import Any

from elastic_inference.clock import Clock
from elastic_inference.errors import CapacityExceeded, ElasticInferenceError, TenantQuotaExceeded
from elastic_inference.host.accounts.capacity import Allocation
from elastic_inference.host.accounts.catalogue import AcceleratorType
from elastic_inference.host.accounts.line import MAX_WAITING, Line, Room, Waiter
from elastic_inference.host.accounts.scope import OPERATOR
from elastic_inference.host.accounts.stock import Check, Stock
from elastic_inference.host.accounts.tenants import MAX_PRIORITY, Quota
from elastic_inference.host.accounts.wanted import Waiting, Wanted
from elastic_inference.host.tenancy import Tenancy

_ASKS_PER_SECOND = 20  # of all that wait together
_MAX_ASK_SECONDS = 10.0  # well below the line's patience


class Entrance:
    """Gives capacity away.

    Args:
        stock: Of a host, or of a pool's hosts.
        clock: Which goes on over restarts of the host, as what stands in the database does.
    """

    def __init__(self, stock: Stock[Any], tenancy: Tenancy, clock: Clock) -> None:
        self._stock = stock
        self._tenancy = tenancy
        self._clock = clock
        self._lock = threading.Lock()
        self._line = Line(clock, tenancy.store.list_waiters())

    def take(self, accelerator_id: str, kind: AcceleratorType, wanted: Wanted) -> Allocation | Waiting:
        """Hold what a type needs, or wait for it.

        Raises:
            CapacityExceeded: It does not fit, and whoever asks does not wait; or it never will.
            TenantQuotaExceeded: The tenant may not have that.
        """
        quota = self._tenancy.quota(wanted.tenant)
        quota.check_request(wanted.tenant, kind.name, wanted.priority)
        with self._lock:
            waiter = self._line.look(wanted.ticket)
            if waiter is None or (waiter.tenant, waiter.type_name) != (wanted.tenant, kind.name):
                waiter = self._new(wanted, self._clock.now())
            allocation = self._try(accelerator_id, kind, waiter, quota)
            if allocation is None:
                return self._wait(waiter, kind, wanted, quota)
            self._line.leave(waiter.ticket)
            return allocation

    def rejoin(self, ticket: str) -> Waiting | None:
        """Let one stand where it stood before its turn came, which led to nothing; None where it waits no more."""
        with self._lock:
            waiter = self._written(ticket)
            if waiter is None:
                return None
            self._line.join(waiter)
            return self._waiting(waiter)

    def keep_from(self, wanted: Wanted, asked_at: float, room: Room) -> None:
        """Keep in a room what those wait for that stand in front of one whose turn came, and which has to go elsewhere.

        Args:
            asked_at: For capacity, where it did not wait.
        """
        with self._lock:
            waiter = self._written(wanted.ticket) or self._new(wanted, asked_at)
            self._line.keep_from(waiter, room, self._may_have)

    def _written(self, ticket: str | None) -> Waiter | None:
        return next((w for w in self._tenancy.store.list_waiters() if w.ticket == ticket), None)

    def leave(self, ticket: str, tenant: str | None = None) -> bool:
        """Take a waiter out of the line, also of what is written down.

        Args:
            tenant: The only one whose ticket it may be; None: any.

        Returns:
            Whether it waited here.
        """
        with self._lock:
            waiter = self._line.look(ticket)
            if waiter is not None and tenant not in (None, waiter.tenant):
                return False
            self._line.leave(ticket)
            self._tenancy.store.remove_waiters([ticket])
            return waiter is not None

    def look(self) -> None:
        """Forget those that have not asked again for too long, and those whose tenant is gone."""
        with self._lock:
            known = {tenant.name for tenant in self._tenancy.list_all()} | {OPERATOR}
            gone = {*self._line.gone(), *(w.ticket for w in self._line.waiters() if w.tenant not in known)}
            if gone:
                self._tenancy.store.remove_waiters(gone)
                for ticket in gone:
                    self._line.leave(ticket)

    def rows(self) -> list[dict[str, Any]]:
        """Return what is shown of those that wait, the next in front; not their tickets."""
        with self._lock:
            waiters = self._line.waiters()
        return [
            {
                "place": place,
                "tenant": waiter.tenant,
                "type": waiter.type_name,
                "priority": waiter.priority,
                "since": round(waiter.asked_at),
            }
            for place, waiter in enumerate(waiters, 1)
        ]

    def _new(self, wanted: Wanted, asked_at: float) -> Waiter:
        priority = max(0, min(MAX_PRIORITY, wanted.priority))
        ticket = secrets.token_hex(16)
        return Waiter(ticket, wanted.tenant, wanted.type_name, priority, asked_at, number=1 << 62)

    def _try(
        self, accelerator_id: str, kind: AcceleratorType, waiter: Waiter, quota: Quota
    ) -> Allocation | None:
        room = self._stock.room()
        if not self._line.has_turn(waiter, room, self._may_have):
            return None
        check = _check_of(quota, waiter.tenant)
        try:
            return self._stock.take(accelerator_id, kind, waiter.tenant, check, room)
        except CapacityExceeded:  # a resize was quicker
            return None

    def _may_have(self, waiter: Waiter, allocation: Allocation) -> bool:
        held = self._stock.held_by(waiter.tenant).values()
        try:
            _check_of(self._tenancy.quota(waiter.tenant), waiter.tenant)(held, allocation)
        except TenantQuotaExceeded:
            return False
        return True

    def _wait(self, waiter: Waiter, kind: AcceleratorType, wanted: Wanted, quota: Quota) -> Waiting:
        on_its_own = self._stock.on_its_own(kind)  # or there is no device that is so large
        is_new = self._line.look(waiter.ticket) is None
        num_others = self._line.num_of(waiter.tenant) - (not is_new)
        held = self._stock.held_by(waiter.tenant).values()
        quota.check(waiter.tenant, held, on_its_own, num_others if wanted.may_wait else 0)
        if not wanted.may_wait:
            raise self._refusal(kind, wanted)
        if is_new:
            if len(self._line) >= MAX_WAITING:
                raise CapacityExceeded(
                    f"{len(self._line)} wait for capacity already, the most that may wait here; try again later",
                    requested=kind.name,
                    available="no place in the line",
                )
            waiter = self._tenancy.store.add_waiter(waiter)
            self._line.join(waiter)
        return self._waiting(waiter)

    def _waiting(self, waiter: Waiter) -> Waiting:
        place, num_waiting = self._line.place(waiter), len(self._line)
        ask_seconds = 1.0 if place == 1 else min(_MAX_ASK_SECONDS, max(1.0, num_waiting / _ASKS_PER_SECOND))
        return Waiting(waiter.ticket, place, num_waiting, ask_seconds)

    def _refusal(self, kind: AcceleratorType, wanted: Wanted) -> ElasticInferenceError:
        how = "wait for it with `ei attach --wait 10min`, or ask for less"
        if wanted.tenant != OPERATOR:  # what is left says what others have
            text = f"type {kind.name!r} does not fit now beside what is attached or waited for; {how}"
            return CapacityExceeded(text, requested=kind.name, available="not that much now")
        refusal = self._stock.refusal(kind)
        return refusal or CapacityExceeded(
            f"{len(self._line)} wait in front of it for what is left; {how}",
            requested=kind.name,
            available="kept for those that wait",
        )


def _check_of(quota: Quota, tenant: str) -> Check:
    return lambda held, allocation: quota.check(tenant, held, allocation)
