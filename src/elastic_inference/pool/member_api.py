"""The paths by which a pool places accelerators on a host of its own: beside the host's control API, for its operator.

A command of a pool service that was given up, or meant for a time before this host was given up itself, is refused.
"""

from __future__ import annotations

import contextlib
import math
import os
import ssl
import threading
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from typing import Annotated, Any, TypeVar

from anyio import CapacityLimiter, to_thread
from fastapi import FastAPI, Query, Response
from pydantic import BaseModel, Field

from elastic_inference.client.connection import Address
from elastic_inference.deadline import Deadline
from elastic_inference.errors import AcceleratorNotFound, Fenced
from elastic_inference.host.accounts.records import AcceleratorRecord
from elastic_inference.host.accounts.scope import OPERATOR
from elastic_inference.host.accounts.tenants import Quota
from elastic_inference.host.accounts.usage import Sample
from elastic_inference.host.control import MAX_DRAIN_SECONDS
from elastic_inference.host.doors import schemas
from elastic_inference.host.doors.callers import Caller
from elastic_inference.host.host import Host
from elastic_inference.pool import handover, versions
from elastic_inference.pool.link import HANDOVER_SECONDS
from elastic_inference.protocol.endpoint import Endpoint

_T = TypeVar("_T")
_MAX_CHANGES = 32
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
TypeName = Annotated[str, Field(min_length=1, max_length=63)]


