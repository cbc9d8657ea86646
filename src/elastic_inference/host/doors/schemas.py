"""The JSON objects of the control API, as OpenAPI documents them; money is text, because JSON has no decimals."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from elastic_inference.host.accounts.leases import MAX_LEASE_SECONDS, MIN_LEASE_SECONDS
from elastic_inference.host.accounts.names import MAX_NAME_LENGTH
from elastic_inference.host.accounts.records import AcceleratorRecord, State
from elastic_inference.host.accounts.sums import UsageSum
from elastic_inference.host.accounts.tenants import MAX_PRIORITY
from elastic_inference.host.accounts.usage import UsageRow
from elastic_inference.host.control import Offer
from elastic_inference.host.meter import Reading
from elastic_inference.limits.processes import ProcessIdentity

Usd = Annotated[str, Field(pattern=r"^[0-9]+(\.[0-9]+)?$", examples=["0.13"])]


class Strict(BaseModel):
    """A request's body: an unknown field is an error, not a wish that is quietly dropped."""

    model_config = ConfigDict(extra="forbid")


class AttachRequest(Strict):
    """Which accelerator is wanted."""

    type: Annotated[str, Field(min_length=1, max_length=63, examples=["cpu.half"])]
    name: Annotated[str | None, Field(min_length=1, max_length=MAX_NAME_LENGTH)] = None
    lease_seconds: Annotated[
        float | None,
        Field(
            ge=MIN_LEASE_SECONDS,
            le=MAX_LEASE_SECONDS,
            allow_inf_nan=False,
            description="Detach when no heartbeat came for so long; null: never.",
        ),
    ] = None

    tenant: Annotated[
        str | None, Field(max_length=63, description="For whom, where the operator asks; null: for itself.")
    ] = None
    wait: Annotated[
        bool, Field(description="Stand in line where there is no room now; the answer is then 202.")
    ] = False
    priority: Annotated[
        int, Field(ge=0, le=MAX_PRIORITY, description="In the line; the higher, the sooner.")
    ] = 0
    ticket: Annotated[str | None, Field(max_length=64, description="What the answer before gave.")] = None
    doors: Annotated[
        tuple[str, ...] | None,
        Field(
            max_length=16, description="Protocols that it opens, of those of its type; null: all of these."
        ),
    ] = None


class WaitingView(BaseModel):
    """That an attach has to wait; the same request, with the ticket, asks again."""

    ticket: str
    place: Annotated[int, Field(description="1 for the next.")]
    num_waiting: int
    ask_again_seconds: Annotated[float, Field(description="When to ask again; a place is kept for 30 s.")]


class ResizeRequest(Strict):
    """Which type it shall have from now on."""

    type: Annotated[str, Field(min_length=1, max_length=63, examples=["cpu.half"])]


class DrainRequest(Strict):
    """Whether the host is to refuse new accelerators."""

    is_draining: bool


class StopRequest(Strict):
    """How the host is to end."""

    keep_running: Annotated[bool, Field(description="Whether its accelerators continue without it.")] = False


class StoppingView(BaseModel):
    """Which process ends, for whoever waits on the same machine."""

    process: ProcessIdentity


class TypeView(BaseModel):
    """One type of the catalogue."""

    name: str
    memory_bytes: Annotated[int, Field(description="Of the host's memory.")]
    device_kind: Annotated[str | None, Field(description="cpu or cuda; null: any.")]
    device_memory_bytes: Annotated[int | None, Field(description="Of a GPU's own memory.")]
    cpu_share: Annotated[float | None, Field(description="Of the host's cores beside a GPU.")]
    fp32_tflops: float | None
    device_share: float | None
    compute: str
    usd_per_hour: Usd | None
    price_source: str
    may_burst: bool
    num_available: Annotated[int | None, Field(description="How many still fit; null for tenants.")]

    @classmethod
    def of(cls, offer: Offer, is_operator: bool) -> TypeView:
        """Return what a caller may see of a type."""
        kind = offer.kind
        return cls(
            name=kind.name,
            memory_bytes=kind.memory_bytes,
            device_kind=kind.device_kind,
            device_memory_bytes=kind.device_memory_bytes,
            cpu_share=kind.cpu_share,
            fp32_tflops=kind.fp32_tflops,
            device_share=kind.device_share,
            compute=kind.describe_compute(),
            usd_per_hour=None if kind.usd_per_hour is None else f"{kind.usd_per_hour:f}",
            price_source=kind.price_source,
            may_burst=kind.may_burst,
            num_available=offer.num_available if is_operator else None,
        )


