"""How a lease was used between two looks at the accounts, as only its holder knows. Pure; time is an argument."""

from __future__ import annotations

from dataclasses import dataclass

MAX_GAP_SECONDS = 0.0005
"""Up to here, the time from having the device to the start of a request is a cost of sharing that all tenants bear."""


@dataclass(slots=True)
class Use:
    """The requests of one lease since the accounts were written last.

    Attributes:
        started_at: When the present request began on the device.
        num_ended: Requests that ended before it in the same lease.
        longest_seconds: The longest of those.
        gap_seconds: In which the lease was held and no request was on the device, in all.
        ended_at: When the last of those ended.
    """

    started_at: float = 0.0
    num_ended: int = 0
    longest_seconds: float = 0.0
    gap_seconds: float = 0.0
    ended_at: float = 0.0

    def begin(self, granted_at: float, now: float) -> None:
        """Note that the first request of a lease begins."""
        self.started_at, self.num_ended, self.longest_seconds = now, 0, 0.0
        self.gap_seconds = _gap(now - granted_at)

    def end_and_renew(self, now: float) -> float:
        """Return the request ends, and the lease goes on for the next one; its device seconds."""
        used_seconds = now - self.started_at
        self.num_ended += 1
        self.longest_seconds = max(self.longest_seconds, used_seconds)
        self.ended_at = now
        return used_seconds

    def go_on(self, now: float) -> None:
        """Note that the next request begins."""
        self.gap_seconds += _gap(now - self.ended_at)
        self.started_at = now


def _gap(seconds: float) -> float:
    return min(max(0.0, seconds), MAX_GAP_SECONDS)
