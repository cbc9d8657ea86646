"""A share of the device held by the accelerator itself, where the kernel does not: run, then wait.

One device second, here, is one second of all threads of the engine: CPU seconds of the process divided by the
engine's threads. The share fits that: an accelerator with a tenth of 2 cores gets one thread, and 0.2 of its
time; one with nine tenths gets two threads, and 0.9 of their time. An engine's threads that spin while they
wait use CPU seconds too.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from elastic_inference.errors import InvalidInput

DEFAULT_BURST_SECONDS = 0.005
"""Device seconds that may be saved up: a small model's prediction after idle time need not wait."""

MAX_BETWEEN_SECONDS = 0.05
"""CPU seconds charged between two predictions at most; receiving a 1080p frame takes about 2 ms."""


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

    def _fill(self, now: float, used_seconds: float = 0.0) -> None:
        gained_seconds = max(0.0, now - self._filled_at) * self._share
        self._level_seconds = min(self._burst_seconds, self._level_seconds + gained_seconds - used_seconds)
        self._filled_at = max(now, self._filled_at)


class CpuDutyCycle:
    """A `DutyCycle` that charges the CPU time of this process in place of the time that a prediction took.

    So time lost to neighbours is not charged, and what other threads do for requests (receiving, decoding)
    is. Between two predictions at most `MAX_BETWEEN_SECONDS` are charged: more is the loading of a model, for
    which the predictions after it should not have to rest.

    Args:
        share: Part of the time for which all of `num_threads` may run; `AppliedLimits.duty_cycle_share`.
        num_threads: Threads of the engine.
        cpu_seconds: CPU time of the process so far, all threads.
    """

    def __init__(
        self,
        share: float,
        num_threads: int,
        now: float,
        burst_seconds: float = DEFAULT_BURST_SECONDS,
        cpu_seconds: Callable[[], float] = time.process_time,
    ) -> None:
        if num_threads < 1:
            raise InvalidInput(f"num_threads {num_threads} is below 1")
        self._cycle = DutyCycle(share, now, burst_seconds)
        self._num_threads = num_threads
        self._cpu_seconds = cpu_seconds
        self._charged_cpu_seconds = cpu_seconds()

    def delay_seconds(self, now: float) -> float:
        """As `DutyCycle.delay_seconds`, after charging what was used between the predictions."""
        self._charge(now, MAX_BETWEEN_SECONDS)
        return self._cycle.delay_seconds(now)

    def used(self, device_seconds: float, now: float) -> None:  # noqa: ARG002  # the same call as DutyCycle's
        """Charge the CPU time since `delay_seconds`, whatever time the prediction took."""
        self._charge(now, math.inf)

    def _charge(self, now: float, limit_seconds: float) -> None:
        cpu_seconds = self._cpu_seconds()
        used_seconds = min(limit_seconds, cpu_seconds - self._charged_cpu_seconds)
        self._charged_cpu_seconds = cpu_seconds
        self._cycle.used(used_seconds / self._num_threads, now)


def _checked(share: float) -> float:
    if not 0 < share <= 1:
        raise InvalidInput(f"share {share} is not above 0 and up to 1")
    return share
