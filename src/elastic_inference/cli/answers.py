"""What a host answers, as values that can be printed; what a newer host adds stays in their JSON."""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, TypeVar

from elastic_inference.cli.rendering import Block, Column, Pairs
from elastic_inference.client.host_session import HostSession
from elastic_inference.errors import ProtocolError
from elastic_inference.units import format_bytes

AnswerKind = TypeVar("AnswerKind", bound="Answer")

_MIB = 1 << 20


@dataclass(frozen=True)
class Answer:
    """A JSON object of the control API.

    Attributes:
        other: Fields that this version does not know; they stand in the JSON and nowhere else.
    """

    other: Mapping[str, Any] = field(default_factory=dict, kw_only=True)

    @classmethod
    def read(cls: type[AnswerKind], value: Any, session: HostSession) -> AnswerKind:
        """Read one object; raises ProtocolError where it is not what a host of this package answers."""
        names = {each.name for each in fields(cls)} - {"other"}
        if not isinstance(value, dict) or not names <= value.keys():
            missing = names - value.keys() if isinstance(value, dict) else {"JSON object"}
            raise ProtocolError(
                f"{session.url} answered without {', '.join(sorted(missing))}, so it is not a host of this version "
                "of elastic-inference; check the URL"
            )
        known = {name: value[name] for name in names}
        return cls(**known, other={name: each for name, each in value.items() if name not in names})

    @classmethod
    def read_all(cls: type[AnswerKind], values: Any, session: HostSession) -> list[AnswerKind]:
        """Read a list of such objects."""
        if not isinstance(values, list):
            raise ProtocolError(
                f"{session.url} answered without a list, so it is not a host of elastic-inference; check the URL"
            )
        return [cls.read(value, session) for value in values]

    def to_json(self) -> dict[str, Any]:
        """Give the object as the host answered it."""
        own = {each.name: getattr(self, each.name) for each in fields(self) if each.name != "other"}
        return {**own, **self.other}


@dataclass(frozen=True)
class Accelerator(Answer):
    """An attached accelerator; the fields are those of the control API."""

    accelerator_id: str
    name: str
    tenant: str
    type: str
    device: str
    share: float
    cpu_share: float
    memory_bytes: int
    device_memory_bytes: int | None
    may_burst: bool
    usd_per_hour: str | None
    state: str
    endpoints: Sequence[str]
    doors: Sequence[str]
    limits: Mapping[str, str]
    lease_seconds: float | None
    lease_left_seconds: float | None
    created_at: float
    num_restarts: int
    last_exit: str
    is_healthy: bool | None
    memory_used_bytes: int | None
    utilisation_share: float | None
    warning: str

    COLUMNS: ClassVar[Sequence[Column]] = (
        Column("ID", lambda a: a.accelerator_id),
        Column("NAME", lambda a: a.name),
        Column("TENANT", lambda a: a.tenant or None),
        Column("TYPE", lambda a: a.type),
        Column("STATE", lambda a: a.state),
        Column("DEVICE", lambda a: a.device),
        Column("SHARE %", lambda a: a.share * 100, ".3g"),
        Column("GPU MiB", lambda a: _scaled(a.device_memory_bytes, 1 / _MIB), ".0f"),
        Column("MEMORY MiB", lambda a: a.memory_bytes / _MIB, ".0f"),
        Column("USED MiB", lambda a: _scaled(a.memory_used_bytes, 1 / _MIB), ".0f"),
        Column("BUSY %", lambda a: _scaled(a.utilisation_share, 100), ".0f"),
        Column("RESTARTS", lambda a: a.num_restarts, "d"),
        Column("SINCE (UTC)", lambda a: moment(a.created_at)),
    )
    EMPTY: ClassVar[str] = "no accelerators are attached; `ei attach --type TYPE` attaches one"

    @property
    def price(self) -> str:
        """What it costs, with the unit."""
        return "no price" if self.usd_per_hour is None else f"{self.usd_per_hour} USD/hour"

    def _gpu_parts(self) -> str:
        """Say what it holds beside its share of a GPU; "" on a CPU, of which the share says all."""
        if self.device_memory_bytes is None:
            return ""
        gpu = format_bytes(self.device_memory_bytes)
        return f" and {gpu} of its memory; {self.cpu_share * 100:.3g}% of the host's cores"

    def blocks(self) -> Iterable[Block]:
        """Show all that is known, one fact a line."""
        lease = self.lease_left_seconds
        used = "" if self.memory_used_bytes is None else f"{format_bytes(self.memory_used_bytes)} of "
        yield Pairs(
            [
                ("id", self.accelerator_id),
                ("name", self.name),
                ("tenant", self.tenant or "none, it is the operator's own"),
                ("type", f"{self.type}, {self.price}"),
                ("state", self.state),
                ("device", f"{self.device}, {self.share * 100:.3g}%{self._gpu_parts()}"),
                ("memory", f"{used}{format_bytes(self.memory_bytes)}"),
                ("lease", "none" if lease is None else f"{lease:.0f} s left"),
                ("restarts", f"{self.num_restarts} {self.last_exit}".strip()),
                ("since", f"{moment(self.created_at)} UTC"),
                *([("warning", self.warning)] if self.warning else []),
                *((f"limit of {name}", text) for name, text in self.limits.items()),
                *(("endpoint", endpoint) for endpoint in self.endpoints),
                ("doors", ", ".join(self.doors)),
            ]
        )


