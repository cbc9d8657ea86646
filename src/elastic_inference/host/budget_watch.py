"""Looks at what tenants spend: warns, tells that a budget is reached, and has accelerators detached for it."""

from __future__ import annotations

import datetime
import logging
import threading
from collections.abc import Callable
from typing import Any

from elastic_inference.errors import TenantNotFound
from elastic_inference.host.accounts.budgets import Level, Spending
from elastic_inference.host.accounts.tenants import Tenant
from elastic_inference.host.tenancy import Tenancy

logger = logging.getLogger(__name__)

_LOOK_SECONDS = 5.0  # between two sums of what a tenant spent, unless something is due earlier


class BudgetWatch:
    """The budgets of a host's tenants.

    Args:
        now: Seconds since 1970, UTC.
        tell: Called once for each level that a tenant comes to in a month: the tenant, the level, a sentence.
        end: Begins to detach a tenant's accelerators; waits for nothing.
    """

    def __init__(
        self,
        tenancy: Tenancy,
        now: Callable[[], float],
        tell: Callable[[str, Level, str], None],
        end: Callable[[str], None],
    ) -> None:
        self._tenancy = tenancy
        self._now = now
        self._tell = tell
        self._end = end
        self._seen: dict[str, tuple[Tenant, Spending]] = {}
        self._due_at: dict[str, float] = {}
        self._lock = threading.Lock()

    def look(self) -> None:
        """Sum up what is due, and do what follows."""
        with self._lock:
            tenants = self._tenancy.list_all()
            for name in self._seen.keys() - {tenant.name for tenant in tenants}:
                del self._seen[name]
            for tenant in tenants:
                seen = self._seen.get(tenant.name)
                has_changed = seen is None or seen[0].budget != tenant.budget
                if has_changed or self._now() >= self._due_at.get(tenant.name, 0.0):
                    self._look_at(tenant)

    def touch(self, name: str) -> None:
        """Sum up a tenant anew at the next look: something of it was attached, resized or detached."""
        self._due_at.pop(name, None)

    def spending(self, name: str) -> Spending | None:
        """Return what a tenant was last seen to have spent; None before the first look. Waits for nothing."""
        seen = self._seen.get(name)
        return None if seen is None else seen[1]

    def warning(self, name: str) -> str:
        """Return what a tenant's clients are to be told; "" where nothing. Waits for nothing."""
        seen = self._seen.get(name)
        return "" if seen is None or seen[1].level is Level.ENOUGH else describe(*seen)

    def _look_at(self, tenant: Tenant) -> None:
        try:
            spent = self._tenancy.spending(tenant.name)
        except TenantNotFound:  # removed in this moment
            return
        self._seen[tenant.name] = tenant, spent
        self._due_at[tenant.name] = self._now() + _wait_seconds(tenant, spent, self._now())
        if tenant.budget is None:
            return
        noted = f"{spent.month} {spent.level.value}"
        if noted != tenant.noted and not (spent.level is Level.ENOUGH and not tenant.noted):
            if spent.level is not Level.ENOUGH:
                self._tell(tenant.name, spent.level, describe(tenant, spent))
            self._tenancy.note(tenant.name, noted if spent.level is not Level.ENOUGH else "")
        if spent.level is Level.OVER:
            self._end(tenant.name)


def describe(tenant: Tenant, spent: Spending) -> str:
    """Say how far a tenant is with its budget, and what follows, as a sentence that stays the same meanwhile."""
    assert tenant.budget is not None
    budget = f"its budget of {tenant.budget.usd_per_month:f} USD for {spent.month}"
    if spent.level is Level.WARNED:
        share = tenant.budget.warn_share * 100
        return f"tenant {tenant.name} has spent {share:g}% of {budget}; when it is spent, nothing new is attached"
    text = f"tenant {tenant.name} has spent {budget}: nothing new is attached"
    if spent.ends_at is None:
        return f"{text}, and what is attached continues and costs more"
    at = datetime.datetime.fromtimestamp(spent.ends_at, datetime.timezone.utc)
    return f"{text}, and what is attached is detached from {at:%Y-%m-%d %H:%M:%S} UTC on"


def row_of(tenant: Tenant, spent: Spending | None) -> dict[str, Any] | None:
    """Return what is shown of a budget; None where there is none."""
    if tenant.budget is None:
        return None
    return {
        **tenant.budget.to_json(),
        "month": "" if spent is None else spent.month,
        "level": Level.ENOUGH.value if spent is None else spent.level.value,
        "reached_at": None if spent is None else spent.reached_at,
        "ends_at": None if spent is None else spent.ends_at,
    }


def _wait_seconds(tenant: Tenant, spent: Spending, now: float) -> float:
    """Return how long nothing can happen that nobody says: what is attached costs the same each second."""
    waits = [_LOOK_SECONDS]
    if tenant.budget is not None and spent.usd_per_hour > 0:
        for share in (tenant.budget.warn_share, 1.0):
            left_usd = float(tenant.budget.usd_per_month) * share - float(spent.spent_usd)
            if left_usd > 0:
                waits.append(left_usd / float(spent.usd_per_hour) * 3600)
    if spent.ends_at is not None and spent.ends_at > now:
        waits.append(spent.ends_at - now)
    return min(waits)
