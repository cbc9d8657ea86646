"""What one host's devices have left, as those that wait leave it to whoever is behind them. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from elastic_inference.errors import CapacityExceeded
from elastic_inference.host.accounts.capacity import Allocation, Capacity
from elastic_inference.host.accounts.catalogue import AcceleratorType
from elastic_inference.host.accounts.line import Waiter


class HostRoom:
    """See `line.Room`. What does not fit keeps all devices on which it could be.

    Args:
        kinds: Types by name; one that is not there holds nobody up.
    """

    def __init__(self, capacity: Capacity, kinds: Mapping[str, AcceleratorType]) -> None:
        self._capacity = capacity
        self._kinds = kinds
        self._blocked: frozenset[str] = frozenset()

    def fits(self, type_name: str) -> bool:
        """Whether a type fits on what nobody holds or is kept for."""
        return self.device_for(type_name) is not None

    def device_for(self, type_name: str) -> str | None:
        """Return the device on which it fits; None: on none."""
        allocation = self._place(self._capacity, self._kinds[type_name])
        return None if allocation is None else allocation.device

    def set_aside(self, waiter: Waiter, may_have: Callable[[Allocation], bool]) -> None:
        """Hold what it waits for, or keep the devices from those behind it."""
        kind = self._kinds.get(waiter.type_name)
        if kind is None:
            return
        allocation = self._place(self._capacity, kind)
        if allocation is None:
            self._keep(waiter, kind)
            return
        allocation = replace(allocation, tenant=waiter.tenant)
        if may_have(allocation):
            self._capacity = self._capacity.with_held(waiter.ticket, allocation)

    def _keep(self, waiter: Waiter, kind: AcceleratorType) -> None:
        empty = replace(self._capacity, held={})
        for device in self._capacity.devices:
            wanted = _place(empty.only(device.name), kind, frozenset())
            if wanted is not None:
                self._blocked |= {device.name}
                self._keep_host_part(waiter, wanted)

    def _keep_host_part(self, waiter: Waiter, wanted: Allocation) -> None:
        """Keep from those behind what a waiter for a GPU needs of the host, and no more than that."""
        host = self._capacity.host_budget
        if host is None or not wanted.cpu_share:
            return
        share, num_bytes = self._capacity.left(host)
        if share < wanted.cpu_share or num_bytes < wanted.host_memory_bytes:
            self._blocked |= {host.name}
            return
        part = Allocation(host.name, wanted.cpu_share, wanted.host_memory_bytes)
        self._capacity = self._capacity.with_held(waiter.ticket, part)

    def _place(self, capacity: Capacity, kind: AcceleratorType) -> Allocation | None:
        return _place(capacity, kind, self._blocked)


def _place(capacity: Capacity, kind: AcceleratorType, blocked: frozenset[str]) -> Allocation | None:
    """Return where a type fits now; None where it does not, or only on what is kept for others."""
    free = tuple(device for device in capacity.devices if device.name not in blocked)
    host = capacity.host_budget
    try:
        allocation = replace(capacity, devices=free, host=host).place(kind)
    except CapacityExceeded:
        return None
    is_kept = host is not None and allocation.cpu_share > 0 and host.name in blocked
    return None if is_kept else allocation
