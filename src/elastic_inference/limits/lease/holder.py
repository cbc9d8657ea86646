"""An accelerator's end of the lease: take it before a request, look at each point where it may be cut, give it back."""

from __future__ import annotations

import math
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from elastic_inference.errors import DeadlineExceeded, InvalidInput
from elastic_inference.limits.lease.layout import NUM_SLOTS
from elastic_inference.limits.lease.memory import LeaseFiles
from elastic_inference.limits.lease.policy import DeviceTurns
from elastic_inference.limits.lease.segment import Segment
from elastic_inference.limits.lease.tenant import Tenant
from elastic_inference.limits.lease.use import Use

LOOK_SECONDS = 0.05
"""How often one that waits looks by itself whether the holder still lives: the host that would see it may be away."""


@dataclass(frozen=True)
class LeaseConfig:
    """Where an accelerator finds its lease.

    Attributes:
        rules_fd, turns_fd: Descriptors of the device's segment in the process that reads this.
        slot: The accelerator's own.
    """

    rules_fd: int
    turns_fd: int
    slot: int

    def __post_init__(self) -> None:
        if not 0 <= self.slot < NUM_SLOTS:
            raise InvalidInput(f"lease slot {self.slot} is not between 0 and {NUM_SLOTS - 1}")

    @property
    def fds(self) -> tuple[int, int]:
        """The descriptors that go with it to another process."""
        return self.rules_fd, self.turns_fd


@dataclass(frozen=True)
class LeaseStatistics:
    """A frozen look at one tenant's account.

    Attributes:
        weight: Share of the device.
        level_seconds: Device seconds by which it is behind its share; below 0: ahead.
        device_seconds: In which it had the device.
        wait_seconds: In which it waited for the device.
        num_leases, num_cuts: Leases had, and requests interrupted for another tenant.
        num_lost: Leases that were taken back, as this process noticed.
    """

    weight: float
    level_seconds: float
    device_seconds: float
    wait_seconds: float
    num_leases: int
    num_cuts: int
    num_lost: int


