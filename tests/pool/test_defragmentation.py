"""What is scattered is counted, and idle accelerators are moved together so that devices become free."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np

from elastic_inference.errors import CapacityExceeded
from elastic_inference.pool.model import HostState, HostView, Request
from elastic_inference.pool.placement import Fragmentation, Policy, Table, choose, defragment, fragmentation
from tests.pool.pools import cpu_host, gpu_host


def holding(host: HostView, idle: bool = True, **held: str) -> HostView:
    for one, type_name in held.items():
        allocation = host.capacity.place(host.catalogue[type_name])
        host = replace(
            host,
            capacity=host.capacity.with_held(one, allocation),
            placed={**host.placed, one: Request(type_name)},
        )
    return replace(host, idle=frozenset(held) if idle else frozenset())


def test_what_is_left_on_devices_in_use_is_stranded_for_whoever_needs_a_whole_one() -> None:
    hosts = [holding(cpu_host("a"), one="cpu.half"), cpu_host("b"), cpu_host("c", state=HostState.LOST)]
    found = fragmentation(hosts)
    assert found == Fragmentation(2, 1, left_devices=1.5, stranded_devices=0.5)
    assert found.stranded_share == 0.5 / 1.5
    assert fragmentation([]).stranded_share == 0.0


def test_idle_accelerators_are_moved_together() -> None:
    hosts = [holding(cpu_host(name), **{f"of_{name}": "cpu.quarter"}) for name in "abcd"]
    moves = defragment(hosts)
    assert len(moves) == 3
    assert len({move.target.host_id for move in moves}) == 1
    assert len(defragment(hosts, max_moves=2)) == 2
    assert defragment(hosts, max_moves=0) == []


def test_what_is_busy_stays_and_a_device_with_it_is_not_begun() -> None:
    busy = holding(cpu_host("a"), idle=False, one="cpu.quarter", two="cpu.quarter")
    mixed = replace(holding(cpu_host("b"), three="cpu.quarter", four="cpu.quarter"), idle=frozenset({"four"}))
    assert defragment([busy, mixed]) == []
    still = replace(mixed, idle=frozenset({"three", "four"}))
    assert {move.accelerator_id for move in defragment([busy, still])} == {"three", "four"}


def test_nothing_is_moved_from_or_to_a_host_that_is_not_ready() -> None:
    one = holding(cpu_host("a"), one="cpu.quarter")
    two = replace(holding(cpu_host("b"), two="cpu.quarter"), state=HostState.DRAINING)
    assert defragment([one, two]) == []


def test_neighbours_that_must_be_apart_stay_apart() -> None:
    apart = Request("cpu.quarter", tenant="t", anti_affinity="web")
    one = replace(holding(cpu_host("a"), one="cpu.quarter"), placed={"one": apart})
    two = replace(holding(cpu_host("b"), two="cpu.quarter"), placed={"two": apart})
    assert defragment([one, two]) == []
    assert defragment([one, replace(two, placed={"two": replace(apart, tenant="u")})])


def test_each_move_fits_when_its_turn_comes_and_fewer_devices_are_in_use() -> None:
    for seed in range(40):
        chance = random.Random(seed)
        hosts = [cpu_host("a"), cpu_host("b"), cpu_host("c"), gpu_host("d"), gpu_host("e", 3)]
        table = Table(hosts)
        for number in range(40):
            kind = chance.choice(["cpu.quarter", "cpu.half", "gpu.tenth", "gpu.quarter", "gpu.half"])
            try:
                table.put(f"eia-{number:02}", Request(kind), choose(table, Request(kind), Policy.SPREAD))
            except CapacityExceeded:
                continue
        for one in sorted(table.held()):
            if chance.random() < 0.6:
                table.take(one)
        views = []
        for host in hosts:
            ids = table.held_on(host.host_id)
            held = {one: table.held()[one].placement.allocation for one in ids}
            placed = {one: table.held()[one].request for one in ids}
            capacity = replace(host.capacity, held=held)
            views.append(replace(host, capacity=capacity, placed=placed, idle=frozenset(ids)))
        before = table.num_used_devices
        moves = defragment(views)
        for move in moves:
            request = table.take(move.accelerator_id).request
            fitting = np.flatnonzero(table.fits(request))
            assert move.target in [table.placement(request.type_name, int(row)) for row in fitting]
            table.put(move.accelerator_id, request, move.target)
        assert table.num_used_devices <= before
        assert bool(moves) == (table.num_used_devices < before)
