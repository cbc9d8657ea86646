"""One simulation: the events of attaches and hosts, then each accelerator's calls, then what both come to."""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from elastic_inference.pool.model import HostView
from elastic_inference.pool.simulation.attachment import Attachment
from elastic_inference.pool.simulation.calls import CallCount, Sampling, run_calls
from elastic_inference.pool.simulation.control import (
    ControlRules,
    Course,
    Failure,
    ServiceOf,
    Stay,
    Use,
    mean_over_time,
    peak,
    run_control,
)
from elastic_inference.pool.simulation.latencies import Latencies

DEFAULT_MAX_CALLS = 100_000_000  # ten seconds or so of a core
_PROGRESS_EVERY = 200


@dataclass(frozen=True)
class SimulationOptions:
    """How to simulate.

    Attributes:
        target_seconds: Of a call's latency; inf: none.
        percentile: What of an attachment's calls must be within the target, such as 0.99.
        max_calls: More than these are not drawn; windows stand for the rest.
        seed: Equal seeds give equal results.
    """

    rules: ControlRules = field(default_factory=ControlRules)
    failures: tuple[Failure, ...] = ()
    target_seconds: float = math.inf
    percentile: float = 0.99
    max_calls: int = DEFAULT_MAX_CALLS
    seed: int = 0


@dataclass
class TypeResult:
    """Calls of all accelerators of one type."""

    calls: CallCount = field(default_factory=CallCount)
    latencies: Latencies = field(default_factory=Latencies)
    num_attachments: int = 0
    num_over_target: int = 0


@dataclass(frozen=True)
class SimulationResult:
    """What a simulation came to.

    Attributes:
        num_devices, num_hosts: Of the pool.
        calls, latencies: Of all types.
        over_target: Names of attachments whose percentile misses the target.
        sampled_share: Part of the calls that was drawn.
        uses: In order of time.
    """

    num_hosts: int
    num_devices: int
    course: Course
    by_type: Mapping[str, TypeResult]
    calls: CallCount
    latencies: Latencies
    over_target: Sequence[str]
    sampled_share: float

    @property
    def uses(self) -> Sequence[Use]:
        return self.course.uses

    @property
    def peak(self) -> Use | None:
        """The first moment at which the most is held."""
        return peak(self.course.uses)

    @property
    def held_share(self) -> float:
        """Part of all devices that accelerators held, over time, 0..1."""
        return mean_over_time(self.uses, lambda use: use.held_devices) / self.num_devices

    @property
    def waits(self) -> list[float]:
        """For room, of attaches that got it, rising; seconds."""
        return sorted(s.wait_seconds for s in self.course.stays.values() if s.wait_seconds is not None)

    @property
    def outages(self) -> list[float]:
        """In which an accelerator did not serve because its host had died, rising; seconds."""
        return sorted(out for stay in self.course.stays.values() for out in stay.out_seconds)


def simulate(
    hosts: Sequence[HostView],
    demand: Sequence[Attachment],
    service_of: ServiceOf,
    options: SimulationOptions,
    on_progress: Callable[[int, int], None] = lambda *_: None,
) -> SimulationResult:
    """Run a pool through a demand.

    Args:
        hosts: Empty.
        on_progress: Called now and then with steps done and all.

    Raises:
        InvalidInput: A type that no host has, or without a service time.
    """
    half, total = 2 * len(demand), 3 * len(demand)
    course = run_control(
        hosts,
        demand,
        service_of,
        options.rules,
        options.failures,
        lambda done, of: on_progress(done * half // max(1, of), total),
    )
    expected = sum(each.num_calls for each in demand)
    share = min(1.0, options.max_calls / expected) if expected else 1.0
    sampling = Sampling(share, options.target_seconds)
    by_type = {name: TypeResult() for name in sorted({each.request.type_name for each in demand})}
    over = []
    for number, one in enumerate(demand):
        if number % _PROGRESS_EVERY == 0:
            on_progress(half + number, total)
        result = by_type[one.request.type_name]
        count = _calls_of(one, course.stays[one.name], sampling, options.seed, result)
        if _is_over(count, options.percentile):
            result.num_over_target += 1
            over.append(one.name)
    on_progress(total, total)
    return _joined(hosts, course, by_type, over, share)


def _calls_of(
    one: Attachment,
    stay: Stay,
    sampling: Sampling,
    seed: int,
    result: TypeResult,
) -> CallCount:
    # By its name, so that what one draws does not depend on who else is there.
    chance = np.random.default_rng([seed, zlib.crc32(one.name.encode())])
    count = run_calls(one.pieces, stay.servings, chance, sampling, result.latencies)
    result.calls.add(count)
    result.num_attachments += 1
    return count


def _is_over(count: CallCount, percentile: float) -> bool:
    late = count.num_late + count.num_unanswered
    # One late call of a few says nothing of a percentile; it has to be more than the allowed ones and one.
    return late > count.num_offered * (1 - percentile) + 1


def _joined(
    hosts: Sequence[HostView],
    course: Course,
    by_type: Mapping[str, TypeResult],
    over: Sequence[str],
    sampled_share: float,
) -> SimulationResult:
    calls, latencies = CallCount(), Latencies()
    for each in by_type.values():
        calls.add(each.calls)
        latencies.merge(each.latencies)
    num_devices = sum(len(host.capacity.devices) for host in hosts)
    return SimulationResult(len(hosts), num_devices, course, by_type, calls, latencies, over, sampled_share)
