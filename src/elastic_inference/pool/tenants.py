"""Tenants are of a single host so far: a pool has one operator, and says so to whoever would add a tenant."""

from __future__ import annotations

from typing import Any

from elastic_inference.errors import InvalidInput, TenantNotFound
from elastic_inference.host.accounts.tenants import Budget, Quota, Tenant
from elastic_inference.host.tenancy import Tenancy


class NoTenancy(Tenancy):
    """No tenants."""

    def add(self, name: str, quota: Quota, budget: Budget | None) -> Tenant:  # noqa: ARG002
        """Raise InvalidInput."""
        raise InvalidInput(
            f"tenant {name!r:.80} cannot be added: a pool has no tenants yet; give tenants to single hosts"
        )


class NoTenants:
    """What is done for no tenants; see `host.control.TenantControl`."""

    def tenant_of(self, accelerator_id: str) -> str | None:  # noqa: ARG002
        """Return that it is the operator's own."""
        return ""

    def rows(self) -> list[dict[str, Any]]:
        """Return no row."""
        return []

    def warning(self, tenant: str) -> str:  # noqa: ARG002
        """Return that there is nothing to say."""
        return ""

    def sum_up(self, tenant: str) -> None:
        """Do nothing: there is no tenant."""

    def put_rates(self, tenant: str) -> None:
        """Do nothing: there is no tenant."""

    def remove(self, tenant: str, with_accelerators: bool = False) -> None:  # noqa: ARG002
        """Raise TenantNotFound."""
        raise TenantNotFound(f"there is no tenant {tenant!r:.80} here; a pool has none yet")
