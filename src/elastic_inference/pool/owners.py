"""What each accelerator holds of a pool, wherever it is: also while it is nowhere, and once while it moves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from elastic_inference.host.accounts.capacity import Allocation
from elastic_inference.pool.model import Request


@dataclass(frozen=True)
class Owned:
    """What was asked for, and what was given last."""

    request: Request
    allocation: Allocation


class Owners:
    """By accelerator and by tenant. Not safe for several threads but for `tenant_of`: the caller holds a lock."""

    def __init__(self) -> None:
        self._owned: dict[str, Owned] = {}
        self._by_tenant: dict[str, dict[str, Allocation]] = {}

    def put(self, accelerator_id: str, request: Request, allocation: Allocation) -> None:
        """Let an accelerator hold exactly this from now on."""
        self._owned[accelerator_id] = Owned(request, allocation)
        self._by_tenant.setdefault(request.tenant, {})[accelerator_id] = allocation

    def remove(self, accelerator_id: str) -> None:
        """Let it hold nothing; an unknown one is fine."""
        owned = self._owned.pop(accelerator_id, None)
        if owned is not None:
            mine = self._by_tenant[owned.request.tenant]
            del mine[accelerator_id]
            if not mine:
                del self._by_tenant[owned.request.tenant]

    def held_by(self, tenant: str) -> dict[str, Allocation]:
        """Return what a tenant's accelerators hold, by id."""
        return dict(self._by_tenant.get(tenant, {}))

    def tenant_of(self, accelerator_id: str) -> str | None:
        """Return whose it is; None for one that holds nothing. Waits for nothing."""
        owned = self._owned.get(accelerator_id)
        return None if owned is None else owned.request.tenant

    def all(self) -> Mapping[str, Owned]:
        """All of them, by id."""
        return self._owned
