"""The paths of a pool beside those of every control API: how hosts join and report, and what its operator asks."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

from fastapi import FastAPI
from pydantic import BaseModel, Field
from starlette.requests import Request

from elastic_inference.errors import AcceleratorBusy, InvalidInput, PermissionDenied
from elastic_inference.host.doors import schemas
from elastic_inference.host.doors.app import Addition
from elastic_inference.host.doors.callers import Caller, bearer_of
from elastic_inference.host.tokens import hash_token
from elastic_inference.pool import versions
from elastic_inference.pool.demand import held_parts, wanted_parts
from elastic_inference.pool.model import HostState, HostView
from elastic_inference.pool.model import Request as PoolRequest
from elastic_inference.pool.offer import HostOffer
from elastic_inference.pool.pool import Pool
from elastic_inference.pool.renewal import renew_service

HostId = Annotated[str, Field(pattern=r"^[0-9a-z]{1,64}$")]


class JoinRequest(schemas.Strict):
    """A host that wants to be of this pool."""

    host_id: HostId
    node_id: Annotated[str, Field(max_length=64)]
    url: Annotated[str, Field(max_length=255)]
    token: Annotated[str, Field(max_length=200)]
    offer: dict[str, Any]


class ReportRequest(schemas.Strict):
    """That a host lives."""

    epoch: int


class LeaseView(BaseModel):
    """For how long a host may serve, from when it asked."""

    epoch: int
    pool_epoch: int
    lease_seconds: float
    report_seconds: float


class JoinedView(LeaseView):
    """The same, and which tenants the pool has, with since when: a host forgets all others."""

    tenants: dict[str, float]


class PartView(BaseModel):
    """A part of a Ray node: the share of its CPUs, and of one of its GPUs."""

    key: str
    node_id: str
    cpu_share: float
    num_gpus: float


class DemandView(BaseModel):
    """What Ray is told of the pool."""

    held: list[PartView]
    wanted: list[PartView]


class PoolDeviceView(BaseModel):
    """What is left of a host's device."""

    name: str
    kind: str
    model: str
    left_share: float
    left_memory_bytes: int


class PoolHostView(BaseModel):
    """A host of the pool."""

    host_id: str
    node_id: str
    url: str
    state: HostState
    version: str
    epoch: Annotated[int, Field(description="How often it was admitted.")]
    silent_seconds: Annotated[float, Field(description="Since it was heard of last.")]
    devices: list[PoolDeviceView]
    features: list[str]
    accelerator_ids: list[str]


class InstalledView(BaseModel):
    """A version that is installed somewhere.

    `running` is the protocol of what runs there.
    """

    version: str
    protocol: int
    running: int


class RenewalView(BaseModel):
    """Under which epoch the pool service that hands over runs; its successor has a later one."""

    pool_epoch: int


class PoolView(BaseModel):
    """The pool as a whole."""

    version: str
    pool_epoch: Annotated[int, Field(description="How often a pool service took over.")]
    pid: Annotated[int, Field(description="Of the process that is the pool service.")]
    database: str
    lease_seconds: float
    num_hosts: dict[str, int]
    num_accelerators: dict[str, int]
    warnings: list[str]


def pool_doors(pool: Pool) -> Addition:
    """Return what `make_app` adds for a pool."""

    def name_of(token: str) -> str | None:
        return "the hosts" if pool.is_join_hash(hash_token(token)) else None

    def add(app: FastAPI, caller: Any) -> None:
        _add_for_hosts(app, pool)
        _add_for_operators(app, pool, caller)

    return Addition(add, name_of)


def _add_for_hosts(app: FastAPI, pool: Pool) -> None:
    rules = pool.config.rules()

    def check(request: Request) -> None:
        token = bearer_of(request.headers.get("Authorization", ""))
        if not pool.is_join_hash(hash_token(token)):
            raise PermissionDenied("the token is not that by which hosts join this pool")

    def lease(epoch: int) -> LeaseView:
        return LeaseView(
            epoch=epoch,
            pool_epoch=pool.store.epoch,
            lease_seconds=rules.lease_seconds,
            report_seconds=rules.report_seconds,
        )

    @app.post("/v1/pool/hosts", responses=schemas.errors(), tags=["pool"])
    def join(wanted: JoinRequest, request: Request) -> JoinedView:
        """Take a host into the pool; it holds nothing and has ended whatever it held."""
        check(request)
        try:
            offer = HostOffer.from_json(wanted.offer)
            row = pool.join(wanted.host_id, wanted.node_id, wanted.url, wanted.token, offer)
        except InvalidInput as error:
            pool.refusals.note(wanted.host_id, wanted.url, str(error))
            raise
        pool.refusals.forget(wanted.host_id)
        tenants = {tenant.name: tenant.created_at for tenant in pool.service.tenancy.list_all()}
        return JoinedView(**lease(row.epoch).model_dump(), tenants=tenants)

    @app.post("/v1/pool/hosts/{host_id}/report", responses=schemas.errors(404, 409), tags=["pool"])
    async def report(host_id: str, told: ReportRequest, request: Request) -> LeaseView:
        """Begin a host's lease anew; 409 where it was given up and must end what it holds."""
        check(request)
        pool.books.report(host_id, told.epoch)
        return lease(told.epoch)

    @app.post("/v1/pool/hosts/{host_id}/leave", responses=schemas.errors(), tags=["pool"])
    async def leave(host_id: str, told: ReportRequest, request: Request) -> LeaseView:
        """Note that a host has closed its fence: what it held may start elsewhere at once."""
        check(request)
        pool.books.note_dead(host_id, told.epoch)
        return lease(told.epoch)


