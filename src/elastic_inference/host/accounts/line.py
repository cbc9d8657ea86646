"""Who waits for capacity, and whose turn it is. Pure: it asks the clock alone, starts nothing and keeps nothing.

First come, first served within a priority. A step of priority is worth `STEP_SECONDS` of having come earlier: so the
order of two never changes while they wait, a waiter is passed only by those who come within a bounded time, and nobody
starves. Whoever waits for a large part is not passed for ever by small ones: what it waits for is kept from those
behind it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

from elastic_inference.clock import Clock
from elastic_inference.errors import CapacityExceeded
from elastic_inference.host.accounts.capacity import Allocation, Capacity
from elastic_inference.host.accounts.catalogue import AcceleratorType

STEP_SECONDS = 60.0
PATIENCE_SECONDS = 30.0
"""A waiter that has not asked again for so long has gone."""


@dataclass(frozen=True)
class Waiter:
    """One that waits.

    Attributes:
        ticket: By which it asks again; nobody else knows it.
        tenant: "" for the operator.
        priority: 0 to `MAX_PRIORITY`; the higher, the sooner.
        asked_at: Seconds of the clock.
        number: Rises from each to the next.
    """

    ticket: str
    tenant: str
    type_name: str
    priority: int
    asked_at: float
    number: int = 0

    @property
    def rank(self) -> tuple[float, int]:
        """The lower, the sooner."""
        return self.asked_at - self.priority * STEP_SECONDS, self.number


class Line:
    """All that wait. Not safe for several threads: the caller holds a lock."""

    def __init__(self, clock: Clock, waiters: Iterable[Waiter] = ()) -> None:
        self._clock = clock
        now = clock.now()
        self._waiters = {waiter.ticket: waiter for waiter in waiters}
        self._seen_at = dict.fromkeys(self._waiters, now)  # who waited before a restart has time to ask again

    def __len__(self) -> int:
        return len(self._waiters)

    def join(self, waiter: Waiter) -> None:
        """Wait from now on."""
        self._waiters[waiter.ticket] = waiter
        self._seen_at[waiter.ticket] = self._clock.now()

    def look(self, ticket: str | None) -> Waiter | None:
        """Note that a waiter is still there; None for one that does not wait here (any more)."""
        waiter = self._waiters.get(ticket or "")
        if waiter is not None:
            self._seen_at[waiter.ticket] = self._clock.now()
        return waiter

    def leave(self, ticket: str) -> Waiter | None:
        """Take a waiter out; an unknown one is fine."""
        self._seen_at.pop(ticket, None)
        return self._waiters.pop(ticket, None)

    def gone(self) -> tuple[str, ...]:
        """Tickets of those that have not asked for too long."""
        now = self._clock.now()
        return tuple(key for key, seen in self._seen_at.items() if now - seen >= PATIENCE_SECONDS)

    def waiters(self) -> tuple[Waiter, ...]:
        """All, whoever is to be served first in front."""
        return tuple(sorted(self._waiters.values(), key=lambda waiter: waiter.rank))

    def num_of(self, tenant: str) -> int:
        """How many of a tenant wait."""
        return sum(waiter.tenant == tenant for waiter in self._waiters.values())

    def place(self, waiter: Waiter) -> int:
        """How many are in front of it, and itself: 1 is the next."""
        return 1 + sum(other.rank < waiter.rank for other in self._waiters.values())

    def has_turn(
        self,
        waiter: Waiter,
        capacity: Capacity,
        kinds: Mapping[str, AcceleratorType],
        may_have: Callable[[Waiter, Allocation], bool] = lambda *_: True,
    ) -> bool:
        """Whether a waiter fits beside what is held and what those in front of it wait for.

        Args:
            kinds: Types by name.
            may_have: Whether somebody in front may have something at all now; one that may not, holds nobody up.
        """
        blocked: frozenset[str] = frozenset()
        for other in self.waiters():
            if other.rank >= waiter.rank:
                break
            kind = kinds.get(other.type_name)
            if kind is not None:
                capacity, blocked = _behind(other, kind, capacity, blocked, may_have)
        return _place(capacity, kinds[waiter.type_name], blocked) is not None


def _behind(
    waiter: Waiter,
    kind: AcceleratorType,
    capacity: Capacity,
    blocked: frozenset[str],
    may_have: Callable[[Waiter, Allocation], bool],
) -> tuple[Capacity, frozenset[str]]:
    """Return what is left for those behind a waiter, and the devices that are kept from them."""
    allocation = _place(capacity, kind, blocked)
    if allocation is not None:
        allocation = replace(allocation, tenant=waiter.tenant)
        if not may_have(waiter, allocation):
            return capacity, blocked
        return capacity.with_held(waiter.ticket, allocation), blocked
    empty = replace(capacity, held={})
    for device in capacity.devices:
        wanted = _place(empty.only(device.name), kind, frozenset())
        if wanted is not None:
            blocked |= {device.name}
            capacity, blocked = _keep_host_part(waiter, wanted, capacity, blocked)
    return capacity, blocked


def _keep_host_part(
    waiter: Waiter, wanted: Allocation, capacity: Capacity, blocked: frozenset[str]
) -> tuple[Capacity, frozenset[str]]:
    """Keep from those behind what a waiter for a GPU needs of the host, and no more than that."""
    host = capacity.host_budget
    if host is None or not wanted.cpu_share:
        return capacity, blocked
    share, num_bytes = capacity.left(host)
    if share < wanted.cpu_share or num_bytes < wanted.host_memory_bytes:
        return capacity, blocked | {host.name}
    part = Allocation(host.name, wanted.cpu_share, wanted.host_memory_bytes)
    return capacity.with_held(waiter.ticket, part), blocked


def _place(capacity: Capacity, kind: AcceleratorType, blocked: frozenset[str]) -> Allocation | None:
    """Return where a type fits now; None where it does not, or only on what is kept for others."""
    free = tuple(device for device in capacity.devices if device.name not in blocked)
    host = capacity.host_budget
    try:
        allocation = replace(capacity, devices=free, host=host).place(kind)
    except CapacityExceeded:
        return None
    is_kept = host is not None and allocation.cpu_share > 0 and host.name in blocked
    return None if is_kept else allocation
