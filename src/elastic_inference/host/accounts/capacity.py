"""What still fits on a host's devices. Pure: no process is started and no device is asked.

An accelerator on a GPU holds two budgets: of the GPU, and of the host's cores and memory beside it. One on the CPU
holds the host's alone, which is that device.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from elastic_inference.errors import CapacityExceeded
from elastic_inference.host.accounts.catalogue import AcceleratorType
from elastic_inference.units import format_bytes

ROUNDING_SHARE = 1e-9  # ten times 0.1 is not 1.0 in floats


@dataclass(frozen=True)
class DeviceCapacity:
    """What one device offers to all accelerators together.

    Attributes:
        name: `cpu:0`, `cuda:0`.
        fp32_tflops: Measured, of the whole device.
        memory_bytes: Without what the host keeps for itself.
        kind: "cpu" or "cuda".
        num_cores: Of a CPU; for the least part of it that an accelerator on a GPU gets.
        is_whole: Whether it goes to one accelerator alone, whatever part of it the type asks for.
    """

    name: str
    fp32_tflops: float
    memory_bytes: int
    kind: str = "cpu"
    num_cores: float = 1.0
    is_whole: bool = False


@dataclass(frozen=True)
class Allocation:
    """What one accelerator holds.

    Attributes:
        share, memory_bytes: Of the device.
        cpu_share, host_memory_bytes: Of the host beside the device; 0 where the device is the host's CPU.
        tenant: Who holds it; "" for the operator.
    """

    device: str
    share: float
    memory_bytes: int
    cpu_share: float = 0.0
    host_memory_bytes: int = 0
    tenant: str = ""

    @classmethod
    def of(cls, kind: AcceleratorType, device: str, share: float, tenant: str = "") -> Allocation:
        """Return what an accelerator of a type holds that was settled for its device (see `settled`)."""
        if kind.cpu_share is None or kind.device_memory_bytes is None:  # on a GPU both are settled
            return cls(device, share, kind.memory_bytes, tenant=tenant)
        return cls(device, share, kind.device_memory_bytes, kind.cpu_share, kind.memory_bytes, tenant)

    def larger(self, other: Allocation) -> Allocation:
        """Return the larger of each, of this one's device and tenant."""
        return replace(
            self,
            share=max(self.share, other.share),
            memory_bytes=max(self.memory_bytes, other.memory_bytes),
            cpu_share=max(self.cpu_share, other.cpu_share),
            host_memory_bytes=max(self.host_memory_bytes, other.host_memory_bytes),
        )

    def settled(self, kind: AcceleratorType) -> AcceleratorType:
        """Return the type with the figures that its place decided."""
        if not self.cpu_share:
            return kind
        return replace(
            kind, device_kind="cuda", cpu_share=self.cpu_share, device_memory_bytes=self.memory_bytes
        )


