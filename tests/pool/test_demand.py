"""What Ray is told: a full host is a full node, and what waits needs what an empty host would give it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from elastic_inference.pool.demand import Part, held_parts, wanted_parts
from elastic_inference.pool.model import HostView, Request
from elastic_inference.pool.placement import Table, choose
from tests.pool.pools import GPU_TYPES, cpu_host, gpu_host

GPU_WHOLE = next(kind.name for kind in GPU_TYPES if kind.name.endswith("whole"))


def holding(host: HostView, *type_names: str) -> HostView:
    """The same host with an accelerator of each of these types."""
    table = Table([host])
    for number, name in enumerate(type_names):
        table.put(f"eia-{number}", Request(name), choose(table, Request(name)))
    held = {key: one.placement.allocation for key, one in table.held().items()}
    return replace(host, node_id=f"node of {host.host_id}", capacity=replace(host.capacity, held=held))


def test_what_is_held_adds_up_to_the_node() -> None:
    parts = held_parts([holding(cpu_host("h0"), "cpu.half", "cpu.quarter", "cpu.quarter")])
    assert {part.node_id for part in parts} == {"node of h0"}
    assert sum(part.cpu_share for part in parts) == pytest.approx(1.0)
    assert [part.num_gpus for part in parts] == [0.0] * 3
    assert held_parts([cpu_host("h1")]) == []  # of no node


def test_what_is_on_a_gpu_holds_cores_too() -> None:
    (part,) = held_parts([holding(gpu_host("g0"), GPU_WHOLE)])
    assert part.num_gpus == 1.0
    assert 0 < part.cpu_share <= 1.0


def test_what_waits_is_sized_by_a_host_that_could_have_it() -> None:
    hosts = [holding(cpu_host("h0"), "cpu.whole"), replace(gpu_host("g0"), node_id="gpus")]
    wanted = wanted_parts(hosts, [Request("cpu.half"), Request("no.such"), Request(GPU_WHOLE)])
    assert wanted[0] == Part("cpu.half", "node of h0", 0.5, 0.0)
    assert [(part.key, part.node_id, part.num_gpus) for part in wanted[1:]] == [(GPU_WHOLE, "gpus", 1.0)]
