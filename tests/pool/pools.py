"""Pools for tests of what decides: hosts, types and requests without any process behind them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from elastic_inference.host.accounts.capacity import Capacity, DeviceCapacity
from elastic_inference.host.accounts.catalogue import AcceleratorType, cpu_types, gpu_types
from elastic_inference.pool.model import HostState, HostView

GIB = 1024**3
CPU_TYPES = cpu_types(16 * GIB)
GPU_TYPES = gpu_types(24 * GIB, 32 * GIB)
LIGHT_GPU_TYPES = tuple(replace(each, cpu_share=0.05, memory_bytes=GIB) for each in GPU_TYPES)


def cpu_host(
    host_id: str,
    types: Sequence[AcceleratorType] = CPU_TYPES,
    features: Iterable[str] = (),
    models: Iterable[str] = (),
    state: HostState = HostState.READY,
    memory_bytes: int = 16 * GIB,
) -> HostView:
    """A host whose one device is its CPU of 8 cores and 2 TFLOPS."""
    capacity = Capacity((DeviceCapacity("cpu:0", 2.0, memory_bytes, "cpu", 8.0),))
    catalogue = {each.name: each for each in types}
    return HostView(
        host_id, capacity, catalogue, state=state, features=frozenset(features), models=frozenset(models)
    )


def gpu_host(
    host_id: str,
    num_gpus: int = 2,
    num_cores: float = 16.0,
    is_whole: bool = False,
    types: Sequence[AcceleratorType] = GPU_TYPES,
) -> HostView:
    """A host with GPUs of 24 GiB and 30 TFLOPS beside 64 GiB of its own."""
    cores = DeviceCapacity("cpu:0", 2.0, 64 * GIB, "cpu", num_cores)
    gpus = tuple(
        DeviceCapacity(f"cuda:{number}", 30.0, 24 * GIB, "cuda", is_whole=is_whole)
        for number in range(num_gpus)
    )
    return HostView(host_id, Capacity(gpus, host=cores), {each.name: each for each in types})
