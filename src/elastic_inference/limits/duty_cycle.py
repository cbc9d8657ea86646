"""A share of the device held by the accelerator itself, where the kernel does not: run, then wait.

One device second is one second of all cores of the device: CPU seconds of the process, all threads, divided
by the device's cores. A prediction of an engine with 2 threads that keeps 2 of 4 cores busy for 1 s uses 0.5
device seconds. CPU seconds, not wall time, so time lost to neighbours is not charged, and an engine's threads
that spin while they wait are.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from elastic_inference.clock import Clock, MonotonicClock
from elastic_inference.errors import InvalidInput

DEFAULT_BURST_SECONDS = 0.005
"""Device seconds that may be saved up: a small model's prediction after idle time need not wait."""


class DutyCycle:
    """Decide how long to wait so that device seconds stay within the share of the time that passed.

    A bucket fills with `share` device seconds a second, up to `burst_seconds`; what was used is taken out,
    also below zero, for a prediction is never cut. The next may start when the bucket is not below zero. So
    over any time t the use is at most share x t + burst + one prediction, and the debt of a long one is paid
    in full.

    Args:
        share: Above 0 and up to 1.
        now: Present time; the bucket starts full.
        burst_seconds: Device seconds that idle time can save up.
    """

    def __init__(self, share: float, now: float, burst_seconds: float = DEFAULT_BURST_SECONDS) -> None:
        if burst_seconds < 0:
            raise InvalidInput(f"burst_seconds {burst_seconds} is below 0")
        self._burst_seconds = burst_seconds
        self._level_seconds = burst_seconds
        self._filled_at = now
        self._share = _checked(share)

    @property
    def share(self) -> float:
        """The share in force."""
        return self._share

    def used(self, device_seconds: float, now: float) -> None:
        """Charge what a prediction used that has ended now; `delay_seconds` was asked when it started.

        What flows in while it runs is set against its use first: cut off at the burst before that, a tenant
        with nine tenths would get less than half.
        """
        self._fill(now, device_seconds)

    def delay_seconds(self, now: float) -> float:
        """How long from now until the next prediction may start; 0.0: at once. Ask as it is about to."""
        self._fill(now)
        return max(0.0, -self._level_seconds / self._share)

    def change_share(self, share: float, now: float) -> None:
        """Hold another share from now on; a debt stays in device seconds."""
        self._fill(now)
        self._share = _checked(share)

    def _fill(self, now: float, used_seconds: float = 0.0) -> None:
        gained_seconds = max(0.0, now - self._filled_at) * self._share
        self._level_seconds = min(self._burst_seconds, self._level_seconds + gained_seconds - used_seconds)
        self._filled_at = max(now, self._filled_at)


@dataclass(frozen=True)
class DutyCycleStatistics:
    """What a `MeteredDutyCycle` has seen: device seconds charged, and seconds it told callers to wait."""

    share: float
    device_seconds: float
    held_back_seconds: float


class MeteredDutyCycle:
    """A `DutyCycle` fed from the CPU time of this process; safe to use from several threads.

    Call `before_prediction` for the seconds to wait, and `after_prediction` when one has ended. CPU time
    between predictions (receiving, decoding) is charged too, for it is taken from the same cores.
    """

    def __init__(
        self,
        share: float,
        num_cores: float,
        clock: Clock | None = None,
        cpu_seconds: Callable[[], float] = time.process_time,
        burst_seconds: float = DEFAULT_BURST_SECONDS,
    ) -> None:
        if num_cores <= 0:
            raise InvalidInput(f"num_cores {num_cores} is not above 0")
        self._clock = clock or MonotonicClock()
        self._cpu_seconds = cpu_seconds
        self._num_cores = num_cores
        self._lock = threading.Lock()
        # What was spent on start and import is not charged.
        self._charged_cpu_seconds = cpu_seconds()
        self._device_seconds = 0.0
        self._held_back_seconds = 0.0
        self._cycle = DutyCycle(share, self._clock.now(), burst_seconds)

    def before_prediction(self) -> float:
        """Seconds that the caller must wait before it starts a prediction; ask again after the wait."""
        with self._lock:
            self._charge()
            delay_seconds = self._cycle.delay_seconds(self._clock.now())
            self._held_back_seconds += delay_seconds
            return delay_seconds

    def after_prediction(self) -> None:
        """Charge the CPU time since the last call."""
        with self._lock:
            self._charge()

    def change_share(self, share: float) -> None:
        """Hold another share from now on."""
        with self._lock:
            self._charge()
            self._cycle.change_share(share, self._clock.now())

    def statistics(self) -> DutyCycleStatistics:
        """What was charged and held back so far."""
        with self._lock:
            return DutyCycleStatistics(self._cycle.share, self._device_seconds, self._held_back_seconds)

    def _charge(self) -> None:
        cpu_seconds = self._cpu_seconds()
        device_seconds = (cpu_seconds - self._charged_cpu_seconds) / self._num_cores
        self._charged_cpu_seconds = cpu_seconds
        self._device_seconds += device_seconds
        self._cycle.used(device_seconds, self._clock.now())


def _checked(share: float) -> float:
    if not 0 < share <= 1:
        raise InvalidInput(f"share {share} is not above 0 and up to 1")
    return share
