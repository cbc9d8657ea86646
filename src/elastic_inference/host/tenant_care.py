"""What a host or a pool does for and with its tenants: their budgets, their place in the line, their end."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

from elastic_inference.errors import AcceleratorBusy, AcceleratorNotFound
from elastic_inference.host import events
from elastic_inference.host.accounts.budgets import Level
from elastic_inference.host.accounts.catalogue import AcceleratorType
from elastic_inference.host.accounts.scope import OPERATOR
from elastic_inference.host.accounts.stock import Check, Stock
from elastic_inference.host.audit import AuditLog, Entry
from elastic_inference.host.budget_watch import BudgetWatch, row_of
from elastic_inference.host.entrance import Entrance
from elastic_inference.host.events import EventLog
from elastic_inference.host.expiry import Expiry
from elastic_inference.host.tenancy import Tenancy
from elastic_inference.units import format_usd


class TenantCare:
    """Looks after the tenants.

    Args:
        detach: Detaches an accelerator; takes as long as it takes.
        put_rates: Tells whoever holds accelerators of a tenant what its quota says now; waits for nothing.
        forget: Removes what a tenant that is gone leaves behind; its accelerators have ended.
        now: Seconds since 1970, UTC.
    """

    def __init__(
        self,
        tenancy: Tenancy,
        stock: Stock[Any],
        entrance: Entrance,
        expiry: Expiry,
        log: EventLog,
        audit: AuditLog,
        detach: Callable[[str], None],
        put_rates: Callable[[str], None],
        forget: Callable[[str], None],
        now: Callable[[], float],
    ) -> None:
        self._tenancy = tenancy
        self._stock = stock
        self._entrance = entrance
        self._expiry = expiry
        self._log = log
        self._audit = audit
        self._detach = detach
        self._put_rates = put_rates
        self._forget = forget
        self._now = now
        self.budgets = BudgetWatch(self._tenancy, now, self._tell, self._end)

    def look(self) -> None:
        """Warn and detach as budgets say, and forget those in the line that have gone."""
        self._entrance.look()
        self.budgets.look()

    def tenant_of(self, accelerator_id: str) -> str | None:
        """Return whose an accelerator is, None for one that is not attached. Waits for nothing."""
        return self._stock.tenant_of(accelerator_id)

    def warning(self, tenant: str) -> str:
        """Return what a tenant's clients are to be told; "" where nothing. Waits for nothing."""
        return self.budgets.warning(tenant)

    def sum_up(self, tenant: str) -> None:
        """See to it that `rows` says what a tenant has spent until now."""
        self.budgets.touch(tenant)
        self.budgets.look()

    def check_resize(self, tenant: str, kind: AcceleratorType) -> Check | None:
        """Return whether a tenant may have a type in place of what an accelerator has; None: anything.

        Raises:
            TenantQuotaExceeded: Not the type at all.
            BudgetReached: Its budget is spent.
        """
        if tenant == OPERATOR:
            return None
        quota = self._tenancy.quota(tenant)
        quota.check_request(tenant, kind.name, 0)
        self._tenancy.check_budget(tenant)
        return lambda held, wanted: quota.check(tenant, held, wanted)

    def remove(self, name: str, with_accelerators: bool = False) -> None:
        """Forget a tenant; what it used stays in the usage.

        Args:
            with_accelerators: Whether its accelerators are detached first.

        Raises:
            TenantNotFound: There is none of this name.
            AcceleratorBusy: It has accelerators, and they are not to be detached.
        """
        self._tenancy.get(name)
        mine = self._stock.held_by(name)
        if mine and not with_accelerators:
            raise AcceleratorBusy(
                f"tenant {name!r} has {len(mine)} accelerators attached; detach them first, or with it (--detach)"
            )
        for accelerator_id in mine:
            with contextlib.suppress(AcceleratorNotFound):
                self._detach(accelerator_id)
        self._tenancy.remove(name)
        self._forget(name)

    def put_rates(self, name: str) -> None:
        """Let a tenant's accelerators take as many requests a second as its quota says now."""
        self._put_rates(name)

    def rows(self) -> list[dict[str, Any]]:
        """Return what is shown of each tenant, by name: what it has, may have and has spent. Waits for nothing."""
        waiting = self._entrance.rows()
        rows = []
        for tenant in self._tenancy.list_all():
            held = self._stock.held_by(tenant.name).values()
            spent = self.budgets.spending(tenant.name)
            rows.append(
                {
                    "name": tenant.name,
                    "num_accelerators": len(held),
                    "num_waiting": sum(row["tenant"] == tenant.name for row in waiting),
                    "share": round(sum(each.share for each in held), 4),
                    "memory_bytes": sum(each.memory_bytes + each.host_memory_bytes for each in held),
                    "max_accelerators": tenant.quota.max_accelerators,
                    "max_share": tenant.quota.max_share,
                    "max_memory_bytes": tenant.quota.max_memory_bytes,
                    "requests_per_second": tenant.quota.requests_per_second,
                    "spent_usd": None if spent is None else format_usd(spent.spent_usd, 4),
                    "unpriced_hours": None if spent is None else round(spent.unpriced_seconds / 3600, 3),
                    "budget": row_of(tenant, spent),
                    "warning": self.budgets.warning(tenant.name),
                }
            )
        return rows

    def _end(self, tenant: str) -> None:
        for accelerator_id in self._stock.held_by(tenant):
            if self._expiry.begin(accelerator_id, "budget reached"):
                text = f"detached: the budget of tenant {tenant} is spent"
                self._log.add(self._now(), events.Kind.BUDGET, text, accelerator_id, tenant=tenant)
                self._note(tenant, "DELETE", f"/v1/accelerators/{accelerator_id}", text, accelerator_id)

    def _tell(self, tenant: str, level: Level, text: str) -> None:
        self._log.add(self._now(), events.Kind.BUDGET, text, name=tenant, tenant=tenant)
        self._note(tenant, level.name, f"/v1/tenants/{tenant}", text)

    def _note(self, tenant: str, method: str, path: str, text: str, accelerator_id: str = "") -> None:
        """Write into the audit log what the host itself did."""
        self._audit.append(
            Entry(
                at=round(self._now(), 3),
                who="host",
                address="",
                door="host",
                method=method,
                path=path,
                accelerator_id=accelerator_id,
                status=200,
                request_id="",
                tenant=tenant,
                detail=text,
            )
        )