class DeviceView(BaseModel):
    """A device of the host."""

    name: str
    kind: str
    model: str
    num_cores: float
    memory_bytes: Annotated[int, Field(description="What it has.")]
    offered_memory_bytes: Annotated[int, Field(description="What it offers to accelerators.")]
    tflops: Annotated[dict[str, float], Field(description="Measured, by precision.")]
    tflops_source: Annotated[str, Field(description="What was run to measure.")]
    uuid: Annotated[str, Field(description="Of a GPU or MIG instance; empty for a CPU.")]


class AcceleratorView(BaseModel):
    """An attached accelerator."""

    accelerator_id: Annotated[str, Field(examples=["eia-" + "0" * 32])]
    name: str
    tenant: Annotated[str, Field(description="Empty: the operator's own.")]
    type: str
    device: str
    share: float
    cpu_share: Annotated[float, Field(description="Of the host's cores.")]
    memory_bytes: Annotated[int, Field(description="Of the host's memory.")]
    device_memory_bytes: Annotated[int | None, Field(description="Of a GPU's own memory; null on a CPU.")]
    may_burst: bool
    usd_per_hour: Usd | None
    state: State
    endpoints: list[str]
    doors: Annotated[list[str], Field(description="Protocols that it answers at each of them.")]
    limits: Annotated[dict[str, str], Field(description="What is in force and by what means.")]
    lease_seconds: float | None
    lease_left_seconds: float | None
    created_at: Annotated[float, Field(description="Seconds since 1970, UTC.")]
    num_restarts: int
    last_exit: str
    is_healthy: Annotated[
        bool | None, Field(description="Whether its process answered last; null: not asked yet.")
    ]
    memory_used_bytes: int | None
    utilisation_share: Annotated[float | None, Field(description="Of its share, over the last seconds.")]
    warning: Annotated[str, Field(description="What its tenant is to know, such as of its budget; or empty.")]
    placement: Annotated[
        int | None,
        Field(description="Of a pool: rises each time that it is placed elsewhere; null: it never is."),
    ] = None

    @classmethod
    def of(
        cls,
        record: AcceleratorRecord,
        limits: dict[str, str],
        lease_left_seconds: float | None,
        reading: Reading | None,
        warning: str = "",
    ) -> AcceleratorView:
        """Put together what is known of an accelerator."""
        usd = record.kind.usd_per_hour
        return cls(
            accelerator_id=record.accelerator_id,
            name=record.name,
            tenant=record.tenant,
            type=record.kind.name,
            device=record.device,
            share=record.share,
            cpu_share=record.cpu_share,
            memory_bytes=record.kind.memory_bytes,
            device_memory_bytes=record.kind.device_memory_bytes,
            may_burst=record.kind.may_burst,
            usd_per_hour=None if usd is None else f"{usd:f}",
            state=record.state,
            endpoints=list(record.endpoints),
            doors=list(record.doors),
            limits=limits,
            lease_seconds=record.lease_seconds,
            lease_left_seconds=lease_left_seconds,
            created_at=record.created_at,
            num_restarts=record.num_restarts,
            last_exit=record.last_exit,
            is_healthy=None if reading is None else reading.is_healthy,
            memory_used_bytes=None if reading is None else reading.memory_bytes,
            utilisation_share=None if reading is None else reading.utilisation_share,
            warning=warning,
        )


class AttachedView(AcceleratorView):
    """A new accelerator with its bearer token, which is told this once."""

    token: str


class ResizedView(AcceleratorView):
    """An accelerator after a resize."""

    was_restarted: Annotated[bool, Field(description="Whether its process had to be started again.")]


class TokenView(BaseModel):
    """A new bearer token, told this once; the old one is refused from now on."""

    token: str


class HeartbeatView(BaseModel):
    """Until when the host keeps the accelerator without a further heartbeat."""

    lease_seconds: Annotated[float | None, Field(description="From now; null: it has no lease.")]
    warning: Annotated[str, Field(description="What its tenant is to know, such as of its budget; or empty.")]


