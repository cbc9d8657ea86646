"""Who has the device next, and for how long: fair queueing over measured device seconds. Pure; time is an argument.

Each tenant has a level, in device seconds: its share of the time that passed less what it used. Above 0 it is behind
its share and has credit; below 0 it is ahead. Level over weight is by how much virtual time it is behind, so the tenant
with the most of it runs next: start-time fair queueing, whose virtual time is the clock. That is exact because every
moment in which the device is held is charged to somebody, the hand-over included: the levels of tenants who share a
busy device add up to a constant, and none can drift.

What a simulation showed, and a simulation holds (tests/limits/lease/test_shares.py):

- The running request is charged as it runs. Charged at its end, one of 100 ms made a small tenant wait 45 times.
- Whoever begins gets the whole request at once. Only one that is ahead is cut, and only while one waits whose credit
  carries its own whole request. Cutting everybody into 1 ms pieces is the worst of all: p99 = request : share.
- A release says whether more waits. Two closed loops that release before they ask again alternate 1:1 whatever
  their weights. For clients that send one request at a time, whose next comes shortly after, the lease lingers.
- Idle time goes to tenants that may burst and is forgiven: nobody pays back later what nobody wanted.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

from elastic_inference.limits.lease.tenant import (
    MAX_LINGER_SECONDS,
    ROUNDING_SECONDS,
    Tenant,
)
from elastic_inference.limits.lease.use import Use

MAX_UNREPORTED_SECONDS = 0.05
"""How long a holder may continue without writing into the accounts what it did, so that others see it soon.