@dataclass(frozen=True)
class Attached(Accelerator):
    """A new accelerator with its bearer token, which the host shows only in this answer."""

    token: str

    def blocks(self) -> Iterable[Block]:
        """Show what a client needs."""
        yield f"attached {self.accelerator_id} ({self.type}, {self.price})"
        yield f"name     {self.name}"
        yield from (f"endpoint {endpoint}" for endpoint in self.endpoints)
        yield f"token    {self.token}  (shown only now; keep it)"
        if self.warning:
            yield f"warning  {self.warning}"


@dataclass(frozen=True)
class Resized(Accelerator):
    """An accelerator after a resize."""

    was_restarted: bool

    def blocks(self) -> Iterable[Block]:
        """Show what it is now and how it came to be that."""
        how = "its process was restarted" if self.was_restarted else "its process kept running"
        yield f"{self.accelerator_id} is {self.type} now ({self.price}); {how}"


@dataclass(frozen=True)
class DeviceAnswer(Answer):
    """A device of a host or of this machine."""

    name: str
    kind: str
    model: str
    num_cores: float
    memory_bytes: int
    tflops: Mapping[str, float]
    tflops_source: str

    COLUMNS: ClassVar[Sequence[Column]] = (
        Column("DEVICE", lambda d: d.name),
        Column("MODEL", lambda d: d.model),
        Column("CORES", lambda d: d.num_cores, "g"),
        Column("MEMORY MiB", lambda d: d.memory_bytes / _MIB, ".0f"),
        Column("TFLOPS (measured)", lambda d: _tflops(d.tflops)),
    )
    EMPTY: ClassVar[str] = "no devices"


@dataclass(frozen=True)
class TypeOffer(Answer):
    """An accelerator type and how many of it still fit."""

    name: str
    memory_bytes: int
    device_kind: str | None
    device_memory_bytes: int | None
    cpu_share: float | None
    fp32_tflops: float | None
    device_share: float | None
    compute: str
    usd_per_hour: str | None
    price_source: str
    may_burst: bool
    num_available: int | None

    COLUMNS: ClassVar[Sequence[Column]] = (
        Column("TYPE", lambda t: t.name),
        Column("DEVICE", lambda t: t.device_kind or "any"),
        Column("GPU MiB", lambda t: _scaled(t.device_memory_bytes, 1 / _MIB), ".0f"),
        Column("MEMORY MiB", lambda t: t.memory_bytes / _MIB, ".0f"),
        Column("COMPUTE", lambda t: t.compute + (", may burst" if t.may_burst else "")),
        Column("USD/HOUR", lambda t: t.usd_per_hour, ""),
        Column("AVAILABLE", lambda t: t.num_available, "d"),
    )
    EMPTY: ClassVar[str] = "no types"


_COST_COLUMNS: Sequence[Column] = (
    Column("HOURS", lambda u: u.attached_hours, ".3f"),
    Column("NO PRICE h", lambda u: u.unpriced_hours or None, ".3f"),
    Column("USD", lambda u: u.cost_usd, ""),
    Column("INFERENCES", lambda u: u.inferences, "d"),
    Column("DEVICE s", lambda u: u.device_seconds, ".1f"),
    Column("THROTTLED s", lambda u: u.throttled_seconds, ".1f"),
    Column("USD/100K", lambda u: u.usd_per_100k_inferences, ""),
)
"""What was used and what it cost: of one accelerator, or of many together."""


