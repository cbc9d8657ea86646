"""The JSON objects of what the host sees: the board, an hour of history, a part of a log."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, Field

from elastic_inference.host.accounts.records import State
from elastic_inference.host.accounts.tenants import AtLimit
from elastic_inference.host.doors.schemas import Usd
from elastic_inference.host.events import Kind


class LatencyView(BaseModel):
    """A request that occurred, and where its time went: the parts add up to the total."""

    total_ms: float
    queue_ms: float
    service_ms: float
    wire_ms: Annotated[
        float, Field(description="Receiving, reading and answering it, as the accelerator saw it.")
    ]


class ModelRowView(BaseModel):
    """A model on an accelerator."""

    name: str
    state: str
    reason: str
    engine: Annotated[str | None, Field(description="null while it loads.")]
    precision: str | None
    device: str | None
    proof: Annotated[str, Field(description="What comparing it with its reference came to.")]
    num_ok: int
    num_failed: int
    mean_service_ms: float | None


class AcceleratorRowView(BaseModel):
    """An accelerator as the host saw it last; figures are rounded."""

    accelerator_id: str
    name: str
    tenant: Annotated[str, Field(description="Empty: the operator's own.")]
    type: str
    device: str
    share: float
    state: State
    is_healthy: bool
    created_at: int
    num_restarts: int
    last_exit: str
    num_oom_kills: int
    memory_bytes: int
    memory_limit_bytes: int
    utilisation_share: float | None
    num_waiting: int
    num_running: int
    requests_per_second: float
    throttled_share: Annotated[float, Field(description="Of the last seconds, in which it was held back.")]
    throttled_seconds: float
    lease_wait_seconds: Annotated[float | None, Field(description="null: its device is not shared by lease.")]
    lease_left_seconds: float | None
    p50: Annotated[LatencyView | None, Field(description="Of the last minute; null: no request.")]
    p99: LatencyView | None
    num_models: int
    models: list[ModelRowView]
    usd_per_hour: Usd | None
    cost_usd: Annotated[Usd | None, Field(description="Since it was attached; null: without a price.")]
    inferences: int | None
    usd_per_100k: Usd | None


class DeviceRowView(BaseModel):
    """What is granted and what is used of a device."""

    name: str
    kind: str
    sharing: str
    num_accelerators: int
    granted_share: float
    used_share: float
    offered_memory_bytes: int
    granted_memory_bytes: int
    used_memory_bytes: Annotated[int | None, Field(description="null: not read on this kind of device.")]
    lease_wait_seconds: float | None


class BoardHostView(BaseModel):
    """The host as a whole; what is null is the operator's to see."""

    version: str
    is_operator: bool
    tenant: Annotated[str | None, Field(description="Whose token was shown.")] = None
    is_draining: bool
    warnings: list[str]
    host_id: str | None = None
    limits: str | None = None
    num_by_state: dict[str, int] | None = None
    num_unhealthy: int | None = None
    cost_usd: Annotated[Usd | None, Field(description="Of all that are attached and have a price.")] = None
    num_unpriced: int | None = None


class EventView(BaseModel):
    """Something that happened; kept for an hour, in memory."""

    number: int
    at: float
    kind: Kind
    accelerator_id: str | None
    name: str
    text: str
    tenant: str | None = None


class BudgetRowView(BaseModel):
    """A tenant's budget and how far it is with it."""

    usd_per_month: Usd
    warn_share: float
    at_limit: AtLimit
    grace_seconds: float
    month: str
    level: Annotated[str, Field(description="enough, warned, reached or over.")]
    reached_at: float | None
    ends_at: Annotated[float | None, Field(description="When accelerators are detached for it.")]


class TenantRowView(BaseModel):
    """What a tenant has, may have and has spent this month; null: no limit, or not summed up yet."""

    name: str
    num_accelerators: int
    num_waiting: int
    share: Annotated[float, Field(description="Of devices; 1.5 is one and a half.")]
    memory_bytes: int
    max_accelerators: int | None
    max_share: float | None
    max_memory_bytes: int | None
    requests_per_second: float | None
    spent_usd: Usd | None
    unpriced_hours: float | None
    budget: BudgetRowView | None
    warning: str


class WaiterView(BaseModel):
    """One that waits for capacity."""

    place: int
    tenant: str
    type: str
    priority: int
    since: int


class BoardView(BaseModel):
    """What the host saw last."""

    at: Annotated[float, Field(description="Seconds since 1970, UTC.")]
    host: BoardHostView
    devices: list[DeviceRowView]
    accelerators: list[AcceleratorRowView]
    events: list[EventView]
    tenants: list[TenantRowView]
    waiting: list[WaiterView]


class HistoryView(BaseModel):
    """The last hour of an accelerator, column by column, oldest first."""

    at: list[float]
    requests_per_second: list[float | None]
    p99_seconds: list[float | None]
    utilisation_share: list[float | None]
    memory_bytes: list[float | None]
    num_waiting: list[float | None]


class LogView(BaseModel):
    """A part of an accelerator's log."""

    text: str
    cursor: Annotated[str, Field(description="For the next part.")]
    process: Annotated[int, Field(description="Which of its processes wrote it, from 0.")]
    has_more: bool
