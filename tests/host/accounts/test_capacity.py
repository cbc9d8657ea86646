"""What fits on a device, and how a refusal reads."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from elastic_inference.errors import CapacityExceeded
from elastic_inference.host.accounts.capacity import Allocation, Capacity, DeviceCapacity
from elastic_inference.host.accounts.catalogue import AMAZON_TYPES, AcceleratorType, cpu_types, gpu_types
from elastic_inference.host.accounts.records import type_from_json, type_to_json

GIB = 1024**3
CPU = DeviceCapacity("cpu:0", fp32_tflops=1.5, memory_bytes=8 * GIB)
EIA = {t.name: t for t in AMAZON_TYPES}
QUARTER, HALF, WHOLE = cpu_types(CPU.memory_bytes)


def test_number_that_fits_is_the_smaller_of_compute_and_memory() -> None:
    capacity = Capacity((CPU,))
    assert capacity.num_available(QUARTER) == 4
    assert capacity.num_available(EIA["eia1.medium"]) == 1  # 1 of 1.5 TFLOPS
    assert capacity.num_available(AcceleratorType("m", 3 * GIB, device_share=0.01)) == 2  # memory: 3 of 8 GiB


def test_a_type_beyond_the_device_has_none_available_and_is_refused_by_figures() -> None:
    capacity = Capacity((CPU,))
    assert capacity.num_available(EIA["eia1.xlarge"]) == 0
    with pytest.raises(CapacityExceeded) as caught:
        capacity.place(EIA["eia1.xlarge"])
    assert str(caught.value) == (
        "type 'eia1.xlarge' needs 4 FP32 TFLOPS and 4.0 GiB; no device here is that large: "
        "cpu:0 is 1.5 FP32 TFLOPS (100% of the device) and 8.0 GiB"
    )
    assert caught.value.requested == "4 FP32 TFLOPS and 4.0 GiB"


def test_a_full_device_refuses_with_what_is_left() -> None:
    capacity = Capacity((CPU,))
    for name in ("a", "b", "c"):
        capacity = capacity.with_held(name, capacity.place(QUARTER))
    with pytest.raises(
        CapacityExceeded, match=r"cpu:0 has 0.375 FP32 TFLOPS \(25% of the device\) and 2.0 GiB"
    ):
        capacity.place(HALF)
    assert capacity.place(QUARTER) == Allocation("cpu:0", 0.25, 2 * GIB)


def test_a_detached_accelerator_frees_what_it_held() -> None:
    capacity = Capacity((CPU,)).with_held("a", Allocation("cpu:0", 1.0, CPU.memory_bytes))
    assert capacity.num_available(WHOLE) == 0
    assert capacity.without("a").num_available(WHOLE) == 1
    assert capacity.without("unknown") == capacity


def test_ten_tenths_fit() -> None:
    tenth = AcceleratorType("tenth", 192 * 1024**2, device_share=0.1)
    capacity = Capacity((CPU,))
    for number in range(10):
        capacity = capacity.with_held(str(number), capacity.place(tenth))
    assert capacity.num_available(tenth) == 0


def test_the_fuller_device_is_filled_first() -> None:
    other = DeviceCapacity("cpu:1", 1.5, 8 * GIB)
    capacity = Capacity((CPU, other)).with_held("a", Allocation("cpu:1", 0.25, 2 * GIB))
    assert capacity.place(QUARTER).device == "cpu:1"
    assert capacity.place(WHOLE).device == "cpu:0"


def test_a_host_without_devices_refuses() -> None:
    with pytest.raises(CapacityExceeded, match="there is no device"):
        Capacity(()).place(QUARTER)


@given(
    st.lists(
        st.tuples(st.floats(0.01, 1.0), st.integers(192 * 1024**2, 4 * GIB)),
        max_size=30,
    )
)
def test_never_more_is_held_than_the_device_has(wishes: list[tuple[float, int]]) -> None:
    capacity = Capacity((CPU,))
    for number, (share, memory_bytes) in enumerate(wishes):
        kind = AcceleratorType("t", memory_bytes, device_share=share)
        can = capacity.num_available(kind) > 0
        try:
            capacity = capacity.with_held(str(number), capacity.place(kind))
        except CapacityExceeded:
            assert not can
        else:
            assert can
    assert sum(a.share for a in capacity.held.values()) <= 1 + 1e-6
    assert sum(a.memory_bytes for a in capacity.held.values()) <= CPU.memory_bytes


H200 = DeviceCapacity("cuda:0", fp32_tflops=50.0, memory_bytes=140 * GIB, kind="cuda", num_cores=16)
HOST = DeviceCapacity("cpu:0", fp32_tflops=1.5, memory_bytes=120 * GIB, num_cores=16)
GPU = {kind.name: kind for kind in gpu_types(H200.memory_bytes, HOST.memory_bytes)}


def test_a_gpus_accelerator_holds_of_the_gpu_and_of_the_host_beside_it() -> None:
    capacity = Capacity((HOST, H200), host=HOST)
    held = capacity.place(GPU["gpu.quarter"])
    assert held == Allocation("cuda:0", 0.25, 35 * GIB, 0.25, 30 * GIB)
    capacity = capacity.with_held("a", held)
    assert capacity.left(H200) == (0.75, 105 * GIB)
    assert capacity.left(HOST) == (0.75, 90 * GIB)


def test_cores_are_not_promised_twice() -> None:
    capacity = Capacity((HOST, H200), host=HOST)
    for number in range(2):
        capacity = capacity.with_held(str(number), capacity.place(GPU["gpu.half"]))
    with pytest.raises(CapacityExceeded, match=r"cpu:0 has .*\(0% of the device\)"):
        capacity.place(cpu_types(HOST.memory_bytes)[0])


def test_the_host_is_a_budget_also_where_it_is_not_given_away_as_a_device() -> None:
    small = DeviceCapacity("cpu:0", 1.5, 20 * GIB, num_cores=16)
    capacity = Capacity((H200,), host=small)
    assert capacity.num_available(GPU["gpu.tenth"]) == 1
    with pytest.raises(CapacityExceeded, match=r"12\.0 GiB of the host's; .*cpu:0 has .* 8\.0 GiB left"):
        capacity.with_held("a", capacity.place(GPU["gpu.tenth"])).place(GPU["gpu.tenth"])


def test_a_type_of_one_kind_of_device_is_placed_on_no_other() -> None:
    with pytest.raises(CapacityExceeded, match="no device here is that large"):
        Capacity((HOST,), host=HOST).place(GPU["gpu.tenth"])
    with pytest.raises(CapacityExceeded, match="no device here is that large"):
        Capacity((H200,), host=HOST).place(cpu_types(HOST.memory_bytes)[0])


def test_a_small_part_of_a_gpu_still_has_a_core_to_wait_with() -> None:
    held = Capacity((H200,), host=HOST).place(EIA["eia1.medium"])  # a fiftieth of the GPU
    assert (held.share, held.cpu_share) == (0.02, 1 / 16)


def test_what_was_placed_is_found_again_from_its_settled_type() -> None:
    for kind in (GPU["gpu.tenth"], EIA["eia1.large"]):
        held = Capacity((H200,), host=HOST).place(kind)
        settled = held.settled(kind)
        assert Allocation.of(settled, held.device, held.share) == held
        assert type_from_json(type_to_json(settled)) == settled
    on_cpu = Capacity((HOST,), host=HOST).place(EIA["eia1.medium"])
    assert on_cpu.settled(EIA["eia1.medium"]) == EIA["eia1.medium"]


def test_two_gpus_that_share_one_host_have_no_more_than_the_host_can_serve() -> None:
    second = replace(H200, name="cuda:1")
    small = replace(HOST, memory_bytes=100 * GIB)
    for devices in ((H200, second), (H200, second, small)):
        capacity = Capacity(devices, host=small)
        assert capacity.num_available(GPU["gpu.quarter"]) == 3  # 30 GiB each of the host's memory
        for number in range(3):
            capacity = capacity.with_held(str(number), capacity.place(GPU["gpu.quarter"]))
        assert capacity.num_available(GPU["gpu.quarter"]) == 0