class DeviceLease:
    """The lease as one process uses it: one thread at a time has a request on the device.

    Args:
        open_segment: Opens the segment; called by `open`.
        now: The clock of the deadlines and of `yields_at`: time.monotonic, which all processes share.
    """

    def __init__(self, config: LeaseConfig, now: Callable[[], float] = time.monotonic) -> None:
        self._slot = config.slot
        self._files = LeaseFiles(*config.fds)
        self._now = now
        self._epoch = 0
        self._use = Use()
        self._reported_seconds = 0.0  # of requests that ended without a look at the accounts
        self._device_seconds = 0.0
        self._num_lost = 0
        self._is_renewed = False  # the last release left the device here for the next request
        self._owner: int | None = None  # the thread that runs a request

    def open(self) -> None:
        """Map the segment and say that this process lives; what an earlier process of the slot left is put right.

        Raises:
            InvalidInput: The slot is not given away, or another process has it.
        """
        self._segment = Segment(self._files)
        if self._slot not in self._segment.rules.in_use():
            raise InvalidInput(f"lease slot {self._slot} belongs to nobody")
        if not self._segment.begin_life(self._slot):
            pid = self._segment.process(self._slot)
            raise InvalidInput(f"lease slot {self._slot} is process {pid}'s, not {os.getpid()}'s")
        self._segment.change(self._begin)

    def close(self) -> None:
        """Give back whatever is held; twice is fine."""
        self.withdraw()
        self._segment.close()

    def acquire(self, deadline: float | None) -> float:
        """Wait for the device, for one request.

        Args:
            deadline: On the clock of time.monotonic; None waits without limit.

        Returns:
            Seconds waited.

        Raises:
            DeadlineExceeded: It did not come in time; nothing is held.
        """
        asked_at = self._now()
        peek = self._segment.accounts.peek()
        is_ours = (peek.holder, peek.epoch) == (self._slot, self._epoch)
        if self._is_renewed and is_ours and self._use.num_ended:
            now = self._now()
            self._use.go_on(now)
        else:
            if not (self._is_renewed and is_ours):
                self._wait(self._ask, deadline)
            now = self._begin_use()
        self._is_renewed = False
        self._owner = threading.get_ident()
        return now - asked_at

    def release(self, has_more: bool) -> float:
        """Give the device back at the end of a request.

        Args:
            has_more: Whether another request waits in this process, which will then `acquire`.

        Returns:
            Device seconds that the request was charged.
        """
        self._owner = None
        if has_more:
            now, peek = self._now(), self._segment.accounts.peek()
            if (peek.holder, peek.epoch) == (self._slot, self._epoch) and now < peek.renews_until:
                self._is_renewed = True
                used_seconds = self._use.end_and_renew(now)
                self._reported_seconds += used_seconds
                return used_seconds

        def action(turns: DeviceTurns, now: float) -> float:
            tenant = self._own(turns, now)
            turns.note_use(self._slot, self._epoch, self._use, now)
            if not turns.release(self._slot, self._epoch, now, has_more):
                self._num_lost += 1
                if has_more:
                    turns.ask(self._slot, now)
            self._is_renewed = self._note(turns)
            return tenant.device_seconds

        device_seconds = self._segment.change(action)
        used_seconds = device_seconds - self._device_seconds - self._reported_seconds
        self._device_seconds, self._reported_seconds = device_seconds, 0.0
        self._use.num_ended = 0
        return max(0.0, used_seconds)

    def withdraw(self) -> None:
        """Want nothing any more, after a release that said there was more."""

        def action(turns: DeviceTurns, now: float) -> None:
            self._own(turns, now)
            turns.withdraw(self._slot, now)

        self._is_renewed = False
        self._use.num_ended = 0
        self._segment.change(action)

    def must_yield(self) -> bool:
        """Whether this request has to let another in here, or has lost its lease; a look of a microsecond.

        Only for the thread that runs the request; for others, such as one that loads a model, it is False.
        """
        if self._owner != threading.get_ident():
            return False
        peek = self._segment.accounts.peek()
        is_ours = (peek.holder, peek.epoch) == (self._slot, self._epoch)
        return not is_ours or self._now() >= peek.yields_at

    def checkpoint(self) -> None:
        """Let others in where they are due, at a point inside a request at which it can be cut, and wait for the rest.

        What was started on the device must have ended.
        """
        if self.must_yield():
            epoch = self._epoch
            self._wait(self._interrupt, deadline=None)
            if self._epoch != epoch:
                self._begin_use()

    def statistics(self) -> LeaseStatistics:
        """Return the present account."""

        def action(turns: DeviceTurns, now: float) -> LeaseStatistics:
            tenant = self._own(turns, now)
            return LeaseStatistics(
                tenant.weight,
                tenant.level_seconds,
                tenant.device_seconds,
                tenant.wait_seconds,
                tenant.num_leases,
                tenant.num_cuts,
                self._num_lost,
            )

        return self._segment.change(action)

    # Inside

    def _begin_use(self) -> float:
        """Return the first request of the present lease begins now."""
        now = self._now()
        self._use.begin(self._segment.accounts.peek().granted_at, now)
        return now

    def _begin(self, turns: DeviceTurns, now: float) -> None:
        self._device_seconds = self._own(turns, now).device_seconds
        turns.withdraw(self._slot, now)

    def _own(self, turns: DeviceTurns, now: float) -> Tenant:
        """Return the own account; a new one where the segment has lost it."""
        if self._slot not in turns.tenants:
            rule = self._segment.rules.in_use().get(self._slot)
            if rule is None:
                raise InvalidInput(f"lease slot {self._slot} was taken away")
            turns.join(self._slot, Tenant(rule.weight, rule.may_burst), now)
        return turns.tenants[self._slot]

    def _note(self, turns: DeviceTurns) -> bool:
        """Remember the present lease if it is ours to run a request with."""
        has_it = turns.holder == self._slot and turns.lingers_until is None
        if has_it:
            self._epoch = turns.epoch
        return has_it

    def _ask(self, turns: DeviceTurns, now: float) -> bool:
        self._own(turns, now)
        turns.ask(self._slot, now)
        return self._note(turns)

    def _interrupt(self, turns: DeviceTurns, now: float) -> bool:
        self._own(turns, now)
        if (turns.holder, turns.epoch) != (self._slot, self._epoch):
            self._num_lost += 1
        if turns.must_yield(self._slot, self._epoch, now):
            turns.note_use(self._slot, self._epoch, self._use, now)
            turns.interrupt(self._slot, self._epoch, now)
        return self._note(turns)

    def _wait(self, action: Callable[[DeviceTurns, float], bool], deadline: float | None) -> None:
        """Do `action`, then sleep and look until the device is ours."""
        while True:
            word = self._segment.word(self._slot)
            has_it, look_again_at = self._segment.change(
                lambda turns, now, action=action: (action(turns, now), turns.look_again_at(self._slot, now))  # type: ignore[misc]
            )
            if has_it:
                return
            now = self._now()
            if deadline is not None and now >= deadline:
                if self._segment.change(self._give_up):
                    return
                raise DeadlineExceeded(
                    "the device was not free for this request before its deadline; nothing ran"
                )
            until = min(
                now + LOOK_SECONDS, look_again_at or math.inf, math.inf if deadline is None else deadline
            )
            self._segment.wait(self._slot, word, until - now)
            if self._was_given():
                return
            self._end_lease_of_dead()
            action = self._ask

    def _was_given(self) -> bool:
        """Whether another has handed the device to us; all accounts are settled then, so no lock is needed."""
        peek = self._segment.accounts.peek()
        if peek.holder == self._slot:
            self._epoch = peek.epoch
        return peek.holder == self._slot

    def _give_up(self, turns: DeviceTurns, now: float) -> bool:
        """Withdraw, but for a device that came at the last moment."""
        if self._ask(turns, now):
            return True
        turns.withdraw(self._slot, now)
        return False

    def _end_lease_of_dead(self) -> None:
        """Take the device from a holder whose process has ended, as the host would."""
        holder, epoch, *_ = self._segment.accounts.peek()
        if 0 <= holder < NUM_SLOTS and holder != self._slot and self._segment.process(holder) is None:
            self._segment.change(lambda turns, now: take_back(turns, holder, epoch, now))


def take_back(turns: DeviceTurns, holder: int, epoch: int, now: float) -> bool:
    """Take a lease back, if it is still the one that was looked at."""
    if (turns.holder, turns.epoch) != (holder, epoch):
        return False
    turns.take_back(now)
    return True
