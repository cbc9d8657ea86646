"""The control API's paths for tenants: the operator takes them in and gives them tokens; a tenant sees itself."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI, Request, Response

from elastic_inference.host.accounts.tenants import Quota, Tenant
from elastic_inference.host.control import ControlApi
from elastic_inference.host.doors import schemas
from elastic_inference.host.doors.board_schemas import TenantRowView
from elastic_inference.host.doors.callers import Caller
from elastic_inference.host.doors.tenant_changes import describe_changes, describe_token, say_for_audit
from elastic_inference.host.doors.tenant_schemas import (
    NewTenant,
    NewToken,
    NewTokenView,
    TenantBody,
    TenantView,
    TokenRowView,
)


def add_tenants(app: FastAPI, host: ControlApi, caller: Any) -> None:
    """Add the paths.

    Args:
        caller: The dependency that gives the Caller of a request; see `callers`.
    """
    _add_tenants(app, host, caller)
    _add_tokens(app, host, caller)


def _add_tenants(app: FastAPI, host: ControlApi, caller: Any) -> None:
    tenancy, care = host.service.tenancy, host.service.tenants

    def views(tenants: tuple[Tenant, ...]) -> list[TenantView]:
        rows = {row["name"]: TenantRowView(**row) for row in care.rows()}
        return [TenantView.of(tenant, rows[tenant.name]) for tenant in tenants if tenant.name in rows]

    @app.get("/v1/tenants", responses=schemas.errors(403), tags=["tenants"])
    def list_tenants(who: Caller = caller) -> list[TenantView]:
        """List tenants: all for the operator, itself for a tenant."""
        who.check_may_attach()
        return views(tuple(t for t in tenancy.list_all() if who.is_operator or who.tenant == t.name))

    @app.post("/v1/tenants", status_code=201, responses=schemas.errors(403, 409), tags=["tenants"])
    def add(wanted: NewTenant, request: Request, who: Caller = caller) -> TenantView:
        """Take a tenant in; it has no token yet."""
        who.check_operator()
        quota, budget = wanted.values()
        say_for_audit(request, describe_changes((Quota(), None), (quota, budget)), wanted.name)
        tenant = tenancy.add(wanted.name, quota, budget)
        care.sum_up(tenant.name)
        return views((tenant,))[0]

    @app.get("/v1/tenants/{name}", responses=schemas.errors(404), tags=["tenants"])
    def show(name: str, who: Caller = caller) -> TenantView:
        """Show what a tenant may have, has, and has spent this month."""
        who.check_tenant(name)
        care.sum_up(name)
        return views((tenancy.get(name),))[0]

    @app.put("/v1/tenants/{name}", responses=schemas.errors(403, 404), tags=["tenants"])
    def change(name: str, wanted: TenantBody, request: Request, who: Caller = caller) -> TenantView:
        """Give a tenant another quota and budget, in force at once; what it has already stays."""
        who.check_tenant(name)
        who.check_operator()
        quota, budget = wanted.values()
        before = tenancy.get(name)
        say_for_audit(request, describe_changes((before.quota, before.budget), (quota, budget)))
        tenant = tenancy.change(name, quota, budget)
        care.put_rates(name)
        return views((tenant,))[0]

    @app.delete(
        "/v1/tenants/{name}", status_code=204, responses=schemas.errors(403, 404, 409), tags=["tenants"]
    )
    def remove(name: str, request: Request, detach: bool = False, who: Caller = caller) -> Response:
        """Forget a tenant and its tokens; with `detach`, its accelerators are detached first."""
        who.check_tenant(name)
        who.check_operator()
        if detach:
            say_for_audit(request, "with its accelerators")
        care.remove(name, with_accelerators=detach)
        return Response(status_code=204)


def _add_tokens(app: FastAPI, host: ControlApi, caller: Any) -> None:
    tenancy, now = host.service.tenancy, host.service.tenancy.now

    @app.get("/v1/tenants/{name}/tokens", responses=schemas.errors(404), tags=["tenants"])
    def list_tokens(name: str, who: Caller = caller) -> list[TokenRowView]:
        """List a tenant's tokens, without their texts."""
        who.check_tenant(name)
        return [TokenRowView.of(token, now()) for token in tenancy.tokens(name)]

    @app.post(
        "/v1/tenants/{name}/tokens",
        status_code=201,
        responses=schemas.errors(403, 404, 409),
        tags=["tenants"],
    )
    def add_token(name: str, wanted: NewToken, request: Request, who: Caller = caller) -> NewTokenView:
        """Make a token for a tenant; its text is told this once."""
        who.check_tenant(name)
        who.check_operator()
        token, text = tenancy.add_token(name, wanted.label, wanted.lifetime_seconds)
        say_for_audit(request, describe_token(token))
        return NewTokenView(**TokenRowView.of(token, now()).model_dump(), token=text)

    @app.delete(
        "/v1/tenants/{name}/tokens/{token_id}",
        status_code=204,
        responses=schemas.errors(403, 404),
        tags=["tenants"],
    )
    def revoke_token(name: str, token_id: str, who: Caller = caller) -> Response:
        """Refuse a token of a tenant from now on."""
        who.check_tenant(name)
        who.check_operator()
        tenancy.revoke_token(name, token_id)
        return Response(status_code=204)