@dataclass(frozen=True)
class Capacity:
    """Devices, and what is held of them, by accelerator id.

    Attributes:
        devices: Those that accelerators may be placed on.
        held: By accelerator id.
        host: The host's own cores and memory, which accelerators on other devices need too; None: the CPU of `devices`.
    """

    devices: tuple[DeviceCapacity, ...]
    held: dict[str, Allocation] = field(default_factory=dict)
    host: DeviceCapacity | None = None

    def left(self, device: DeviceCapacity) -> tuple[float, int]:
        """Share and bytes that nobody holds; never below 0."""
        mine = [a for a in self.held.values() if a.device == device.name]
        shares, num_bytes = [a.share for a in mine], [a.memory_bytes for a in mine]
        if device == self.host_budget:
            beside = [a for a in self.held.values() if a.device != device.name]
            shares += [a.cpu_share for a in beside]
            num_bytes += [a.host_memory_bytes for a in beside]
        return max(0.0, 1.0 - math.fsum(shares)), max(0, device.memory_bytes - sum(num_bytes))

    def num_available(self, kind: AcceleratorType) -> int:
        """How many accelerators of this type still fit, one after another."""
        total, now = 0, self
        for device in self.devices:
            num = now._num_on(device, kind)
            for number in range(num if device.kind != "cpu" else 0):  # they take from the host too
                now = now.with_held(f"{device.name} {number}", now._allocation(device, kind))
            total += num
        return total

    def place(self, kind: AcceleratorType) -> Allocation:
        """Choose the device that is left with the least share, so that large types find whole ones.

        Raises:
            CapacityExceeded: The type is larger than every device, or than what is left; with the figures.
        """
        fitting = [d for d in self.devices if self._num_on(d, kind)]
        if not fitting:
            raise self._refusal(kind)
        return self._allocation(min(fitting, key=lambda d: self.left(d)), kind)

    def need_on(self, device: DeviceCapacity, kind: AcceleratorType) -> Allocation | None:
        """Return what an accelerator of a type would hold of a device; None where even an empty one is too small."""
        if kind.device_kind not in (None, device.kind):
            return None
        if kind.share_of(device.fp32_tflops) > 1.0 + ROUNDING_SHARE:
            return None
        if device.is_whole and (kind.device_memory_bytes or 0) > device.memory_bytes:
            return None
        return self._allocation(device, kind)

    def held_by(self, tenant: str) -> dict[str, Allocation]:
        """Return what one tenant holds, by accelerator."""
        return {key: held for key, held in self.held.items() if held.tenant == tenant}

    def with_held(self, accelerator_id: str, allocation: Allocation) -> Capacity:
        """Return the same after an attach."""
        return replace(self, held={**self.held, accelerator_id: allocation})

    def without(self, accelerator_id: str) -> Capacity:
        """Return the same after a detach; an unknown id changes nothing."""
        return replace(self, held={k: v for k, v in self.held.items() if k != accelerator_id})

    def only(self, device_name: str) -> Capacity:
        """Return the same where nothing may be placed on another device."""
        here = tuple(device for device in self.devices if device.name == device_name)
        return replace(self, devices=here, host=self.host_budget)

    @property
    def host_budget(self) -> DeviceCapacity | None:
        """The host's own cores and memory; None where a host has no CPU to give."""
        return self.host or next((d for d in self.devices if d.kind == "cpu"), None)

    def _allocation(self, device: DeviceCapacity, kind: AcceleratorType) -> Allocation:
        share = min(1.0, kind.share_of(device.fp32_tflops))
        if device.kind == "cpu":
            return Allocation(device.name, share, kind.memory_bytes)
        if device.is_whole:
            cpu_share = self._cpu_share(kind, share)
            return Allocation(device.name, 1.0, device.memory_bytes, cpu_share, kind.memory_bytes)
        memory_bytes = kind.memory_bytes if kind.device_memory_bytes is None else kind.device_memory_bytes
        return Allocation(device.name, share, memory_bytes, self._cpu_share(kind, share), kind.memory_bytes)

    def _cpu_share(self, kind: AcceleratorType, share: float) -> float:
        """Return at least a core: a process that waits for a GPU keeps one busy; less would hold it back."""
        host = self.host_budget
        one_core = 1.0 if host is None else min(1.0, 1.0 / host.num_cores)
        return max(share, one_core) if kind.cpu_share is None else kind.cpu_share

    def _num_on(self, device: DeviceCapacity, kind: AcceleratorType) -> int:
        allocation = self.need_on(device, kind)
        if allocation is None:
            return 0
        num = _num_times(*self.left(device), allocation.share, allocation.memory_bytes)
        host = self.host_budget
        if device.kind == "cpu" or host is None:
            return num
        beside = _num_times(*self.left(host), allocation.cpu_share, allocation.host_memory_bytes)
        return min(num, beside)

    def _refusal(self, kind: AcceleratorType) -> CapacityExceeded:
        requested = _requested(kind)
        empty = replace(self, held={})
        if not empty.num_available(kind):
            offers = _list(f"{d.name} is {_figures(d, 1.0, d.memory_bytes)}" for d in self._named())
            return CapacityExceeded(
                f"type {kind.name!r} needs {requested}; no device here is that large: {offers}",
                requested=requested,
                available=offers,
            )
        left = _list(f"{d.name} has {_figures(d, *self.left(d))} left" for d in self._named())
        return CapacityExceeded(
            f"type {kind.name!r} needs {requested}; {left}", requested=requested, available=left
        )

    def _named(self) -> tuple[DeviceCapacity, ...]:
        """Devices, and the host where it is a budget of its own."""
        if self.host is None or self.host in self.devices:
            return self.devices
        return (*self.devices, self.host)


def _num_times(left_share: float, left_bytes: int, share: float, num_bytes: int) -> int:
    return max(0, min(math.floor((left_share + ROUNDING_SHARE) / share), left_bytes // num_bytes))


def _requested(kind: AcceleratorType) -> str:
    text = f"{kind.describe_compute()} and {format_bytes(kind.memory_bytes)}"
    if kind.device_kind == "cuda" and kind.device_memory_bytes is not None:
        return (
            f"{kind.describe_compute()}, {format_bytes(kind.device_memory_bytes)} of its memory and "
            f"{format_bytes(kind.memory_bytes)} of the host's"
        )
    return text


def _figures(device: DeviceCapacity, share: float, memory_bytes: int) -> str:
    tflops = share * device.fp32_tflops
    return f"{tflops:.3g} FP32 TFLOPS ({share * 100:.3g}% of the device) and {format_bytes(memory_bytes)}"


def _list(parts: Iterable[str]) -> str:
    return "; ".join(parts) or "there is no device"
