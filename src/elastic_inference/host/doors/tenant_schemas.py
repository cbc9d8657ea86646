"""The JSON objects of tenants in the control API; money is text, because JSON has no decimals."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, Field

from elastic_inference.host.accounts.tenants import (
    MAX_GRACE_SECONDS,
    MAX_PRIORITY,
    MAX_TOKEN_SECONDS,
    AtLimit,
    Budget,
    Quota,
    Tenant,
    TenantToken,
)
from elastic_inference.host.doors.board_schemas import TenantRowView
from elastic_inference.host.doors.schemas import Strict, Usd
from elastic_inference.units import parse_usd


class QuotaBody(Strict):
    """What a tenant may have at the same time; null: as much as there is."""

    max_accelerators: Annotated[int | None, Field(ge=0, le=1_000_000)] = None
    max_share: Annotated[
        float | None, Field(ge=0, le=1e6, description="Of devices; 1.5: one and a half.")
    ] = None
    max_memory_bytes: Annotated[int | None, Field(ge=0, le=2**62)] = None
    types: Annotated[
        tuple[Annotated[str, Field(min_length=1, max_length=63)], ...],
        Field(max_length=100, description="Names or patterns such as cpu.*; none: all."),
    ] = ()
    requests_per_second: Annotated[
        float | None, Field(ge=1e-3, le=1e9, allow_inf_nan=False, description="Of all accelerators together.")
    ] = None
    max_priority: Annotated[int, Field(ge=0, le=MAX_PRIORITY)] = 0

    def value(self) -> Quota:
        """Return what the host keeps."""
        return Quota(**vars(self))

    @classmethod
    def of(cls, quota: Quota) -> QuotaBody:
        """Return it as JSON has it."""
        return cls(**vars(quota))


class BudgetBody(Strict):
    """What a tenant may spend in a month (UTC)."""

    usd_per_month: Usd
    warn_share: Annotated[float, Field(ge=0, le=1)] = 0.8
    at_limit: Annotated[
        AtLimit, Field(description="warn: what runs continues; detach: it is detached after the grace.")
    ] = AtLimit.WARN
    grace_seconds: Annotated[float, Field(ge=0, le=MAX_GRACE_SECONDS)] = 600.0

    def value(self) -> Budget:
        """Return what the host keeps."""
        usd = parse_usd(self.usd_per_month, "usd_per_month")
        return Budget(usd, self.warn_share, self.at_limit, self.grace_seconds)

    @classmethod
    def of(cls, budget: Budget) -> BudgetBody:
        """Return it as JSON has it."""
        known = budget.to_json()
        del known["since"]
        return cls(**known)


class TenantBody(Strict):
    """A tenant's quota and budget; what is left out is without limit."""

    quota: QuotaBody = QuotaBody()
    budget: BudgetBody | None = None

    def values(self) -> tuple[Quota, Budget | None]:
        """Return what the host keeps."""
        return self.quota.value(), None if self.budget is None else self.budget.value()


class NewTenant(TenantBody):
    """A tenant that is taken in."""

    name: Annotated[str, Field(min_length=1, max_length=63, examples=["vision"])]


class TenantView(BaseModel):
    """A tenant: what it may have, and what it has."""

    name: str
    created_at: float
    quota: QuotaBody
    budget: BudgetBody | None
    now: TenantRowView

    @classmethod
    def of(cls, tenant: Tenant, row: TenantRowView) -> TenantView:
        """Put together what is known of a tenant."""
        return cls(
            name=tenant.name,
            created_at=tenant.created_at,
            quota=QuotaBody.of(tenant.quota),
            budget=None if tenant.budget is None else BudgetBody.of(tenant.budget),
            now=row,
        )


class NewToken(Strict):
    """A token that is made for a tenant."""

    label: Annotated[str, Field(max_length=100, description="What it is for.")] = ""
    lifetime_seconds: Annotated[
        float | None,
        Field(gt=0, le=MAX_TOKEN_SECONDS, allow_inf_nan=False, description="From now; null: without end."),
    ] = None


class TokenRowView(BaseModel):
    """A token of a tenant, without its text."""

    token_id: str
    label: str
    created_at: float
    expires_at: float | None
    is_in_force: bool

    @classmethod
    def of(cls, token: TenantToken, now: float) -> TokenRowView:
        """Return what may be shown of it."""
        return cls(
            token_id=token.token_id,
            label=token.label,
            created_at=token.created_at,
            expires_at=token.expires_at,
            is_in_force=token.is_in_force(now),
        )


class NewTokenView(TokenRowView):
    """A new token with its text, which is told this once."""

    token: str