@dataclass(frozen=True)
class Usage(Answer):
    """What an accelerator cost and did."""

    accelerator_id: str
    name: str
    tenant: str
    types: Sequence[str]
    started_at: float
    attached_hours: float
    unpriced_hours: float
    cost_usd: str | None
    inferences: int
    device_seconds: float
    throttled_seconds: float
    usd_per_100k_inferences: str | None
    is_attached: bool

    COLUMNS: ClassVar[Sequence[Column]] = (
        Column("ID", lambda u: u.accelerator_id),
        Column("NAME", lambda u: u.name),
        Column("TENANT", lambda u: u.tenant or None),
        Column("ATTACHED", lambda u: "yes" if u.is_attached else "no"),
        Column("TYPE", lambda u: " > ".join(u.types)),
        *_COST_COLUMNS,
    )
    EMPTY: ClassVar[str] = "no accelerator was attached in that time"


@dataclass(frozen=True)
class UsageSum(Answer):
    """What accelerators of one tenant or type, one model, or on one day, cost and did together."""

    key: str
    attached_hours: float
    unpriced_hours: float
    cost_usd: str
    inferences: int
    device_seconds: float
    throttled_seconds: float
    usd_per_100k_inferences: str | None

    COLUMNS: ClassVar[Sequence[Column]] = (
        Column("BY", lambda u: u.key),
        *_COST_COLUMNS,
    )
    EMPTY: ClassVar[str] = "no accelerator was attached in that time"


@dataclass(frozen=True)
class HostStatus(Answer):
    """A host: capacity, what is in force and by what means, health."""

    host_id: str
    version: str
    pid: int
    started_at: float
    is_draining: bool
    devices: Sequence[Mapping[str, Any]]
    limits: Mapping[str, str]
    users: str
    tls: bool
    database: str
    num_accelerators: int
    num_by_state: Mapping[str, int]
    num_unhealthy: int
    disk: Mapping[str, Any]
    warnings: Sequence[str]

    def blocks(self) -> Iterable[Block]:
        """Show it, one fact a line."""
        states = ", ".join(f"{count} {state}" for state, count in self.num_by_state.items()) or "none"
        yield Pairs(
            [
                ("host", f"{self.host_id}, version {self.version}, process {self.pid}"),
                ("state", "draining: refuses new accelerators" if self.is_draining else "ok"),
                ("accelerators", f"{states}; {self.num_unhealthy} do not answer"),
                ("limits by", self.limits["means"]),
                ("why", self.limits["reason"] or "the strongest means that exists"),
                ("run as", self.users),
                ("TLS", "yes" if self.tls else "no"),
                ("database", self.database),
                ("warnings", "; ".join(self.warnings) or "none"),
                *(_left(device) for device in self.devices),
            ]
        )


def _left(device: Mapping[str, Any]) -> tuple[str, str]:
    left = f"{device['left_share'] * 100:.3g}% and {format_bytes(device['left_memory_bytes'])}"
    text = f"{left} of {format_bytes(device['offered_memory_bytes'])} left, shared by {device['sharing']}"
    if device["not_isolated"]:
        text += f"; not isolated: {device['not_isolated']}"
    return device["name"], text


def _scaled(value: float | None, factor: float) -> float | None:
    return None if value is None else value * factor


def _tflops(values: Mapping[str, float]) -> str | None:
    return ", ".join(f"{name} {value:.3g}" for name, value in values.items()) or None


def of_limit(value: Any, limit: Any) -> str:
    """Write what there is of what there may be; the limit is left out where there is none."""
    shown = "-" if value is None else str(value)
    return shown if limit is None else f"{shown} of {limit}"


def percent_text(share: float | None) -> str | None:
    """Write a share as a percentage without its sign; None for none."""
    return None if share is None else f"{share * 100:.4g}"


def bytes_text(count: int | None) -> str | None:
    """Write a size; None for none."""
    return None if count is None else format_bytes(count)


def moment(seconds: float) -> str:
    """Write a moment in UTC."""
    return datetime.datetime.fromtimestamp(seconds, datetime.timezone.utc).strftime("%Y-%m-%d %H:%M:%S")