def _add_for_operators(app: FastAPI, pool: Pool, caller: Any) -> None:
    def view(row_view: HostView) -> PoolHostView:
        row = pool.books.host(row_view.host_id)
        models = {device.name: device.model for device in row.offer.devices}
        devices = []
        for device in row_view.capacity.devices:
            share, memory_bytes = row_view.capacity.left(device)
            devices.append(
                PoolDeviceView(
                    name=device.name,
                    kind=device.kind,
                    model=models.get(device.name, ""),
                    left_share=share,
                    left_memory_bytes=memory_bytes,
                )
            )
        return PoolHostView(
            host_id=row.host_id,
            node_id=row.node_id,
            url=row.url,
            state=row.state,
            version=row.offer.version.version,
            epoch=row.epoch,
            silent_seconds=pool.books.silent_seconds(row.host_id),
            devices=devices,
            features=sorted(row.offer.features),
            accelerator_ids=sorted(key for key in row_view.placed if "@" not in key),
        )

    @app.get("/v1/pool", responses=schemas.errors(403), tags=["pool"])
    def status(who: Caller = caller) -> PoolView:
        """Show the pool as a whole."""
        who.check_operator()
        rows, records = pool.books.hosts(), pool.service.list_all()
        told = pool.status()
        return PoolView(
            version=pool.version,
            pool_epoch=pool.store.epoch,
            pid=told["pid"],
            database=pool.store.dialect,
            lease_seconds=pool.config.lease_seconds,
            num_hosts={state.value: sum(row.state is state for row in rows) for state in HostState},
            num_accelerators={"attached": len(records), **told["num_by_state"]},
            warnings=told["warnings"],
        )

    @app.get("/v1/pool/demand", responses=schemas.errors(403), tags=["pool"])
    def demand(who: Caller = caller) -> DemandView:
        """Show which part of each node accelerators hold, and what those need that wait or have lost their host."""
        who.check_operator()
        views = pool.books.views()
        requests = [request for _, request in pool.books.homeless()]
        requests += [PoolRequest(row["type"]) for row in pool.service.entrance.rows()]
        return DemandView(
            held=[PartView(**vars(part)) for part in held_parts(views)],
            wanted=[PartView(**vars(part)) for part in wanted_parts(views, requests)],
        )

    @app.get("/v1/pool/hosts", responses=schemas.errors(403), tags=["pool"])
    def hosts(who: Caller = caller) -> list[PoolHostView]:
        """List the hosts with what is left of their devices."""
        who.check_operator()
        return [view(each) for each in pool.books.views()]

    @app.post("/v1/pool/hosts/{host_id}/drain", responses=schemas.errors(403), tags=["pool"])
    def drain(host_id: str, wanted: schemas.DrainRequest, who: Caller = caller) -> PoolHostView:
        """Move a host's accelerators elsewhere, one by one, and take no new ones to it; or take them again."""
        who.check_operator()
        pool.drain_host(host_id, wanted.is_draining)
        return next(view(each) for each in pool.books.views() if each.host_id == host_id)

    @app.get("/v1/pool/installed", responses=schemas.errors(403), tags=["pool"])
    def installed(who: Caller = caller) -> InstalledView:
        """Show which version is installed where the pool service runs, which its next process is of."""
        who.check_operator()
        return InstalledView(**asdict(versions.installed()), running=versions.PROTOCOL)

    @app.get("/v1/pool/hosts/{host_id}/installed", responses=schemas.errors(403), tags=["pool"])
    def installed_at(host_id: str, who: Caller = caller) -> InstalledView:
        """Show which version is installed on a host's machine, which its next process is of."""
        who.check_operator()
        found = pool.service.keeper.link(pool.books.host(host_id)).installed()
        return InstalledView(**asdict(found), running=pool.books.host(host_id).offer.version.protocol)

    @app.post("/v1/pool/renew", status_code=202, responses=schemas.errors(403), tags=["pool"])
    def renew(who: Caller = caller) -> RenewalView:
        """Hand over to a pool service with the code that is installed now, as soon as one waits with all loaded."""
        who.check_operator()
        renew_service(pool.folder.path, pool.calendar.save)
        return RenewalView(pool_epoch=pool.store.epoch)

    @app.post("/v1/pool/hosts/{host_id}/renew", status_code=202, responses=schemas.errors(403), tags=["pool"])
    def renew_host(host_id: str, who: Caller = caller) -> PoolHostView:
        """End an empty host that drains; it is started again with the code that is installed now, and joins anew."""
        who.check_operator()
        row = pool.books.host(host_id)
        if row.state is not HostState.DRAINING:
            raise InvalidInput(f"host {host_id} is {row.state.value}; only one that drains is renewed")
        num = len(pool.books.on_host(host_id))
        if num:
            raise AcceleratorBusy(f"host {host_id} still has {num} accelerators, or what is left of them")
        pool.service.keeper.link(row).renew()
        return next(view(each) for each in pool.books.views() if each.host_id == host_id)
