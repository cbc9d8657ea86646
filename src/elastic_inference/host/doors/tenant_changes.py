"""What the audit log is told of a change to a tenant: the fields and their values, and of tokens never the text."""

from __future__ import annotations

import datetime
from typing import Any

from fastapi import Request

from elastic_inference.host.accounts.tenants import Budget, Quota, TenantToken, quota_to_json

_NO_BUDGET: dict[str, Any] = dict.fromkeys(("usd_per_month", "warn_share", "at_limit", "grace_seconds"))


def say_for_audit(request: Request, detail: str, tenant: str = "") -> None:
    """Have the audit log's entry of a request say this.

    Args:
        tenant: Whom it is about, where its path does not say so.
    """
    request.state.detail = detail
    if tenant:
        request.state.tenant = tenant


def describe_changes(before: tuple[Quota, Budget | None], after: tuple[Quota, Budget | None]) -> str:
    """Name each field that differs with both values, by the names that the API gives them."""
    old, new = _fields(*before), _fields(*after)
    changed = [f"{name} {_text(old[name])} -> {_text(new[name])}" for name in new if old[name] != new[name]]
    return ", ".join(changed) or "nothing changed"


def describe_token(token: TenantToken) -> str:
    """Say which token was made: its id, what for and until when."""
    label = f" {token.label!r}" if token.label else ""
    if token.expires_at is None:
        return f"token {token.token_id}{label}, without end"
    end = datetime.datetime.fromtimestamp(token.expires_at, datetime.timezone.utc)
    return f"token {token.token_id}{label} until {end:%Y-%m-%d %H:%M:%S} UTC"


def _fields(quota: Quota, budget: Budget | None) -> dict[str, Any]:
    spent = _NO_BUDGET if budget is None else {key: budget.to_json()[key] for key in _NO_BUDGET}
    return {**quota_to_json(quota), **spent}


def _text(value: Any) -> str:
    if value is None or value == []:
        return "none"
    return " ".join(value) if isinstance(value, list) else f"{value}"
