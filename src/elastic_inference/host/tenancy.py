"""The tenants of a host or a pool: in memory for whoever asks, written down for the next run; and what each has spent.

Every method may be called by any thread. Finding whose a token is waits for nothing.
"""

from __future__ import annotations

import math
import secrets
import threading
from collections.abc import Callable
from dataclasses import replace

from elastic_inference.errors import BudgetReached, InvalidInput, TenantNotFound, TenantQuotaExceeded
from elastic_inference.host.accounts.budgets import Level, Spending, month_of, spending
from elastic_inference.host.accounts.state import StateStore
from elastic_inference.host.accounts.tenant_store import TenantStore
from elastic_inference.host.accounts.tenants import (
    MAX_PRIORITY,
    MAX_TENANTS,
    MAX_TOKEN_SECONDS,
    MAX_TOKENS,
    Budget,
    Quota,
    Tenant,
    TenantToken,
    check_tenant_name,
)
from elastic_inference.host.tokens import hash_token, make_token
from elastic_inference.units import format_usd

_NO_QUOTA = Quota(max_priority=MAX_PRIORITY)
_MAX_LABEL_LENGTH = 100


class Tenancy:
    """Tenants and their tokens.

    Args:
        store: The host's database; open.
        now: Seconds since 1970, UTC.
    """

    def __init__(self, store: StateStore, now: Callable[[], float]) -> None:
        self.store = TenantStore(store)
        self._state = store
        self.now = now
        self._lock = threading.Lock()
        self._tenants = {tenant.name: tenant for tenant in self.store.list_all()}
        self._tokens = {token.token_sha256: token for token in self.store.list_tokens()}

    # Who there is

    def list_all(self) -> tuple[Tenant, ...]:
        """All tenants, by name."""
        return tuple(self._tenants[name] for name in sorted(self._tenants.copy()))

    def get(self, name: str) -> Tenant:
        """One tenant; raises TenantNotFound."""
        tenant = self._tenants.get(name)
        if tenant is None:
            raise TenantNotFound(f"there is no tenant {name!r:.80} here; `ei tenant list` lists them")
        return tenant

    def quota(self, name: str) -> Quota:
        """Return what a tenant may have; no limits for the operator, and for a tenant that is gone."""
        tenant = self._tenants.get(name)
        return _NO_QUOTA if tenant is None else tenant.quota

    def created_at(self, name: str) -> float:
        """Return since when there is this tenant, in seconds since 1970; for one that is gone: it sees nothing."""
        tenant = self._tenants.get(name)
        return math.inf if tenant is None else tenant.created_at

    def find(self, token_sha256: str) -> str | None:
        """Return the tenant whose token has this hash and is in force, or None."""
        token = self._tokens.get(token_sha256)
        return None if token is None or not token.is_in_force(self.now()) else token.tenant

    # Changes

    def add(self, name: str, quota: Quota, budget: Budget | None) -> Tenant:
        """Take a tenant in; raises InvalidInput or NameTaken."""
        tenant = Tenant(check_tenant_name(name), self.now(), quota, budget)
        with self._lock:
            if len(self._tenants) >= MAX_TENANTS:
                raise TenantQuotaExceeded(
                    f"there are {MAX_TENANTS} tenants already, the most that a host keeps"
                )
            self.store.add(tenant)
            self._tenants[name] = tenant
        return tenant

    def put(self, name: str, quota: Quota, created_at: float) -> None:
        """Have a tenant with this quota and no budget, whether or not it is known, as a pool tells its hosts."""
        with self._lock:
            known = self._tenants.get(name)
            tenant = Tenant(check_tenant_name(name), created_at, quota)
            if known is None:
                self.store.add(tenant)
            elif known != tenant:
                self.store.change(tenant)
            self._tenants[name] = tenant

    def change(self, name: str, quota: Quota, budget: Budget | None) -> Tenant:
        """Give a tenant another quota and budget, in force at once; raises TenantNotFound."""
        with self._lock:
            before = self.get(name)
            tenant = replace(before, quota=quota, budget=self._since(budget, before.budget))
            self.store.change(tenant)
            self._tenants[name] = tenant
        return tenant

    def _since(self, budget: Budget | None, before: Budget | None) -> Budget | None:
        if budget is None:
            return None
        if before is not None and replace(budget, since=before.since) == before:
            return before
        return replace(budget, since=self.now())

    def note(self, name: str, noted: str) -> None:
        """Write down what was told of a tenant's budget; a tenant that is gone is fine."""
        with self._lock:
            tenant = self._tenants.get(name)
            if tenant is not None:
                changed = replace(tenant, noted=noted)
                self.store.change(changed)
                self._tenants[name] = changed

    def remove(self, name: str) -> None:
        """Forget a tenant and refuse its tokens from now on; raises TenantNotFound."""
        with self._lock:
            self.get(name)
            self.store.remove(name)
            del self._tenants[name]
            self._tokens = {key: token for key, token in self._tokens.items() if token.tenant != name}

    # Tokens

    def tokens(self, name: str) -> tuple[TenantToken, ...]:
        """Return a tenant's tokens, oldest first, those that have expired among them; raises TenantNotFound."""
        self.get(name)
        return tuple(token for token in self._tokens.copy().values() if token.tenant == name)

    def add_token(
        self, name: str, label: str = "", lifetime_seconds: float | None = None
    ) -> tuple[TenantToken, str]:
        """Make a token for a tenant.

        Args:
            label: What it is for, a few words.
            lifetime_seconds: From now; None: without end.

        Returns:
            It, and its text, which nobody can read again.
        """
        if len(label) > _MAX_LABEL_LENGTH or not label.isprintable():
            raise InvalidInput(
                f"label {label!r:.120} is not one line of up to {_MAX_LABEL_LENGTH} characters"
            )
        if lifetime_seconds is not None and not 0 < lifetime_seconds <= MAX_TOKEN_SECONDS:
            raise InvalidInput(
                f"a token's lifetime of {lifetime_seconds} s is not above 0 and up to {MAX_TOKEN_SECONDS:.0f} s"
            )
        text, now = make_token(), self.now()
        expires_at = None if lifetime_seconds is None else now + lifetime_seconds
        token = TenantToken(secrets.token_hex(4), name, label, now, expires_at, hash_token(text))
        with self._lock:
            if len(self.tokens(name)) >= MAX_TOKENS:
                raise TenantQuotaExceeded(
                    f"tenant {name!r} has {MAX_TOKENS} tokens, the most that it may; revoke some first",
                    tenant=name,
                    limit=f"{MAX_TOKENS} tokens",
                )
            self.store.add_token(token)
            self._tokens = {**self._tokens, token.token_sha256: token}
        return token, text

    def revoke_token(self, name: str, token_id: str) -> None:
        """Refuse a token from now on; raises TenantNotFound where the tenant has none of this id."""
        with self._lock:
            found = [token for token in self.tokens(name) if token.token_id == token_id]
            if not found:
                raise TenantNotFound(
                    f"tenant {name!r} has no token {token_id!r:.40}; `ei tenant token list {name}` lists them"
                )
            self.store.remove_tokens([token_id])
            self._tokens = {key: each for key, each in self._tokens.items() if each not in found}

    # Money

    def spending(self, name: str) -> Spending:
        """Say what a tenant has spent this month, up to now; raises TenantNotFound."""
        tenant, now = self.get(name), self.now()
        since = max(
            month_of(now)[1], tenant.created_at
        )  # not what another of this name spent, who was removed
        return spending(tenant.budget, self._state.list_intervals(since, tenant=name), now, since)

    def check_budget(self, name: str) -> None:
        """Raise BudgetReached where a tenant may spend no more this month; TenantNotFound where there is none."""
        budget = self.get(name).budget
        if budget is None:
            return
        spent = self.spending(name)
        if spent.level in (Level.REACHED, Level.OVER):
            limit, so_far = f"{budget.usd_per_month:f} USD", f"{format_usd(spent.spent_usd)} USD"
            raise BudgetReached(
                f"tenant {name!r} has spent {so_far} in {spent.month}, and its budget is {limit} a month; "
                "wait for the next month, or let the operator raise the budget",
                tenant=name,
                requested=so_far,
                limit=limit,
            )
