"""One accelerator's account with a shared device: what it is owed, what it is used to. Pure; time is an argument."""

from __future__ import annotations

import math
from dataclasses import dataclass

MIN_CREDIT_SECONDS = 0.002
"""What an idle tenant saves up at least, so that a first request starts at once."""

CREDIT_PER_REQUEST = 1.5
"""What it saves up, by its longest request: one that takes a little longer must not be cut just before its end."""

MAX_CREDIT_SECONDS = 1.0
"""What it saves up at most, however long its requests are: neighbours wait for credit."""

LONGEST_KEPT = 0.995
"""Of the longest request's length after each other request: one in a hundred long ones stays in memory."""

MAX_LINGER_SECONDS = 0.002
"""The longest gap between two requests of a closed loop that is waited for; on one machine it is about 0.3 ms."""

LINGER_PER_REQUEST = 0.5
"""The gap waited for, at most, as a part of the tenant's longest request: the tenant pays for it as for device time."""

LINGER_PER_GAP = 2.0
"""How much longer than the usual gap is waited."""

GAP_KEPT = 0.75
"""Of the usual gap with each new one."""

ROUNDING_SECONDS = 1e-6
"""A level this little below 0 is 0: figures of a tenant that waits for its own level to reach 0 are rounded."""


@dataclass(slots=True)
class Tenant:
    """One accelerator's account.

    Attributes:
        weight: Its share of the device, above 0 and up to 1; the weights of a device add up to 1 at most.
        may_burst: Whether it may use what its neighbours leave idle.
        level_seconds: Device seconds that it is behind its share (below 0: ahead), at `settled_at`.
        longest_seconds: Its longest request, fading slowly.
        request_seconds: Device seconds of the request that runs or was cut, so far.
        gap_seconds: The usual time from a release without more waiting to the next question; inf: unknown.
        left_at: When it released last.
        is_waiting: Whether it waits for the device, since `waiting_since`.
        is_newcomer: Whether it wanted nothing for a while before it asked; else it goes on asking.
        device_seconds, wait_seconds, num_leases, num_cuts: Since it joined.
    """

    weight: float
    may_burst: bool = False
    level_seconds: float = 0.0
    settled_at: float = 0.0
    longest_seconds: float = 0.0
    request_seconds: float = 0.0
    gap_seconds: float = math.inf
    left_at: float = 0.0
    is_waiting: bool = False
    waiting_since: float = 0.0
    is_newcomer: bool = True
    device_seconds: float = 0.0
    wait_seconds: float = 0.0
    num_leases: int = 0
    num_cuts: int = 0

    @property
    def lag_seconds(self) -> float:
        """Virtual time by which it is behind its share; what decides between those that wait."""
        return self.level_seconds / self.weight

    @property
    def has_credit(self) -> bool:
        """Whether it is not ahead of its share."""
        return self.level_seconds >= -ROUNDING_SECONDS

    @property
    def credit_limit_seconds(self) -> float:
        """What it can save up while it asks for nothing: more than a whole request."""
        return min(max(CREDIT_PER_REQUEST * self.longest_seconds, MIN_CREDIT_SECONDS), MAX_CREDIT_SECONDS)

    def missing_seconds(self, turn_seconds: float) -> float:
        """By how much its level falls short of carrying a whole request, counting what flows in while it runs.

        One that always asks waits for credit for a whole turn of its requests: its latency follows from its share
        anyway, and each interruption of another costs two switches.
        """
        whole_seconds = min(self.longest_seconds, MAX_CREDIT_SECONDS)
        if not self.is_newcomer:
            whole_seconds = max(whole_seconds, turn_seconds)
        return (1 - self.weight) * whole_seconds - self.level_seconds

    def settle(self, now: float, is_idle: bool) -> None:
        """Let flow in what the time since the last look brings.

        Idle time saves up a request and a half at most. More than that, from waiting for others, fades as fast as it
        came: cut off at once, a closed loop of short requests lost in each gap what it had waited for.
        """
        gained_seconds = self.weight * max(0.0, now - self.settled_at)
        self.settled_at = max(now, self.settled_at)
        if is_idle:
            kept_seconds = max(self.credit_limit_seconds, self.level_seconds - gained_seconds)
            self.level_seconds = min(self.level_seconds + gained_seconds, kept_seconds)
        else:
            self.level_seconds += gained_seconds

    def end_request(self, now: float) -> None:
        """Remember how long the request was."""
        self.longest_seconds = max(self.request_seconds, self.longest_seconds * LONGEST_KEPT)
        self.request_seconds = 0.0
        self.left_at = now

    def note_gap(self, now: float) -> None:
        """Learn how soon its requests follow each other."""
        if not self.num_leases:
            return
        gap_seconds = now - self.left_at
        known = math.isfinite(self.gap_seconds)
        self.gap_seconds = (
            GAP_KEPT * self.gap_seconds + (1 - GAP_KEPT) * gap_seconds if known else gap_seconds
        )

    @property
    def linger_seconds(self) -> float:
        """How long its next request is worth waiting for; 0: not at all."""
        wait_seconds = LINGER_PER_GAP * self.gap_seconds
        bound_seconds = min(MAX_LINGER_SECONDS, LINGER_PER_REQUEST * self.longest_seconds)
        return wait_seconds if wait_seconds <= bound_seconds else 0.0
