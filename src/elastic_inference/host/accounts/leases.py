"""Which accelerators' clients have vanished. Asks only the clock; detaching is another's."""

from __future__ import annotations

import threading
from dataclasses import dataclass

from elastic_inference.clock import Clock
from elastic_inference.errors import InvalidInput

MIN_LEASE_SECONDS = 1.0
MAX_LEASE_SECONDS = 30 * 86400.0


def check_lease(lease_seconds: float | None) -> float | None:
    """Return the same value, or InvalidInput where it is not None and beyond the limits."""
    if lease_seconds is not None and not MIN_LEASE_SECONDS <= lease_seconds <= MAX_LEASE_SECONDS:
        raise InvalidInput(
            f"lease_seconds {lease_seconds} is not between {MIN_LEASE_SECONDS:.0f} and {MAX_LEASE_SECONDS:.0f}"
        )
    return lease_seconds


@dataclass(frozen=True)
class Lease:
    """A promise to keep an accelerator until `expires_at` (seconds of the clock)."""

    lease_seconds: float
    expires_at: float


class LeaseBook:
    """All leases of a host, in memory alone.

    A host that starts again grants each lease anew: heartbeats that came while it was away were lost.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._leases: dict[str, Lease] = {}
        self._lock = threading.Lock()

    def grant(self, accelerator_id: str, lease_seconds: float | None) -> None:
        """Begin a lease, from now; None ends one: the accelerator stays until it is detached."""
        check_lease(lease_seconds)
        with self._lock:
            if lease_seconds is None:
                self._leases.pop(accelerator_id, None)
            else:
                self._leases[accelerator_id] = Lease(lease_seconds, self._clock.now() + lease_seconds)

    def renew(self, accelerator_id: str) -> float | None:
        """Note a heartbeat; gives the seconds until the lease ends, None where there is no lease."""
        with self._lock:
            lease = self._leases.get(accelerator_id)
            if lease is None:
                return None
            expires_at = self._clock.now() + lease.lease_seconds
            self._leases[accelerator_id] = Lease(lease.lease_seconds, expires_at)
            return lease.lease_seconds

    def left_seconds(self, accelerator_id: str) -> float | None:
        """Seconds until the lease ends, 0 at least; None where there is no lease."""
        with self._lock:
            lease = self._leases.get(accelerator_id)
            return None if lease is None else max(0.0, lease.expires_at - self._clock.now())

    def release(self, accelerator_id: str) -> None:
        """Forget a lease; an unknown one is fine."""
        self.grant(accelerator_id, None)

    def expired(self) -> tuple[str, ...]:
        """Accelerators whose leases have ended, longest first; they stay in the book until released."""
        with self._lock:
            now = self._clock.now()
            ended = [
                (lease.expires_at, key) for key, lease in self._leases.items() if lease.expires_at <= now
            ]
        return tuple(key for _, key in sorted(ended))
