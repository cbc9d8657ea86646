"""The control API over HTTP: which request may do what, and how errors are told. What it does is the service's.

A tenant's token, or an accelerator's, opens only what is its own: of another's, not even the existence shows.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from functools import partial
from typing import Annotated, Any, ParamSpec, TypeVar

from anyio import CapacityLimiter, to_thread
from fastapi import FastAPI, Header, Path, Query, Response
from fastapi.responses import JSONResponse
from starlette.requests import Request

from elastic_inference.errors import AcceleratorNotFound, ConnectionLost, Forbidden
from elastic_inference.host.accounts.records import AcceleratorRecord
from elastic_inference.host.accounts.scope import OPERATOR
from elastic_inference.host.accounts.sums import By
from elastic_inference.host.accounts.wanted import Waiting, Wanted
from elastic_inference.host.control import MAX_DRAIN_SECONDS, ControlApi
from elastic_inference.host.doors import schemas
from elastic_inference.host.doors.callers import Caller, make_owner_check
from elastic_inference.host.doors.privacy import HostPaths, without_unix
from elastic_inference.host.settings import offered_memory_bytes
from elastic_inference.limits.processes import ProcessIdentity
from elastic_inference.protocol.requests import IDEMPOTENCY_KEY

logger = logging.getLogger(__name__)

MAX_SINCE = 4e9  # the year 2096; beyond it no hour fits into the database's integers

_MAX_CHANGES = 64
_changes = CapacityLimiter(_MAX_CHANGES)
_IdempotencyKey = Annotated[
    str | None,
    Header(
        alias=IDEMPOTENCY_KEY,
        pattern=r"^[0-9a-f]{64}$",
        description="256 random bits, kept secret: the same request with the same key is the same attach.",
    ),
]
_Args = ParamSpec("_Args")
_Result = TypeVar("_Result")


async def _change(work: Callable[_Args, _Result], *args: _Args.args, **kwargs: _Args.kwargs) -> _Result:
    """Run what may take minutes in threads apart from those that answer questions, and so never takes them all."""
    return await to_thread.run_sync(partial(work, *args, **kwargs), limiter=_changes)


def add_control_api(app: FastAPI, host: ControlApi, caller: Any) -> None:
    """Add the paths under `/v1`.

    Args:
        caller: The dependency that gives the Caller of a request; see `callers`.
    """
    _add_accelerators(app, host, caller)
    _add_host(app, host, caller)


def _add_accelerators(app: FastAPI, host: ControlApi, caller: Any) -> None:
    service, paths, check_owns = host.service, HostPaths(host), make_owner_check(host)
    last_asked: dict[str | Request, Request] = {}  # by key, while it is under way

    def view(record: AcceleratorRecord, who: Caller) -> dict[str, Any]:
        accelerator_id = record.accelerator_id
        left_seconds = service.leases.left_seconds(accelerator_id)
        reading = service.meter.last(accelerator_id)
        warning = service.tenants.warning(record.tenant)
        limits = service.limits_of(record)
        shown = schemas.AcceleratorView.of(record, limits, left_seconds, reading, warning)
        shown.placement = service.placement_of(accelerator_id)
        if not who.is_operator:
            shown.last_exit = paths.hide(shown.last_exit)
            if not who.is_on_this_machine:
                shown.endpoints = without_unix(shown.endpoints)
        return shown.model_dump()

    @app.post(
        "/v1/accelerators",
        status_code=201,
        response_model=schemas.AttachedView,
        responses={202: {"model": schemas.WaitingView}, **schemas.errors(403, 404, 409)},
        tags=["accelerators"],
    )
    async def attach(
        wanted: schemas.AttachRequest,
        request: Request,
        idempotency_key: _IdempotencyKey = None,
        who: Caller = caller,
    ) -> Any:
        """Attach an accelerator; it serves when the answer is 201. 202: it waits for capacity; ask again."""
        who.check_may_attach()
        key = idempotency_key or request
        last_asked[key] = request
        try:
            found = await _change(service.ask, _wanted(wanted, idempotency_key, who, host))
            if isinstance(found, Waiting):
                request.state.is_waiting = True  # for the audit log
                return JSONResponse(schemas.WaitingView(**vars(found)).model_dump(), 202)
            record, token = found
            request.state.accelerator_id = record.accelerator_id  # for the audit log
            if await request.is_disconnected() and last_asked.get(key) is request:
                await _change(service.detach, record.accelerator_id, 0.0)
                raise ConnectionLost(
                    "the client left before it got the token, so the accelerator is detached"
                )
        finally:
            if last_asked.get(key) is request:
                del last_asked[key]
        return schemas.AttachedView(**view(record, who), token=token)

    @app.get("/v1/accelerators", responses=schemas.errors(), tags=["accelerators"])
    def list_accelerators(who: Caller = caller) -> list[schemas.AcceleratorView]:
        """List accelerators: all for the operator, a tenant's own for a tenant."""
        records = service.list_all()
        return [
            schemas.AcceleratorView(**view(record, who))
            for record in records
            if who.may_see(record.accelerator_id, record.tenant)
        ]

    @app.delete(
        "/v1/accelerators/waiting/{ticket}",
        status_code=204,
        responses=schemas.errors(404),
        tags=["accelerators"],
    )
    async def leave_line(ticket: Annotated[str, Path(max_length=64)], who: Caller = caller) -> Response:
        """Give up a place in the line for capacity."""
        who.check_may_attach()
        if not await _change(service.leave_line, ticket, who.tenant):
            raise AcceleratorNotFound("nobody waits here with this ticket")
        return Response(status_code=204)

    @app.get("/v1/accelerators/{accelerator_id}", responses=schemas.errors(404), tags=["accelerators"])
    def show(accelerator_id: str, who: Caller = caller) -> schemas.AcceleratorView:
        """Show one accelerator."""
        check_owns(who, accelerator_id)
        return schemas.AcceleratorView(**view(service.get(accelerator_id), who))

    @app.patch(
        "/v1/accelerators/{accelerator_id}",
        responses=schemas.errors(403, 404, 409, 413),
        tags=["accelerators"],
    )
    async def resize(
        accelerator_id: str, wanted: schemas.ResizeRequest, who: Caller = caller
    ) -> schemas.ResizedView:
        """Give an accelerator another type; it keeps id, token, endpoints and models."""
        check_owns(who, accelerator_id)
        who.check_may_attach()
        record, was_restarted = await _change(service.resize, accelerator_id, wanted.type)
        return schemas.ResizedView(**view(record, who), was_restarted=was_restarted)

    @app.delete(
        "/v1/accelerators/{accelerator_id}",
        status_code=204,
        responses=schemas.errors(404, 409),
        tags=["accelerators"],
    )
    async def detach(
        accelerator_id: str,
        drain_seconds: Annotated[
            float | None,
            Query(
                ge=0,
                le=MAX_DRAIN_SECONDS,
                allow_inf_nan=False,
                description="For what is in flight to finish.",
            ),
        ] = None,
        who: Caller = caller,
    ) -> Response:
        """Detach an accelerator, after it has finished what is in flight."""
        check_owns(who, accelerator_id)
        await _change(service.detach, accelerator_id, drain_seconds)
        return Response(status_code=204)

    @app.post(
        "/v1/accelerators/{accelerator_id}/heartbeat", responses=schemas.errors(404), tags=["accelerators"]
    )
    async def heartbeat(accelerator_id: str, who: Caller = caller) -> schemas.HeartbeatView:
        """Begin an accelerator's lease anew."""
        check_owns(who, accelerator_id)
        warning = service.tenants.warning(service.tenants.tenant_of(accelerator_id) or "")
        return schemas.HeartbeatView(lease_seconds=service.heartbeat(accelerator_id), warning=warning)

    @app.post(
        "/v1/accelerators/{accelerator_id}/token", responses=schemas.errors(404, 409), tags=["accelerators"]
    )
    async def rotate_token(accelerator_id: str, who: Caller = caller) -> schemas.TokenView:
        """Give an accelerator a new bearer token; the old one is refused at once."""
        check_owns(who, accelerator_id)
        return schemas.TokenView(token=await _change(service.rotate_token, accelerator_id))


