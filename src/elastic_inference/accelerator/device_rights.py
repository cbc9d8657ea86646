"""What stands between a turn and the device: a throttle that lets it rest, a lease that other accelerators want too."""

from __future__ import annotations

from typing import Protocol

from elastic_inference.limits.lease.holder import LeaseStatistics


class Throttle(Protocol):
    """What holds the compute share where the kernel does not; called only by the thread whose turn it is."""

    def delay_seconds(self, now: float) -> float:
        """How long the device must rest before the next prediction, 0 for not at all."""

    def used(self, device_seconds: float, now: float) -> None:
        """Account for a prediction that ended now."""


class Lease(Protocol):
    """The right to use a device that other accelerators use too, for one request; called only by whose turn it is."""

    def acquire(self, deadline: float | None) -> float:
        """Wait for the device until `deadline` on time.monotonic; seconds waited. Raises DeadlineExceeded."""

    def release(self, has_more: bool) -> float:
        """Give it back; `has_more`: the next request here acquires it at once. Device seconds that were used."""

    def withdraw(self) -> None:
        """Want it no more, after a release that said there was more."""

    def statistics(self) -> LeaseStatistics:
        """Return what this accelerator had of the device."""
