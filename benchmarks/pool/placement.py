"""Devices in use after seeded sequences of attaches and detaches, beside the fewest that could hold the same.

Each sequence has a pool of its own: 4 to 8 hosts of one to three devices; GPUs with the default types of GPUs, CPUs
with Amazon's types by TFLOPS, or types of which compute and memory have nothing to do with each other. Accelerators
come and leave around a level of 40 to 80% of the pool. After each quarter of a sequence devices are counted: as it is;
after defragmentation where half of the accelerators are idle; and where all are. In a second set nobody leaves.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, replace

from benchmarks.pool.optimum import fewest_devices
from elastic_inference.errors import CapacityExceeded
from elastic_inference.host.accounts.capacity import Capacity, DeviceCapacity
from elastic_inference.host.accounts.catalogue import AMAZON_TYPES, AcceleratorType, gpu_types
from elastic_inference.pool.model import HostView, Request
from elastic_inference.pool.placement import Table, choose
from elastic_inference.pool.placement.defragmentation import defragment_table

GIBIBYTE = 1024**3
NUM_EVENTS = 60
NUM_LOOKS = 4
IDLE_SHARE = 0.5


@dataclass(frozen=True)
class Look:
    """Devices in use at one moment of one sequence.

    Attributes:
        half, all: After defragmentation with that part of the accelerators idle.
        optimum: None where it was not proved in time.
    """

    seed: int
    as_it_is: int
    half: int
    all: int
    optimum: int | None


def make_hosts(chance: random.Random) -> list[HostView]:
    """A pool of one of three kinds."""
    kind = chance.choice(("gpu", "amazon", "unlike"))
    hosts = []
    own = tuple(
        AcceleratorType(
            f"type{number}",
            memory_bytes=chance.randint(4, 60) * GIBIBYTE // 2,
            device_share=chance.randint(5, 60) / 100,
        )
        for number in range(5)
    )
    for number in range(chance.randint(4, 8)):
        if kind == "gpu":
            cores = DeviceCapacity("cpu:0", 1.0, 256 * GIBIBYTE, "cpu", 64.0)
            devices = tuple(
                DeviceCapacity(f"cuda:{place}", 30.0, 24 * GIBIBYTE, "cuda")
                for place in range(chance.randint(1, 3))
            )
            types = gpu_types(24 * GIBIBYTE, 64 * GIBIBYTE)
            capacity = Capacity(devices, host=cores)
        else:
            memory = chance.choice((12, 16)) if kind == "amazon" else 60
            capacity = Capacity((DeviceCapacity("cpu:0", 8.0, memory * GIBIBYTE, "cpu", 16.0),))
            types = AMAZON_TYPES if kind == "amazon" else own
        hosts.append(HostView(f"host{number:02}", capacity, {each.name: each for each in types}))
    return hosts


def run_sequence(seed: int, stays: bool = False) -> Iterator[Look]:
    """Attach and detach, and look after each quarter.

    Args:
        stays: Nobody leaves, up to the level of the sequence.
    """
    chance = random.Random(seed)
    hosts = make_hosts(chance)
    names = sorted(hosts[0].catalogue)
    level = chance.uniform(0.4, 0.8)
    table = Table(hosts)
    for number in range(NUM_EVENTS):
        used = 1 - float(table.left_share.mean())
        if stays and used > level:
            yield _look(seed, hosts, table, chance)
            return
        if not stays and table.held() and chance.random() < (0.8 if used > level else 0.3):
            table.take(chance.choice(sorted(table.held())))
        else:
            request = Request(chance.choice(names))
            try:
                table.put(f"eia-{number}", request, choose(table, request))
            except CapacityExceeded:
                continue  # a full pool; the sequence continues
        if (number + 1) % (NUM_EVENTS // NUM_LOOKS) == 0:
            yield _look(seed, hosts, table, chance)


def _look(seed: int, hosts: list[HostView], table: Table, chance: random.Random) -> Look:
    held = table.held()
    idle = {one for one in sorted(held) if chance.random() < IDLE_SHARE}
    optimum = fewest_devices(hosts, {one: each.request.type_name for one, each in held.items()})
    return Look(
        seed,
        table.num_used_devices,
        _defragmented(hosts, table, idle),
        _defragmented(hosts, table, set(held)),
        optimum,
    )


def _defragmented(hosts: list[HostView], table: Table, idle: set[str]) -> int:
    views = [
        replace(
            host,
            capacity=replace(
                host.capacity,
                held={one: table.held()[one].placement.allocation for one in table.held_on(host.host_id)},
            ),
            placed={one: table.held()[one].request for one in table.held_on(host.host_id)},
        )
        for host in hosts
    ]
    copy = Table(views)
    defragment_table(copy, idle)
    return copy.num_used_devices
