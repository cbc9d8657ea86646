"""A day of a large pool simulated, and what the simulation's shortcut costs beside calls one by one."""

from __future__ import annotations

import heapq
import random
import resource
import time
from dataclasses import dataclass

from elastic_inference.host.accounts.capacity import Capacity, DeviceCapacity
from elastic_inference.host.accounts.catalogue import cpu_types
from elastic_inference.pool.model import HostView
from elastic_inference.pool.simulation.control import Failure
from elastic_inference.pool.simulation.demand_model import DemandModel, draw_demand
from elastic_inference.pool.simulation.service_time import ServiceTime
from elastic_inference.pool.simulation.simulate import SimulationOptions, SimulationResult, simulate

GIBIBYTE = 1024**3
NUM_HOSTS = 250
PEAK_SECONDS = 15 * 3600.0
SERVICE = ServiceTime(0.05, 0.3, 0.001, 0.5)
DAY = DemandModel(
    hours=24,
    num_tenants=10_000,
    mean_accelerators=800,
    stay_hours=1.0,
    calls_per_second=1.0,
    peak_to_trough=1.5,
    size_spread=0.5,
)


@dataclass(frozen=True)
class Day:
    """One simulated day.

    Attributes:
        seconds: Of drawing the demand and simulating it.
        cpu_seconds: Of that, computation: what the rest of the machine does lengthens the other one.
        peak_bytes: Of this process, demand and imports included.
    """

    seconds: float
    cpu_seconds: float
    peak_bytes: int
    num_attachments: int
    result: SimulationResult


def service_of(type_name: str, host_id: str) -> ServiceTime:
    """The same everywhere."""
    del type_name, host_id
    return SERVICE


def hosts(count: int) -> list[HostView]:
    """Hosts of 8 cores whose CPU is given in quarters: four accelerators each."""
    capacity = Capacity((DeviceCapacity("cpu:0", 2.0, 16 * GIBIBYTE, "cpu", 8.0),))
    catalogue = {each.name: each for each in cpu_types(16 * GIBIBYTE)}
    return [HostView(f"host-{number:05}", capacity, catalogue) for number in range(count)]


def run_day(max_calls: int, seed: int = 0) -> Day:
    """1,000 accelerators on 250 hosts, 10,000 tenants, a day, two deaths at the peak."""
    begun, begun_cpu = time.perf_counter(), time.process_time()
    demand = draw_demand(DAY, seed)
    failures = (Failure(PEAK_SECONDS), Failure(PEAK_SECONDS + 60))
    options = SimulationOptions(failures=failures, target_seconds=0.5, max_calls=max_calls, seed=seed)
    result = simulate(hosts(NUM_HOSTS), demand, service_of, options)
    seconds, cpu_seconds = time.perf_counter() - begun, time.process_time() - begun_cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return Day(seconds, cpu_seconds, peak, len(demand), result)


def one_by_one(load: float, seconds: float, seed: int) -> list[float]:
    """Latencies of one accelerator, by an event loop with a queue: an arrival, a start or an end at a time."""
    chance = random.Random(seed)
    quantiles = SERVICE.quantiles.tolist()
    rate = load / SERVICE.mean_seconds
    events: list[tuple[float, int, int]] = [(chance.expovariate(rate), 0, 0)]
    waiting: list[int] = []
    arrived: list[float] = []
    ended: dict[int, float] = {}
    is_busy = False
    while events:
        now, kind, number = heapq.heappop(events)
        if kind == 0:
            arrived.append(now)
            waiting.append(number)
            following = now + chance.expovariate(rate)
            if following < seconds:
                heapq.heappush(events, (following, 0, number + 1))
        else:
            ended[number], is_busy = now, False
        if waiting and not is_busy:
            is_busy = True
            first = waiting.pop(0)
            heapq.heappush(events, (now + quantiles[chance.randrange(len(quantiles))], 1, first))
    return [ended[number] - when + SERVICE.wire_seconds for number, when in enumerate(arrived)]
