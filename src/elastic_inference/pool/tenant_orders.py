"""Tells a pool's hosts what falls to them of its tenants: their part of the requests a second; and who is no more.

A quota of requests a second is divided among hosts by how many of the tenant's accelerators each has. What hosts are to
know is compared with what they were told, once a second: so whatever moved accelerators need not say so.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from elastic_inference.errors import InvalidInput
from elastic_inference.host.accounts.scope import OPERATOR
from elastic_inference.host.accounts.tenants import MIN_REQUESTS_PER_SECOND
from elastic_inference.host.tenancy import Tenancy
from elastic_inference.pool.books import Books
from elastic_inference.pool.keeper import PlacementKeeper
from elastic_inference.pool.link import TenantPart
from elastic_inference.pool.model import HostState
from elastic_inference.pool.retries import Retries

Key = tuple[str, str]
"""A host and a tenant."""


class TenantParts:
    """What each host is to know of tenants."""

    def __init__(self, books: Books, tenancy: Tenancy) -> None:
        self._books = books
        self._tenancy = tenancy

    def of(self, tenant: str, host_id: str) -> TenantPart:
        """Return what a host is to know of a tenant; one that has nothing of it yet counts as one that has one."""
        return self._part(tenant, self._books.spreads().get(tenant, {}), host_id)

    def all(self) -> dict[Key, TenantPart]:
        """Return it of all tenants for the hosts that hold something of them."""
        return {
            (host_id, tenant): self._part(tenant, spread, host_id)
            for tenant, spread in self._books.spreads().items()
            if tenant != OPERATOR
            for host_id in spread
        }

    def _part(self, tenant: str, spread: Mapping[str, int], host_id: str) -> TenantPart:
        created_at = self._tenancy.created_at(tenant)
        if created_at == math.inf:
            return TenantPart(tenant, None, None)
        rate = self._tenancy.quota(tenant).requests_per_second
        return TenantPart(tenant, created_at, None if rate is None else _part(rate, spread, host_id))


def _part(rate: float, spread: Mapping[str, int], host_id: str) -> float:
    mine = spread.get(host_id, 1)
    return max(MIN_REQUESTS_PER_SECOND, rate * mine / max(mine, sum(spread.values())))


class TenantOrders:
    """Used by one thread but for `put` and `forget`, which any may call."""

    def __init__(self, keeper: PlacementKeeper, books: Books, tenancy: Tenancy) -> None:
        self._keeper = keeper
        self._books = books
        self._parts = TenantParts(books, tenancy)
        self._told: dict[Key, TenantPart] = {}
        self._retries = Retries("tell a host of a tenant", self._tell)

    def put(self, tenant: str) -> None:
        """Tell the hosts that have accelerators of a tenant what its quota says now; tried until they know."""
        self._retries.add((host_id, tenant) for host_id in self._books.spreads().get(tenant, {}))

    def forget(self, tenant: str) -> None:
        """Let all hosts forget a tenant and remove its store; tried until they have."""
        self._retries.add((row.host_id, tenant) for row in self._books.hosts())

    def look(self) -> None:
        """Begin to tell hosts what they do not know yet; waits for nothing."""
        parts = self._parts.all()
        self._told = {key: part for key, part in self._told.copy().items() if key in parts}
        self._retries.add(key for key, part in parts.items() if self._told.get(key) != part)
        self._retries.look()

    def close(self) -> None:
        """Begin nothing more."""
        self._retries.close()

    def _tell(self, key: Key) -> bool:
        host_id, tenant = key
        try:
            row = self._books.host(host_id)
        except InvalidInput:  # it is of this pool no more
            return True
        if row.state is HostState.LOST:
            return True  # it will join with nothing, and is told then who there is
        part = self._parts.of(tenant, host_id)
        self._keeper.link(row).put_tenant(part)
        self._told[key] = part
        return True
