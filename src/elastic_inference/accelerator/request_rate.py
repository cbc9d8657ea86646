"""How many requests a second an accelerator takes, as its tenant's quota says; no limit where there is none."""

from __future__ import annotations

import threading

from elastic_inference.clock import Clock
from elastic_inference.errors import ComputeQuotaExceeded, InvalidInput


class RequestRate:
    """A bucket that fills with so many requests a second, and holds those of one second, 1 at least.

    Args:
        per_second: None: no limit.
    """

    def __init__(self, per_second: float | None, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self.change(per_second)

    @property
    def per_second(self) -> float | None:
        """The limit in force; None where there is none."""
        return self._per_second

    def change(self, per_second: float | None) -> None:
        """Put another limit in force; raises InvalidInput unless it is above 0."""
        if per_second is not None and not 0 < per_second <= 1e9:
            raise InvalidInput(f"requests_per_second {per_second} is not above 0 and up to 1e9")
        with self._lock:
            self._per_second = per_second
            self._left = self._most = max(1.0, per_second or 0.0)
            self._looked_at = self._clock.now()

    def take(self) -> None:
        """Count one request; raises ComputeQuotaExceeded where it comes too soon, and then does not count it."""
        if self._per_second is None:  # the hot path of those without a limit
            return
        with self._lock:
            per_second, now = self._per_second, self._clock.now()
            if per_second is None:
                return
            self._left = min(self._most, self._left + (now - self._looked_at) * per_second)
            self._looked_at = now
            if self._left < 1.0:
                wait_seconds = (1.0 - self._left) / per_second
                raise ComputeQuotaExceeded(
                    f"the quota is {per_second:g} requests a second for this accelerator; try again in "
                    f"{wait_seconds:.3f} s"
                )
            self._left -= 1.0