class PoolGate:
    """Which pool service and which admission count."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pool_epoch = 0
        self._host_epoch: int | None = None

    def admit(self, pool_epoch: int, host_epoch: int) -> None:
        """Take orders of this admission from now on."""
        with self._lock:
            self._pool_epoch = max(self._pool_epoch, pool_epoch)
            self._host_epoch = host_epoch

    def close(self) -> None:
        """Take no orders until the next admission."""
        with self._lock:
            self._host_epoch = None

    def check(self, pool_epoch: int, host_epoch: int) -> None:
        """Raise Fenced where an order is not of the pool service and the admission in force."""
        with self._lock:
            if pool_epoch < self._pool_epoch:
                raise Fenced(
                    f"a later pool service (epoch {self._pool_epoch}) has taken over from this one ({pool_epoch})"
                )
            if host_epoch != self._host_epoch:
                raise Fenced(f"this host is admitted under epoch {self._host_epoch}, not {host_epoch}")
            self._pool_epoch = pool_epoch


class _Order(schemas.Strict):
    pool_epoch: int
    host_epoch: int


class TenantOfOrder(schemas.Strict):
    """What a host is to know of a tenant; see `link.TenantPart`."""

    name: Annotated[str, Field(min_length=1, max_length=63)]
    created_at: Annotated[float | None, Field(allow_inf_nan=False)]
    requests_per_second: Annotated[float | None, Field(allow_inf_nan=False)]


class TenantOrder(_Order):
    """What is to be known of a tenant."""

    tenant: TenantOfOrder


class PlaceOrder(_Order):
    """An accelerator that is to be here."""

    token_sha256: Sha256
    type: TypeName
    name: Annotated[str | None, Field(max_length=100)]
    tenant: TenantOfOrder | None = None


class EndOrder(_Order):
    """That it is to be here no longer."""

    drain_seconds: Annotated[float | None, Field(ge=0, le=MAX_DRAIN_SECONDS, allow_inf_nan=False)] = None


class TypeOrder(_Order):
    """Which type it is to have."""

    type: TypeName


class TokenOrder(_Order):
    """Which token is to count."""

    token_sha256: Sha256


class PlacedView(schemas.AcceleratorView):
    """An accelerator that a pool placed here."""

    was_restarted: bool = False


class HandoverOrder(_Order):
    """Where it moves: an accelerator of another host, which has none of its clients yet."""

    endpoint: Annotated[str, Field(max_length=255)]
    token: Annotated[str, Field(max_length=200)]


class HandoverView(BaseModel):
    """For each model that is loaded here: why it is not at the new place, empty where it is."""

    models: dict[str, str]


class EndedView(BaseModel):
    """What an accelerator did here."""

    total: dict[str, Any]


def add_member_api(app: FastAPI, caller: Any, host: Host, gate: PoolGate, tls: ssl.SSLContext | None) -> None:
    """Add the paths under `/v1/placed`.

    Args:
        caller: The dependency that gives the Caller of a request.
        tls: With which other hosts' accelerators are spoken to.
    """
    service = host.service
    changes = CapacityLimiter(_MAX_CHANGES)

    async def obey(order: _Order, who: Caller, work: Callable[[], _T]) -> _T:
        who.check_operator()
        gate.check(order.pool_epoch, order.host_epoch)
        return await to_thread.run_sync(work, limiter=changes)

    def view(record: AcceleratorRecord, was_restarted: bool = False) -> PlacedView:
        shown = schemas.AcceleratorView.of(record, service.limits_of(record), None, None, "")
        return PlacedView(**shown.model_dump(), was_restarted=was_restarted)

    def place(accelerator_id: str, order: PlaceOrder) -> PlacedView:
        tenant = OPERATOR if order.tenant is None else order.tenant.name
        if order.tenant is not None:
            know(order.tenant)
        record = service.place(accelerator_id, order.token_sha256, order.type, order.name, tenant)
        try:
            gate.check(order.pool_epoch, order.host_epoch)  # it may have been given up meanwhile
        except Fenced:
            service.detach(accelerator_id, 0.0)
            raise
        return view(record)

    def totals(ids: list[str]) -> dict[str, dict[str, Any]]:
        """Return all that these did here, as `Sample.from_json` reads it."""
        found, models = host.store.list_usage(0.0, ids), host.store.list_model_hours(0.0, ids)
        sums: dict[str, dict[str, tuple[int, float]]] = {key: {} for key in ids}
        for row in models:
            count, seconds = sums[row.accelerator_id].get(row.model, (0, 0.0))
            sums[row.accelerator_id][row.model] = count + row.inferences, seconds + row.service_seconds
        return {key: asdict(Sample(*found.get(key, (0, 0.0, 0.0)), sums[key])) for key in ids}

    def end(accelerator_id: str, drain_seconds: float | None) -> EndedView:
        # An order whose answer was lost comes again.
        with contextlib.suppress(AcceleratorNotFound):
            service.detach(accelerator_id, drain_seconds)
        return EndedView(total=totals([accelerator_id])[accelerator_id])

    def know(tenant: TenantOfOrder) -> None:
        since, name = service.tenancy.created_at(tenant.name), tenant.name
        if tenant.created_at != since and since != math.inf:  # it is gone; another one may have its name now
            service.tenants.remove(name)
        if tenant.created_at is not None:
            quota = Quota(requests_per_second=tenant.requests_per_second)
            service.tenancy.put(name, quota, tenant.created_at)
            service.tenants.put_rates(name)

    def hand_over(accelerator_id: str, order: HandoverOrder) -> HandoverView:
        folder = host.folder.accelerator(accelerator_id)
        uid = service.get(accelerator_id).uid
        to = Address(Endpoint.parse(order.endpoint), order.token, tls)
        found = handover.hand_over(
            folder, os.geteuid() if uid is None else uid, to, Deadline(HANDOVER_SECONDS)
        )
        return HandoverView(models=found)

    @app.get("/v1/installed", tags=["pool"])
    def installed(who: Caller = caller) -> dict[str, Any]:
        """Show which version is installed on this machine now: that of the next process, not of this one."""
        who.check_operator()
        return asdict(versions.installed())

    @app.get("/v1/placed", tags=["pool"])
    def readings(
        must_write: Annotated[bool, Query(description="Read them now, and count all that is new.")] = False,
        who: Caller = caller,
    ) -> dict[str, Any]:
        """Show what was seen last of the accelerators, by id."""
        who.check_operator()
        snapshot = service.board.fresh(must_write=True) if must_write else service.board.snapshot
        total = totals([record.accelerator_id for record in snapshot.records])
        return {
            record.accelerator_id: {
                "reading": None if reading is None else asdict(reading),
                "total": total[record.accelerator_id],
                "num_restarts": record.num_restarts,
                "last_exit": record.last_exit,
                "state": record.state.value,
            }
            for record in snapshot.records
            for reading in [snapshot.readings.get(record.accelerator_id)]
        }

    @app.put("/v1/placed/{accelerator_id}", tags=["pool"])
    async def put(accelerator_id: str, order: PlaceOrder, who: Caller = caller) -> PlacedView:
        """Attach an accelerator under an id and a token that the pool chose."""
        return await obey(order, who, partial(place, accelerator_id, order))

    @app.post("/v1/placed/{accelerator_id}/end", tags=["pool"])
    async def finish(accelerator_id: str, order: EndOrder, who: Caller = caller) -> EndedView:
        """Detach it, after it has finished what is in flight."""
        return await obey(order, who, partial(end, accelerator_id, order.drain_seconds))

    @app.post("/v1/placed/{accelerator_id}/type", tags=["pool"])
    async def resize(accelerator_id: str, order: TypeOrder, who: Caller = caller) -> PlacedView:
        """Give it another type."""
        record, was_restarted = await obey(order, who, partial(service.resize, accelerator_id, order.type))
        return view(record, was_restarted)

    @app.post("/v1/placed/{accelerator_id}/models", tags=["pool"])
    async def models(accelerator_id: str, order: HandoverOrder, who: Caller = caller) -> HandoverView:
        """Bring its models to where it moves; it goes on meanwhile."""
        return await obey(order, who, partial(hand_over, accelerator_id, order))

    @app.post("/v1/placed/{accelerator_id}/token", status_code=204, tags=["pool"])
    async def token(accelerator_id: str, order: TokenOrder, who: Caller = caller) -> Response:
        """Put the token of this hash in force."""
        await obey(order, who, partial(service.put_token, accelerator_id, order.token_sha256))
        return Response(status_code=204)

    @app.put("/v1/placed-tenants", status_code=204, responses=schemas.errors(409), tags=["pool"])
    async def tenant(order: TenantOrder, who: Caller = caller) -> Response:
        """Know a tenant and how many requests a second its accelerators here may take; or forget it and its store."""
        await obey(order, who, partial(know, order.tenant))
        return Response(status_code=204)