def _wanted(asked: schemas.AttachRequest, key: str | None, who: Caller, host: ControlApi) -> Wanted:
    """Return what is asked for, and for whom; raises Forbidden or TenantNotFound."""
    if who.tenant is not None and asked.tenant not in (None, who.tenant):
        raise Forbidden(f"a tenant attaches for itself, not for {asked.tenant!r:.80}")
    tenant = who.tenant or asked.tenant or OPERATOR
    if tenant != OPERATOR:
        host.service.tenancy.get(tenant)
    return Wanted(
        asked.type,
        asked.name,
        asked.lease_seconds,
        tenant,
        asked.wait,
        asked.priority,
        asked.ticket,
        asked.doors,
        key,
    )


def _add_host(app: FastAPI, host: ControlApi, caller: Any) -> None:
    service = host.service

    def health_now() -> schemas.HealthView:
        status = "draining" if service.is_draining else "ok"
        return schemas.HealthView(status=status, warnings=host.warnings())

    @app.get("/v1/health", tags=["host"])
    async def health() -> schemas.HealthView:
        """Say that the host answers, and what needs care; needs no token."""
        return health_now()

    @app.get("/v1/types", responses=schemas.errors(), tags=["host"])
    def types(who: Caller = caller) -> list[schemas.TypeView]:
        """List types with prices and, for the operator, how many still fit."""
        return [schemas.TypeView.of(offer, who.is_operator) for offer in service.offers()]

    @app.get("/v1/devices", responses=schemas.errors(), tags=["host"])
    def devices(who: Caller = caller) -> list[schemas.DeviceView]:  # noqa: ARG001  # any known token
        """List devices with their measured compute."""
        return [
            schemas.DeviceView(
                name=device.name,
                kind=device.kind,
                model=device.model,
                num_cores=device.num_cores,
                memory_bytes=device.memory_bytes,
                offered_memory_bytes=offered_memory_bytes(device),
                tflops=device.tflops,
                tflops_source=device.tflops_source,
                uuid=device.uuid,
            )
            for device in host.devices
        ]

    @app.get("/v1/host", responses=schemas.errors(403), tags=["host"])
    def status(who: Caller = caller) -> schemas.HostView:
        """Show capacity, what is in force and by what means, and health."""
        who.check_operator()
        return schemas.HostView(**host.status(), num_unhealthy=service.board.fresh().num_unhealthy)

    @app.post("/v1/host/drain", responses=schemas.errors(403), tags=["host"])
    def drain(wanted: schemas.DrainRequest, who: Caller = caller) -> schemas.HealthView:
        """Refuse new accelerators from now on, or take them again; attached ones are not touched."""
        who.check_operator()
        service.drain(wanted.is_draining)
        return health_now()

    @app.post("/v1/host/stop", status_code=202, responses=schemas.errors(403), tags=["host"])
    def stop(wanted: schemas.StopRequest, who: Caller = caller) -> schemas.StoppingView:
        """End the host in order, as SIGTERM does, when this is answered."""
        who.check_operator()
        host.stop(wanted.keep_running)
        return schemas.StoppingView(process=ProcessIdentity.of_pid(os.getpid(), os.geteuid()))

    @app.post("/v1/host/token", responses=schemas.errors(403), tags=["host"])
    def change_operator_token(who: Caller = caller) -> schemas.TokenView:
        """Make a new operator token; the old one is refused at once."""
        who.check_operator()
        return schemas.TokenView(token=host.change_operator_token())

    @app.get("/v1/usage", responses=schemas.errors(), tags=["host"])
    def usage(
        since: Annotated[
            float, Query(ge=0, le=MAX_SINCE, allow_inf_nan=False, description="Seconds since 1970, UTC.")
        ] = 0.0,
        who: Caller = caller,
    ) -> list[schemas.UsageView]:
        """Return what accelerators cost and did; counters count from the hour of `since` on."""
        return [schemas.UsageView.of(row) for row in service.usage(since, who.scope)]

    @app.get("/v1/usage/sums", responses=schemas.errors(), tags=["host"])
    def usage_sums(
        by: By,
        since: Annotated[
            float, Query(ge=0, le=MAX_SINCE, allow_inf_nan=False, description="Seconds since 1970, UTC.")
        ] = 0.0,
        who: Caller = caller,
    ) -> list[schemas.UsageSumView]:
        """Sum up the same by tenant, type, model or day; time of an hour goes to the models that ran in it."""
        return [schemas.UsageSumView.of(each) for each in service.usage_sums(by, since, who.scope)]
