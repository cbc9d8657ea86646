"""What still fits on a host's devices. Pure: no process is started and no device is asked."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from elastic_inference.errors import CapacityExceeded
from elastic_inference.host.accounts.catalogue import AcceleratorType
from elastic_inference.units import format_bytes

_ROUNDING_SHARE = 1e-9  # ten times 0.1 is not 1.0 in floats


@dataclass(frozen=True)
class DeviceCapacity:
    """What one device offers to all accelerators together.

    Attributes:
        name: `cpu:0`.
        fp32_tflops: Measured, of the whole device.
        memory_bytes: Without what the host keeps for itself.
    """

    name: str
    fp32_tflops: float
    memory_bytes: int


@dataclass(frozen=True)
class Allocation:
    """What one accelerator holds of a device."""

    device: str
    share: float
    memory_bytes: int


@dataclass(frozen=True)
class Capacity:
    """Devices, and what is held of them, by accelerator id."""

    devices: tuple[DeviceCapacity, ...]
    held: dict[str, Allocation] = field(default_factory=dict)

    def left(self, device: DeviceCapacity) -> tuple[float, int]:
        """Share and bytes that nobody holds; never below 0."""
        mine = [a for a in self.held.values() if a.device == device.name]
        share = 1.0 - math.fsum(a.share for a in mine)
        memory_bytes = device.memory_bytes - sum(a.memory_bytes for a in mine)
        return max(0.0, share), max(0, memory_bytes)

    def num_available(self, kind: AcceleratorType) -> int:
        """How many accelerators of this type still fit, one after another."""
        return sum(self._num_on(device, kind) for device in self.devices)

    def place(self, kind: AcceleratorType) -> Allocation:
        """Choose the device that is left with the least share, so that large types find whole ones.

        Raises:
            CapacityExceeded: The type is larger than every device, or than what is left; with the figures.
        """
        fitting = [d for d in self.devices if self._num_on(d, kind)]
        if not fitting:
            raise self._refusal(kind)
        device = min(fitting, key=lambda d: self.left(d))
        return Allocation(device.name, min(1.0, kind.share_of(device.fp32_tflops)), kind.memory_bytes)

    def with_held(self, accelerator_id: str, allocation: Allocation) -> Capacity:
        """The same after an attach."""
        return replace(self, held={**self.held, accelerator_id: allocation})

    def without(self, accelerator_id: str) -> Capacity:
        """The same after a detach; an unknown id changes nothing."""
        return replace(self, held={k: v for k, v in self.held.items() if k != accelerator_id})

    def _num_on(self, device: DeviceCapacity, kind: AcceleratorType) -> int:
        share, memory_bytes = self.left(device)
        need = kind.share_of(device.fp32_tflops)
        by_compute = math.floor((share + _ROUNDING_SHARE) / need) if math.isfinite(need) else 0
        return max(0, min(by_compute, memory_bytes // kind.memory_bytes))

    def _refusal(self, kind: AcceleratorType) -> CapacityExceeded:
        requested = f"{kind.describe_compute()} and {format_bytes(kind.memory_bytes)}"
        empty = replace(self, held={})
        if not empty.num_available(kind):
            offers = _list(f"{d.name} is {_figures(d, 1.0, d.memory_bytes)}" for d in self.devices)
            return CapacityExceeded(
                f"type {kind.name!r} needs {requested}; no device here is that large: {offers}",
                requested=requested,
                available=offers,
            )
        left = _list(f"{d.name} has {_figures(d, *self.left(d))} left" for d in self.devices)
        return CapacityExceeded(
            f"type {kind.name!r} needs {requested}; {left}", requested=requested, available=left
        )


def _figures(device: DeviceCapacity, share: float, memory_bytes: int) -> str:
    tflops = share * device.fp32_tflops
    return f"{tflops:.3g} FP32 TFLOPS ({share * 100:.3g}% of the device) and {format_bytes(memory_bytes)}"


def _list(parts: Iterable[str]) -> str:
    return "; ".join(parts) or "there is no device"
