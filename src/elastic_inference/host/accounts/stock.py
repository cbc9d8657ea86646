"""Devices that accelerators are given from: what a host's ledger and a pool's books have in common."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Protocol, TypeVar

from elastic_inference.errors import CapacityExceeded
from elastic_inference.host.accounts.capacity import Allocation
from elastic_inference.host.accounts.catalogue import AcceleratorType
from elastic_inference.host.accounts.line import Room

Check = Callable[[Collection[Allocation], Allocation], None]
"""Raises where a tenant that holds some may not have one more."""


R = TypeVar("R", bound=Room)


class Stock(Protocol[R]):
    """Who holds what of the devices. Any thread may call."""

    def room(self) -> R:
        """Return what is left now, for one question of the line."""

    def held_by(self, tenant: str) -> Mapping[str, Allocation]:
        """Return what one tenant holds, by accelerator."""

    def tenant_of(self, accelerator_id: str) -> str | None:
        """Return whose an accelerator is; None for one that holds nothing. Waits for nothing."""

    def on_its_own(self, kind: AcceleratorType) -> Allocation:
        """Return what a type would hold if there were no other; raises CapacityExceeded: no device is that large."""

    def refusal(self, kind: AcceleratorType) -> CapacityExceeded | None:
        """Return why a type does not fit, with what is left; None where it fits beside what is held."""

    def take(
        self,
        accelerator_id: str,
        kind: AcceleratorType,
        tenant: str = "",
        check: Check | None = None,
        room: R | None = None,
    ) -> Allocation:
        """Hold what a type needs.

        Args:
            room: Of this alone, which leaves what those in front wait for; None: of all that is left.

        Raises:
            CapacityExceeded: It does not fit.
            What `check` raises.
        """
