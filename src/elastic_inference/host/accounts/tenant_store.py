"""Tenants, their tokens and who waits for capacity, in the host's database. Decides nothing."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import sqlalchemy as sa

from elastic_inference.errors import NameTaken, TenantNotFound
from elastic_inference.host.accounts import schema
from elastic_inference.host.accounts.line import Waiter
from elastic_inference.host.accounts.state import StateStore
from elastic_inference.host.accounts.tenants import (
    Tenant,
    TenantToken,
    budget_from_json,
    quota_from_json,
    quota_to_json,
)


class TenantStore:
    """What a host keeps of its tenants; every method is one transaction, and any thread may call it."""

    def __init__(self, store: StateStore) -> None:
        self._store = store

    def list_all(self) -> tuple[Tenant, ...]:
        """All tenants, by name."""
        table = schema.tenants
        query = sa.select(table).where(self._is_mine(table)).order_by(table.c.name)
        with self._store.transaction() as db:
            return tuple(_to_tenant(row) for row in db.execute(query).mappings())

    def add(self, tenant: Tenant) -> None:
        """Remember a tenant; raises NameTaken where there is one of this name."""
        table = schema.tenants
        is_it = self._is_mine(table) & (table.c.name == tenant.name)
        with self._store.transaction() as db:
            if db.execute(sa.select(table.c.name).where(is_it)).first() is not None:
                raise NameTaken(f"a tenant has the name {tenant.name!r} already; choose another name")
            db.execute(
                sa.insert(table).values(
                    host_id=self._store.host_id,
                    name=tenant.name,
                    created_at=tenant.created_at,
                    **_changing(tenant),
                )
            )

    def change(self, tenant: Tenant) -> None:
        """Write down a tenant's quota, budget and what was noted; raises TenantNotFound."""
        table = schema.tenants
        is_it = self._is_mine(table) & (table.c.name == tenant.name)
        with self._store.transaction() as db:
            if not db.execute(sa.update(table).where(is_it).values(**_changing(tenant))).rowcount:
                raise TenantNotFound(f"there is no tenant {tenant.name!r:.80}")

    def remove(self, name: str) -> None:
        """Forget a tenant, its tokens and its places in the line; what it used stays."""
        with self._store.transaction() as db:
            db.execute(
                sa.delete(schema.tenants).where(
                    self._is_mine(schema.tenants) & (schema.tenants.c.name == name)
                )
            )
            for table in (schema.tenant_tokens, schema.waiters):
                db.execute(sa.delete(table).where(self._is_mine(table) & (table.c.tenant == name)))

    # Tokens

    def list_tokens(self) -> tuple[TenantToken, ...]:
        """Tokens of all tenants, oldest first."""
        table = schema.tenant_tokens
        query = sa.select(table).where(self._is_mine(table)).order_by(table.c.created_at, table.c.token_id)
        with self._store.transaction() as db:
            return tuple(TenantToken(**_own(row)) for row in db.execute(query).mappings())

    def add_token(self, token: TenantToken) -> None:
        """Remember a token."""
        with self._store.transaction() as db:
            db.execute(sa.insert(schema.tenant_tokens).values(host_id=self._store.host_id, **vars(token)))

    def remove_tokens(self, token_ids: Iterable[str]) -> None:
        """Forget tokens; unknown ones are fine."""
        table = schema.tenant_tokens
        with self._store.transaction() as db:
            db.execute(sa.delete(table).where(self._is_mine(table) & table.c.token_id.in_(list(token_ids))))

    # The line

    def list_waiters(self) -> tuple[Waiter, ...]:
        """Who waits for capacity, in the order in which they came."""
        table = schema.waiters
        query = sa.select(table).where(self._is_mine(table)).order_by(table.c.number)
        with self._store.transaction() as db:
            return tuple(
                Waiter(
                    ticket=row["ticket"],
                    tenant=row["tenant"],
                    type_name=row["accelerator_type"],
                    priority=row["priority"],
                    asked_at=row["asked_at"],
                    number=row["number"],
                )
                for row in db.execute(query).mappings()
            )

    def add_waiter(self, waiter: Waiter) -> Waiter:
        """Remember a waiter; returns it with its number, which rises from each to the next."""
        with self._store.transaction() as db:
            done = db.execute(
                sa.insert(schema.waiters).values(
                    host_id=self._store.host_id,
                    ticket=waiter.ticket,
                    tenant=waiter.tenant,
                    accelerator_type=waiter.type_name,
                    priority=waiter.priority,
                    asked_at=waiter.asked_at,
                )
            )
            key = done.inserted_primary_key
            assert key is not None
            return replace(waiter, number=int(key[0]))

    def remove_waiters(self, tickets: Iterable[str]) -> None:
        """Forget waiters; unknown ones are fine."""
        table = schema.waiters
        with self._store.transaction() as db:
            db.execute(sa.delete(table).where(self._is_mine(table) & table.c.ticket.in_(list(tickets))))

    def _is_mine(self, table: sa.Table) -> sa.ColumnElement[bool]:
        return table.c.host_id == self._store.host_id


def _changing(tenant: Tenant) -> dict[str, Any]:
    budget = tenant.budget
    return {
        "quota": json.dumps(quota_to_json(tenant.quota)),
        "budget": None if budget is None else json.dumps(budget.to_json()),
        "noted": tenant.noted,
    }


def _to_tenant(row: sa.RowMapping) -> Tenant:
    values = _own(row)
    values["quota"] = quota_from_json(json.loads(values["quota"]))
    if values["budget"] is not None:
        values["budget"] = budget_from_json(json.loads(values["budget"]))
    return Tenant(**values)


def _own(row: sa.RowMapping) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name != "host_id"}
