"""When a lease is taken back from its holder, and when a process that blocks all others is ended. Decisions only.

Whoever waits ends the lease of a process that has died (`holder`), also while the host is away. Stopped processes and
leases without an end are for the host to see, for it alone may end a process.
"""

from __future__ import annotations

from dataclasses import dataclass

LOOK_SECONDS = 0.025
"""Between two looks of the host; one that is stopped in two of them has lost its lease."""

LEASE_BASE_SECONDS = 0.9
LEASE_PER_LONGEST = 4.0
"""A lease may last the base and this many times the device's longest request so far, while others wait for it."""

LOCK_SECONDS = 1.0
"""How long a process may hold the lock that a change takes 20 us for."""


@dataclass(frozen=True)
class Seen:
    """What one look at a device shows.

    Attributes:
        holder: Slot that has the lease, None while the device is free.
        epoch: Number of the lease.
        is_alive, is_stopped: The holder's process.
        longest_seconds: The longest request of any tenant so far.
        num_waiting: Tenants that wait.
        lock_pid: The process that holds the segment's lock, None for nobody.
        is_lock_stopped: Whether that process is stopped.
    """

    holder: int | None
    epoch: int
    is_alive: bool = True
    is_stopped: bool = False
    longest_seconds: float = 0.0
    num_waiting: int = 0
    lock_pid: int | None = None
    is_lock_stopped: bool = False


@dataclass(frozen=True)
class Verdict:
    """What is to be done.

    Attributes:
        take_back: Why the present lease is to be taken back, None for not.
        kill_pid: A process to end, because it holds the lock and does not go on; None for none.
    """

    take_back: str | None = None
    kill_pid: int | None = None


class LeaseWatch:
    """Judges one device from look to look."""

    def __init__(self) -> None:
        self._epoch: int | None = None
        self._wanted_since = 0.0  # others wait, and the lease is the same
        self._was_stopped = False
        self._lock_pid: int | None = None
        self._lock_since = 0.0
        self._was_lock_stopped = False

    def judge(self, seen: Seen, now: float) -> Verdict:
        """Return what the present look, after those before it, asks for."""
        if seen.epoch != self._epoch or seen.holder is None:
            self._epoch, self._wanted_since, self._was_stopped = seen.epoch, now, False
        if not seen.num_waiting:
            self._wanted_since = now
        if seen.lock_pid != self._lock_pid:
            self._lock_pid, self._lock_since, self._was_lock_stopped = seen.lock_pid, now, False
        verdict = Verdict(self._why_taken_back(seen, now), self._whom_to_kill(seen, now))
        self._was_stopped = seen.is_stopped
        self._was_lock_stopped = seen.is_lock_stopped
        return verdict

    def _why_taken_back(self, seen: Seen, now: float) -> str | None:
        if seen.holder is None:
            return None
        if not seen.is_alive:
            return "its process has ended"
        if seen.is_stopped and self._was_stopped:
            return "its process is stopped"
        bound_seconds = LEASE_BASE_SECONDS + LEASE_PER_LONGEST * seen.longest_seconds
        if seen.num_waiting and now - self._wanted_since > bound_seconds:
            return f"it has lasted for more than {bound_seconds:.3g} s, and others wait"
        return None

    def _whom_to_kill(self, seen: Seen, now: float) -> int | None:
        """Find a process stopped in the 20 us in which it changes the turns: nothing else would free the lock."""
        if seen.lock_pid is None:
            return None
        is_stuck = seen.is_lock_stopped and self._was_lock_stopped
        return seen.lock_pid if is_stuck or now - self._lock_since > LOCK_SECONDS else None
