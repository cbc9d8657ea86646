"""Who waits for capacity, and whose turn it is. Pure: it asks the clock alone, starts nothing and keeps nothing.

First come, first served within a priority. A step of priority is worth `STEP_SECONDS` of having come earlier: so the
order of two never changes while they wait, a waiter is passed only by those who come within a bounded time, and nobody
starves. Whoever waits for a large part is not passed for ever by small ones: what it waits for is kept from those
behind it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from elastic_inference.clock import Clock
from elastic_inference.host.accounts.capacity import Allocation

MAX_WAITING = 500
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


class Room(Protocol):
    """What devices have left, of one host or of many: made for one question, and changed by it."""

    def set_aside(self, waiter: Waiter, may_have: Callable[[Allocation], bool]) -> None:
        """Hold what somebody waits for; where that does not fit now, keep a place for it from those behind.

        Args:
            may_have: Whether it may have that at all now.
        """

    def fits(self, type_name: str) -> bool:
        """Whether a type fits beside all that."""


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
        self, waiter: Waiter, room: Room, may_have: Callable[[Waiter, Allocation], bool] = lambda *_: True
    ) -> bool:
        """Whether a waiter fits beside what is held and what those in front of it wait for.

        Args:
            room: What is left now; this changes it.
            may_have: Whether somebody in front may have something at all now; one that may not, holds nobody up.
        """
        self.keep_from(waiter, room, may_have)
        return room.fits(waiter.type_name)

    def keep_from(
        self, waiter: Waiter, room: Room, may_have: Callable[[Waiter, Allocation], bool] = lambda *_: True
    ) -> None:
        """Keep in a room what those in front of a waiter wait for; it need not stand in the line (any more)."""
        for other in self.waiters():
            if other.rank >= waiter.rank:
                break
            room.set_aside(other, partial(may_have, other))