class UsageView(BaseModel):
    """What an accelerator cost and did."""

    accelerator_id: str
    name: str
    tenant: Annotated[str, Field(description="Empty: the operator's own.")]
    types: list[str]
    started_at: float
    attached_hours: float
    unpriced_hours: Annotated[float, Field(description="Of these: of types without a price.")]
    cost_usd: Annotated[Usd | None, Field(description="Of the hours that have a price; null: none has.")]
    inferences: int
    device_seconds: float
    throttled_seconds: float
    usd_per_100k_inferences: Annotated[
        Usd | None, Field(description="Cost of 100,000 inferences, idle time paid included.")
    ]
    is_attached: bool

    @classmethod
    def of(cls, row: UsageRow) -> UsageView:
        """Return the row with money rounded to a millionth of a dollar."""
        return cls(
            accelerator_id=row.accelerator_id,
            name=row.name,
            tenant=row.tenant,
            types=list(row.accelerator_types),
            started_at=row.started_at,
            attached_hours=row.attached_seconds / 3600,
            unpriced_hours=row.unpriced_seconds / 3600,
            cost_usd=None if row.cost_usd is None else f"{row.cost_usd:.6f}",
            inferences=row.inferences,
            device_seconds=row.device_seconds,
            throttled_seconds=row.throttled_seconds,
            usd_per_100k_inferences=None if row.usd_per_100k is None else f"{row.usd_per_100k:.6f}",
            is_attached=row.is_attached,
        )


class UsageSumView(BaseModel):
    """What accelerators of one tenant or type, one model, or on one day (UTC), cost and did together."""

    key: Annotated[
        str, Field(description="The tenant, type, model or day.", examples=["cpu.half", "2026-01-31"])
    ]
    attached_hours: float
    unpriced_hours: float
    cost_usd: Annotated[Usd, Field(description="Of the hours that have a price.")]
    inferences: int
    device_seconds: float
    throttled_seconds: float
    usd_per_100k_inferences: Usd | None

    @classmethod
    def of(cls, total: UsageSum) -> UsageSumView:
        """Return the sum with money rounded to a millionth of a dollar."""
        return cls(
            key=total.key,
            attached_hours=total.attached_seconds / 3600,
            unpriced_hours=total.unpriced_seconds / 3600,
            cost_usd=f"{total.cost_usd:.6f}",
            inferences=total.inferences,
            device_seconds=total.device_seconds,
            throttled_seconds=total.throttled_seconds,
            usd_per_100k_inferences=None if total.usd_per_100k is None else f"{total.usd_per_100k:.6f}",
        )


class ErrorView(BaseModel):
    """Why a request was refused."""

    error: Annotated[str, Field(description="What is wrong: field, value and limit.")]
    code: Annotated[
        str, Field(description="The class of the error in our package.", examples=["InvalidInput"])
    ]
    fields: dict[str, Any] | None = None


class DeviceLeftView(BaseModel):
    """What is left of a device."""

    name: str
    num_cores: float
    offered_memory_bytes: int
    tflops: dict[str, float]
    left_share: float
    left_memory_bytes: int
    sharing: Annotated[str, Field(description="How accelerators share it: limits, lease, mps or mig.")]
    not_isolated: Annotated[str, Field(description="What neighbours on a GPU can still feel of each other.")]


class DiskView(BaseModel):
    """The disk of the state directory."""

    level: Annotated[
        str, Field(description="enough, low (who holds much may write no more) or full (none may).")
    ]
    free_bytes: int
    reserve_bytes: Annotated[int, Field(description="Kept for the host beside that.")]


class HostView(BaseModel):
    """The host: capacity, what is in force and by what means, health."""

    host_id: str
    version: str
    pid: int
    started_at: float
    is_draining: bool
    devices: list[DeviceLeftView]
    limits: Annotated[dict[str, str], Field(description="How shares are held, and why not better.")]
    users: Annotated[str, Field(description="As which users accelerators run, and why.")]
    tls: bool
    database: str
    disk: DiskView
    warnings: Annotated[list[str], Field(description="What needs somebody's care.")]
    num_accelerators: int
    num_by_state: dict[str, int]
    num_unhealthy: int


class HealthView(BaseModel):
    """That the host answers; it says nothing of anyone's accelerators."""

    status: str
    warnings: Annotated[list[str], Field(description="What needs the operator's care, such as a full disk.")]


def errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the error answers of a path, for the OpenAPI document."""
    return {status: {"model": ErrorView} for status in (400, 401, *statuses)}
