"""Where accelerators go, by all that counts for it, and that no host is promised more than it would give."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from elastic_inference.errors import CapacityExceeded, InvalidInput
from elastic_inference.host.accounts.catalogue import AcceleratorType
from elastic_inference.pool.model import HostState, HostView, Request
from elastic_inference.pool.placement import Policy, Table, choose, place
from tests.pool.pools import CPU_TYPES, GIB, GPU_TYPES, LIGHT_GPU_TYPES, cpu_host, gpu_host

HALF, QUARTER = Request("cpu.half"), Request("cpu.quarter")


def after(host: HostView, **held: str) -> HostView:
    """The host with accelerators of these types on its first device, by id."""
    view = host
    for accelerator_id, type_name in held.items():
        allocation = view.capacity.place(view.catalogue[type_name])
        view = replace(
            view,
            capacity=view.capacity.with_held(accelerator_id, allocation),
            placed={**view.placed, accelerator_id: Request(type_name)},
        )
    return view


def test_packs_what_is_in_use_and_spreads_where_asked() -> None:
    hosts = [cpu_host("a"), after(cpu_host("b"), one="cpu.quarter"), after(cpu_host("c"), two="cpu.half")]
    assert place(QUARTER, hosts).host_id == "c"
    assert place(QUARTER, hosts, Policy.SPREAD).host_id == "a"
    assert place(Request("cpu.whole"), hosts).host_id == "a"


def test_an_empty_device_of_a_host_in_use_goes_before_an_empty_host() -> None:
    used = after(gpu_host("b", types=LIGHT_GPU_TYPES), one="gpu.whole")
    placement = place(Request("gpu.half"), [gpu_host("a", types=LIGHT_GPU_TYPES), used])
    assert (placement.host_id, placement.allocation.device) == ("b", "cuda:1")


def test_the_order_in_which_hosts_are_given_changes_nothing() -> None:
    hosts = [cpu_host(name) for name in "dbac"]
    for seed in range(5):
        random.Random(seed).shuffle(hosts)
        assert place(HALF, hosts).host_id == "a"


def test_stored_models_decide_between_hosts_that_are_as_good() -> None:
    hosts = [cpu_host("a"), cpu_host("b", models=("m1",)), cpu_host("c", models=("m1", "m2"))]
    assert place(Request("cpu.half", models=frozenset({"m1", "m2"})), hosts).host_id == "c"
    assert place(HALF, hosts).host_id == "a"


def test_features_are_needed_and_rare_ones_kept_for_those_who_ask() -> None:
    hosts = [cpu_host("a", features=("bf16",)), cpu_host("b")]
    assert place(HALF, hosts).host_id == "b"
    assert place(Request("cpu.half", features=frozenset({"bf16"})), hosts).host_id == "a"
    with pytest.raises(CapacityExceeded, match="with cuda:H100 fits no device of any host"):
        place(Request("cpu.half", features=frozenset({"cuda:H100"})), hosts)


@pytest.mark.parametrize("state", [HostState.DRAINING, HostState.LOST])
def test_only_ready_hosts_take_accelerators(state: HostState) -> None:
    assert place(HALF, [cpu_host("a", state=state), cpu_host("b")]).host_id == "b"
    with pytest.raises(CapacityExceeded):
        place(HALF, [cpu_host("a", state=state)])


def test_accelerators_of_a_tenant_that_must_be_apart_never_share_a_host() -> None:
    table = Table([cpu_host("a"), cpu_host("b")])
    apart = Request("cpu.quarter", tenant="t", anti_affinity="web")
    for number, host_id in enumerate("ab"):
        placement = choose(table, apart)
        assert placement.host_id == host_id
        table.put(f"eia-{number}", apart, placement)
    with pytest.raises(CapacityExceeded, match="apart from others of 'web'"):
        choose(table, apart)
    for other in (replace(apart, tenant="u"), replace(apart, anti_affinity="jobs"), QUARTER):
        assert choose(table, other).host_id == "a"
    table.take("eia-0")
    assert choose(table, apart).host_id == "a"


def test_a_gpu_takes_of_its_host_too() -> None:
    host = gpu_host("a", num_gpus=4, num_cores=2.0)  # a core for each, and there are two
    table = Table([host])
    for number in range(2):
        placement = choose(table, Request("gpu.tenth"))
        table.put(f"eia-{number}", Request("gpu.tenth"), placement)
    with pytest.raises(CapacityExceeded):
        choose(table, Request("gpu.tenth"))


def test_a_device_that_goes_to_one_alone_is_given_once() -> None:
    table = Table([gpu_host("a", num_gpus=1, is_whole=True)])
    table.put("eia-0", Request("gpu.tenth"), choose(table, Request("gpu.tenth")))
    with pytest.raises(CapacityExceeded):
        choose(table, Request("gpu.tenth"))


def test_refusals_name_what_was_asked_for_and_what_is_left() -> None:
    hosts = [after(cpu_host("a"), one="cpu.half"), after(cpu_host("b"), two="cpu.quarter")]
    with pytest.raises(CapacityExceeded) as refused:
        place(Request("cpu.whole"), hosts)
    assert "needs 100% of a device and 16.0 GiB" in str(refused.value)
    assert refused.value.available == "75% and 12.0 GiB of cpu:0 on host b"
    with pytest.raises(InvalidInput, match=r"no host has a type 'gpu\.half'; known are cpu\.half, "):
        place(Request("gpu.half"), hosts)
    with pytest.raises(InvalidInput, match="known are none"):
        place(HALF, [])


# Types of which compute and memory have nothing to do with each other, beside the shipped ones.
UNLIKE = (
    AcceleratorType("thin", 9 * GIB, device_share=0.07),
    AcceleratorType("broad", GIB, device_share=0.45),
    AcceleratorType("tflops", 3 * GIB, fp32_tflops=0.7),
)


def capacities_of(table: Table) -> None:
    """Put everything that the table holds into the hosts' own Capacity, which refuses what does not fit."""
    for host_id in table.host_ids:
        view = table.host(host_id)
        capacity = replace(view.capacity, held={})
        for one in table.held_on(host_id):
            held = table.held()[one]
            kind = view.catalogue[held.request.type_name]
            device = held.placement.allocation.device
            assert capacity.only(device).place(kind) == held.placement.allocation
            capacity = capacity.with_held(one, held.placement.allocation)
        for device in view.capacity.devices:
            row = [r for r in range(len(table.host_of)) if table.device_name(r) == device.name]
            row = [r for r in row if table.host_ids[table.host_of[r]] == host_id]
            left = table.left_share[row[0]], table.left_bytes[row[0]]
            assert left == capacity.left(device)


@given(st.lists(st.tuples(st.integers(0, 9), st.booleans()), max_size=80), st.sampled_from(Policy))
@settings(max_examples=60, deadline=None)
def test_no_host_is_promised_more_than_it_would_give(steps: list[tuple[int, bool]], policy: Policy) -> None:
    types = [each.name for each in (*CPU_TYPES, *GPU_TYPES, *UNLIKE)]
    hosts = [cpu_host("a", (*CPU_TYPES, *UNLIKE)), cpu_host("b", (*CPU_TYPES, *UNLIKE)), gpu_host("c")]
    table = Table(hosts)
    for number, (chosen, leaves) in enumerate(steps):
        if leaves and table.held():
            table.take(sorted(table.held())[chosen % len(table.held())])
            continue
        request = Request(types[chosen])
        try:
            placement = choose(table, request, policy)
        except CapacityExceeded:
            assert not any(
                host.catalogue.get(request.type_name)
                and replace(
                    host.capacity,
                    held={one: table.held()[one].placement.allocation for one in table.held_on(host.host_id)},
                ).num_available(host.catalogue[request.type_name])
                for host in hosts
            )
            continue
        table.put(f"eia-{number:03}", request, placement)
    capacities_of(table)
