"""The capacity in force: who takes and who gives back, one at a time."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import replace

from elastic_inference.errors import CapacityExceeded
from elastic_inference.host.accounts.capacity import Allocation, Capacity
from elastic_inference.host.accounts.catalogue import AcceleratorType
from elastic_inference.host.accounts.room import HostRoom
from elastic_inference.host.accounts.stock import Check


class Ledger:
    """What is held of a host's devices, for all threads that change it; see `stock.Stock`.

    Args:
        kinds: Types by name, for those that wait.
    """

    def __init__(self, capacity: Capacity, kinds: Mapping[str, AcceleratorType] | None = None) -> None:
        self._capacity = capacity
        self._kinds = {} if kinds is None else kinds
        self._lock = threading.Lock()

    @property
    def capacity(self) -> Capacity:
        """Devices and what is held of them, now."""
        return self._capacity

    def room(self) -> HostRoom:
        """Return what is left now, for one question of the line."""
        return HostRoom(self._capacity, self._kinds)

    def held_by(self, tenant: str) -> Mapping[str, Allocation]:
        """Return what one tenant holds, by accelerator."""
        return self._capacity.held_by(tenant)

    def tenant_of(self, accelerator_id: str) -> str | None:
        """Return whose an accelerator is; None for one that holds nothing."""
        held = self._capacity.held.get(accelerator_id)
        return None if held is None else held.tenant

    def on_its_own(self, kind: AcceleratorType) -> Allocation:
        """Return what a type would hold if there were no other; raises CapacityExceeded: no device is that large."""
        return replace(self._capacity, held={}).place(kind)

    def refusal(self, kind: AcceleratorType) -> CapacityExceeded | None:
        """Return why a type does not fit, with what is left; None where it fits beside what is held."""
        try:
            self._capacity.place(kind)
        except CapacityExceeded as error:
            return error
        return None

    def take(
        self,
        accelerator_id: str,
        kind: AcceleratorType,
        tenant: str = "",
        check: Check | None = None,
        room: HostRoom | None = None,
    ) -> Allocation:
        """Hold what a type needs; raises CapacityExceeded where it does not fit, or what `check` does.

        Args:
            room: Of this alone, which leaves what those in front wait for; None: of all that is left.
        """
        device = None if room is None else room.device_for(kind.name)
        with self._lock:
            capacity = self._capacity if device is None else self._capacity.only(device)
            allocation = replace(capacity.place(kind), tenant=tenant)
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
            self._capacity = others.with_held(accelerator_id, before.larger(after))
            return before, after