It counts from the beginning of the lease: counted from the last look, whoever looked more often put it off for ever.
"""


@dataclass(slots=True)
class DeviceTurns:
    """The turns of one device. Every method settles all accounts first, so the order of calls is the order of time.

    Attributes:
        tenants: By slot.
        holder: The slot that has the device, None while it is free.
        epoch: Number of the present lease; a holder whose lease was taken back finds another one here.
        granted_at: Since when it has it.
        charged_at: Up to when the holder has been charged.
        lingers_until: Set while the holder has no request and its next is awaited.
        turn_seconds: Device seconds by which a holder with more waiting may be ahead before another is let in at the
            end of a request; many times what a hand-over costs, so that short requests do not pay for one each.
    """

    tenants: dict[int, Tenant] = field(default_factory=dict)
    holder: int | None = None
    epoch: int = 0
    granted_at: float = 0.0
    charged_at: float = 0.0
    lingers_until: float | None = None
    turn_seconds: float = 0.0

    # What tenants do

    def join(self, slot: int, tenant: Tenant, now: float) -> None:
        """Let a tenant in at the present virtual time: it has no credit for the time before."""
        tenant.settled_at = now
        self.tenants[slot] = tenant

    def ask(self, slot: int, now: float) -> bool:
        """Want the device for a request; True where it is this tenant's at once. Asking twice is fine."""
        tenant = self.tenants[slot]
        if self.holder == slot:
            self._stop_lingering(tenant, now)
        elif not tenant.is_waiting:
            tenant.settle(now, is_idle=True)
            tenant.note_gap(now)
            self._wait(tenant, now, is_newcomer=now - tenant.left_at > MAX_LINGER_SECONDS)
        self.look(now)
        return self.holder == slot

    def release(self, slot: int, epoch: int, now: float, has_more: bool) -> bool:
        """Give the device back at the end of a request.

        Args:
            has_more: Whether the next request waits already; then it asks in the same step.

        Returns:
            False where the lease had been taken back before; the tenant then has to ask again.
        """
        if not self._holds(slot, epoch):
            return False
        self._settle(now)
        tenant = self.tenants[slot]
        tenant.end_request(now)
        if has_more:
            self._wait(tenant, now)
            self._hand_on(now, keeper=slot)
        elif self._should_linger(slot):
            self.lingers_until = now + tenant.linger_seconds
        else:
            self._hand_on(now)
        return True

    def note_use(self, slot: int, epoch: int, use: Use, now: float) -> None:
        """Write down how the present lease was used, before it is given back or goes on.

        Its gaps, such as waking a process, are borne by all in proportion to their weights. Charged to whoever was
        let in, tenants with short requests paid for most of them: asked 25:75 with 2 against 100 ms, they got 23.6.
        """
        if not self._holds(slot, epoch):
            return
        self._settle(now)
        for tenant in self.tenants.values():
            tenant.level_seconds -= tenant.weight * use.gap_seconds
        holder = self.tenants[slot]
        holder.level_seconds += use.gap_seconds
        holder.device_seconds -= use.gap_seconds
        holder.request_seconds -= use.gap_seconds
        if use.num_ended:
            holder.num_leases += use.num_ended
            holder.longest_seconds = max(holder.longest_seconds, use.longest_seconds)
            holder.request_seconds = now - use.started_at
        holder.request_seconds = max(0.0, holder.request_seconds)

    def renews_until(self, now: float) -> float:
        """Up to when the holder may go on with its next request without asking, if nobody else comes.

        Until then a release with more waiting would give the device to it again. All that wait are taken for ready,
        so this may be too early, never too late. Settled accounts only.
        """
        if self.holder is None or self.lingers_until is not None:
            return -math.inf
        tenant = self.tenants[self.holder]
        ahead_seconds = tenant.level_seconds + self.turn_seconds
        bounds = [ahead_seconds - tenant.weight * other.lag_seconds for other in self._waiting()]
        if tenant.weight < 1 and (bounds or not tenant.may_burst):
            bounds.append(ahead_seconds / (1 - tenant.weight))
        bounds.append(self.granted_at + MAX_UNREPORTED_SECONDS - now)
        return now + min(bounds)

    def must_yield(self, slot: int, epoch: int, now: float) -> bool:
        """Whether the holder has to let another in at this point inside its request, or has lost its lease."""
        if not self._holds(slot, epoch):
            return True
        self._settle(now)
        return self.yields_at(now) <= now

    def yields_at(self, now: float) -> float:
        """From when on the holder has to let another in, if nobody else comes; inf: never. Settled accounts only.

        That is when it is ahead of its share and one who waits has the credit for a whole request. So a holder need
        not ask at each point where it could be cut: it compares this, written beside the accounts, with its clock.
        """
        missing = [tenant.missing_seconds(self.turn_seconds) / tenant.weight for tenant in self._waiting()]
        if self.holder is None or not missing:
            return math.inf
        tenant = self.tenants[self.holder]
        if tenant.weight == 1:
            return now if not tenant.has_credit else math.inf
        credit_seconds = (tenant.level_seconds + ROUNDING_SECONDS) / (1 - tenant.weight)
        return now + max(credit_seconds, min(missing))

    def interrupt(self, slot: int, epoch: int, now: float) -> None:
        """Give the device back inside a request, and wait for its rest."""
        tenant = self.tenants[slot]
        if self._holds(slot, epoch):
            self._settle(now)
            tenant.num_cuts += 1
            self._wait(tenant, now)
            self._hand_on(now)
        else:
            self.ask(slot, now)

    def withdraw(self, slot: int, now: float) -> None:
        """Want nothing any more: a wait is broken off, a lease given back."""
        self._settle(now)
        self.tenants[slot].is_waiting = False
        if self.holder == slot:
            self.tenants[slot].end_request(now)
            self._hand_on(now)

    def look(self, now: float) -> None:
        """Hand the device on where it is free, or its holder's next request did not come in time."""
        self._settle(now)
        if self.holder is None or (self.lingers_until is not None and self._is_lingering_over(now)):
            self._hand_on(now)

    def look_again_at(self, slot: int, now: float) -> float | None:
        """When one that waits has to look by itself; None: another's release or cut will wake it."""
        if self.lingers_until is not None:
            return self.lingers_until
        if self.holder is not None:
            return None
        return now + max(0.0, -self.tenants[slot].lag_seconds)

    # What the host does

    def take_back(self, now: float) -> None:
        """Take the device from a holder that died or stopped; it is charged until now and waits for nothing."""
        if self.holder is not None:
            self.withdraw(self.holder, now)

    # Inside

    def _holds(self, slot: int, epoch: int) -> bool:
        return self.holder == slot and self.epoch == epoch

    def _waiting(self) -> Iterator[Tenant]:
        return (tenant for tenant in self.tenants.values() if tenant.is_waiting)

    def _wait(self, tenant: Tenant, now: float, is_newcomer: bool = False) -> None:
        tenant.is_waiting = True
        tenant.is_newcomer = is_newcomer
        tenant.waiting_since = now

    def _settle(self, now: float) -> None:
        for slot, tenant in self.tenants.items():
            tenant.settle(now, is_idle=not tenant.is_waiting and slot != self.holder)
        self._charge(now)
        self._forgive()

    def _charge(self, now: float) -> None:
        if self.holder is None:
            return
        tenant = self.tenants[self.holder]
        used_seconds = max(0.0, now - self.charged_at)
        tenant.level_seconds -= used_seconds
        tenant.device_seconds += used_seconds
        if self.lingers_until is None:
            tenant.request_seconds += used_seconds
        self.charged_at = max(now, self.charged_at)

    def _forgive(self) -> None:
        """Lift those that may burst, all by the same virtual time, while nobody who wants the device has credit.

        What they take then is idle time: they need not pay it back, and keep their order among themselves.
        """
        active = [t for slot, t in self.tenants.items() if t.is_waiting or slot == self.holder]
        lags = [tenant.lag_seconds for tenant in active if tenant.may_burst]
        if not lags or any(tenant.level_seconds >= 0 for tenant in active):
            return
        lift_seconds = -max(lags)
        for tenant in self.tenants.values():
            if tenant.may_burst and tenant.level_seconds < 0:
                tenant.level_seconds = min(0.0, tenant.level_seconds + lift_seconds * tenant.weight)

    def _hand_on(self, now: float, keeper: int | None = None) -> None:
        self.holder = self.lingers_until = None
        slot = self._next(keeper)
        if slot is None:
            return
        tenant = self.tenants[slot]
        tenant.is_waiting = False
        tenant.wait_seconds += now - tenant.waiting_since
        tenant.num_leases += 1
        self.holder = slot
        self.epoch += 1
        self.granted_at = self.charged_at = now

    def _next(self, keeper: int | None) -> int | None:
        """Whoever is most behind among those with credit; else, the time being idle, among those that may burst."""
        lags = {slot: tenant.lag_seconds for slot, tenant in self.tenants.items() if tenant.is_waiting}
        if keeper in lags:
            lags[keeper] += self.turn_seconds / self.tenants[keeper].weight
        ready = [slot for slot, lag in lags.items() if lag * self.tenants[slot].weight >= -ROUNDING_SECONDS]
        ready = ready or [slot for slot in lags if self.tenants[slot].may_burst]
        if not ready:
            return None
        return max(ready, key=lambda slot: (lags[slot], -self.tenants[slot].waiting_since))

    def _should_linger(self, slot: int) -> bool:
        """Whether the device is kept for the holder's next request: only where it would win against those that wait."""
        tenant = self.tenants[slot]
        if not tenant.linger_seconds or not tenant.has_credit:
            return False
        lags = [other.lag_seconds for other in self._waiting()]
        return bool(lags) and tenant.lag_seconds >= max(lags)

    def _stop_lingering(self, tenant: Tenant, now: float) -> None:
        if self.lingers_until is not None:
            self._settle(now)
            tenant.note_gap(now)
            self.lingers_until = None

    def _is_lingering_over(self, now: float) -> bool:
        assert self.holder is not None
        assert self.lingers_until is not None
        lag_seconds = self.tenants[self.holder].lag_seconds
        return now >= self.lingers_until or any(other.lag_seconds > lag_seconds for other in self._waiting())
