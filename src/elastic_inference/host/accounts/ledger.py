"""The capacity in force: who takes and who gives back, one at a time."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection
from dataclasses import replace

from elastic_inference.host.accounts.capacity import Allocation, Capacity
from elastic_inference.host.accounts.catalogue import AcceleratorType

Check = Callable[[Collection[Allocation], Allocation], None]
"""Raises where a tenant that holds some may not have one more."""


class Ledger:
    """What is held of a host's devices, for all threads that change it."""

    def __init__(self, capacity: Capacity) -> None:
        self._capacity = capacity
        self._lock = threading.Lock()

    @property
    def capacity(self) -> Capacity:
        """Devices and what is held of them, now."""
        return self._capacity

    def take(
        self, accelerator_id: str, kind: AcceleratorType, tenant: str = "", check: Check | None = None
    ) -> Allocation:
        """Hold what a type needs; raises CapacityExceeded where it does not fit, or what `check` does."""
        with self._lock:
            allocation = replace(self._capacity.place(kind), tenant=tenant)
            if check is not None:
                check(self._capacity.held_by(tenant).values(), allocation)
            self._capacity = self._capacity.with_held(accelerator_id, allocation)
            return allocation

    def put(self, accelerator_id: str, allocation: Allocation) -> None:
        """Hold exactly this from now on."""
        with self._lock:
            self._capacity = self._capacity.with_held(accelerator_id, allocation)

    def free(self, accelerator_id: str) -> None:
        """Hold nothing; an unknown id is fine."""
        with self._lock:
            self._capacity = self._capacity.without(accelerator_id)

    def widen(
        self, accelerator_id: str, kind: AcceleratorType, check: Check | None = None
    ) -> tuple[Allocation, Allocation]:
        """Hold what an accelerator has and what another type on the same device needs, the larger of each.

        So that whichever of them it has in the end still fits: what a shrink gives back may be taken by others at
        once, and a shrink may fail.

        Returns:
            What it held, and what the type needs.

        Raises:
            CapacityExceeded: The type does not fit beside the others; or what `check` raises.
        """
        with self._lock:
            before = self._capacity.held[accelerator_id]
            others = self._capacity.without(accelerator_id)
            after = replace(others.only(before.device).place(kind), tenant=before.tenant)
            if check is not None:
                check(others.held_by(before.tenant).values(), after)
            both = Allocation(
                before.device,
                max(before.share, after.share),
                max(before.memory_bytes, after.memory_bytes),
                max(before.cpu_share, after.cpu_share),
                max(before.host_memory_bytes, after.host_memory_bytes),
                before.tenant,
            )
            self._capacity = others.with_held(accelerator_id, both)
            return before, after
