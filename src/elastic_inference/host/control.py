"""What every way in takes: the control API, which a host gives for its own devices and a pool for those of many hosts.

The doors (`api`, `observing`, `page`, `metrics`, Amazon's) translate and decide nothing. They know these two protocols
and neither a host nor a pool: so what works at the one works at the other by the same words.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from elastic_inference.host.accounts.capacity import Capacity
from elastic_inference.host.accounts.catalogue import AcceleratorType
from elastic_inference.host.accounts.leases import LeaseBook
from elastic_inference.host.accounts.records import AcceleratorRecord
from elastic_inference.host.accounts.scope import ALL, Scope
from elastic_inference.host.accounts.state import StateStore
from elastic_inference.host.accounts.sums import By, UsageSum
from elastic_inference.host.accounts.token_book import TokenBook
from elastic_inference.host.accounts.usage import UsageRow
from elastic_inference.host.accounts.wanted import Waiting, Wanted
from elastic_inference.host.audit import AuditLog
from elastic_inference.host.board import Board
from elastic_inference.host.certificates import Certificates
from elastic_inference.host.devices import Device
from elastic_inference.host.meter import Readings
from elastic_inference.host.processes.folders import HostFolder
from elastic_inference.host.tenancy import Tenancy

MAX_DRAIN_SECONDS = 600.0


@dataclass(frozen=True)
class Offer:
    """A type of the catalogue and how many of it still fit."""

    kind: AcceleratorType
    num_available: int


Attached = tuple[AcceleratorRecord, str]
"""An accelerator and its bearer token, which nobody can read again."""


class TenantControl(Protocol):
    """What tenants have, and what is done for them."""

    def tenant_of(self, accelerator_id: str) -> str | None:
        """Return whose an accelerator is, None for one that is not attached. Waits for nothing."""

    def rows(self) -> list[dict[str, Any]]:
        """Return what is shown of each tenant, by name. Waits for nothing."""

    def warning(self, tenant: str) -> str:
        """Return what a tenant's clients are to be told, such as of its budget; "" where nothing. Waits for nothing."""

    def sum_up(self, tenant: str) -> None:
        """See to it that `rows` says what a tenant has spent until now."""

    def put_rates(self, tenant: str) -> None:
        """Let a tenant's accelerators take as many requests a second as its quota says now."""

    def remove(self, tenant: str, with_accelerators: bool = False) -> None:
        """Forget a tenant; raises TenantNotFound, or AcceleratorBusy where it has accelerators that are to stay."""


class AcceleratorControl(Protocol):
    """Accelerators: who gets one, what becomes of it, and what there is."""

    started_at: float

    @property
    def is_draining(self) -> bool:
        """Whether nothing new is attached."""

    @property
    def catalogue(self) -> Mapping[str, AcceleratorType]:
        """Types by name."""

    @property
    def capacity(self) -> Capacity:
        """Devices and what is held of them, now."""

    @property
    def leases(self) -> LeaseBook:
        """Until when each accelerator is attached without a heartbeat."""

    @property
    def tokens(self) -> TokenBook:
        """Whose each token is."""

    @property
    def meter(self) -> Readings:
        """What accelerators use."""

    @property
    def board(self) -> Board:
        """What was seen of all of them, once a second, with events and history."""

    @property
    def tenancy(self) -> Tenancy:
        """Its tenants: who they are, their tokens, quotas and budgets."""

    @property
    def tenants(self) -> TenantControl:
        """What tenants have, and what is done for them."""

    def ask(self, wanted: Wanted) -> Attached | Waiting:
        """Give an accelerator away, with its token, which nobody can read again; or let whoever asks wait."""

    def leave_line(self, ticket: str, tenant: str | None) -> bool:
        """Take one that waits out of the line; False where none waits with this ticket, or none of the tenant's."""

    def detach(self, accelerator_id: str, drain_seconds: float | None = None) -> None:
        """Take an accelerator back, after it has finished what is in flight."""

    def resize(self, accelerator_id: str, type_name: str) -> tuple[AcceleratorRecord, bool]:
        """Give it another type; gives back its record, and whether its process was started again."""

    def get(self, accelerator_id: str) -> AcceleratorRecord:
        """One accelerator; raises AcceleratorNotFound."""

    def list_all(self) -> tuple[AcceleratorRecord, ...]:
        """All accelerators, oldest first."""

    def heartbeat(self, accelerator_id: str) -> float | None:
        """Note that the client is there; seconds that its lease lasts from now. Waits for nothing."""

    def rotate_token(self, accelerator_id: str) -> str:
        """Give an accelerator a new bearer token; the old one is refused from now on."""

    def limits_of(self, record: AcceleratorRecord) -> dict[str, str]:
        """Return what is in force for an accelerator and by what means; {} where that is not known now."""

    def placement_of(self, accelerator_id: str) -> int | None:
        """Return a number that rises each time an accelerator is placed elsewhere; None: it never is."""

    def offers(self) -> tuple[Offer, ...]:
        """All types, and how many of each still fit."""

    def drain(self, is_draining: bool) -> None:
        """Refuse new accelerators from now on, or take them again; attached ones are not touched."""

    def usage(self, since: float = 0.0, scope: Scope = ALL) -> tuple[UsageRow, ...]:
        """Attached time, cost and counters since a moment, detached accelerators included; of what `scope` covers."""

    def usage_sums(self, by: By, since: float = 0.0, scope: Scope = ALL) -> tuple[UsageSum, ...]:
        """Sum up the same by tenant, type, model or day."""


class ControlApi(Protocol):
    """A host or a pool as a whole: who it is, how it is, and its operator's rights."""

    version: str
    host_id: str
    folder: HostFolder
    audit: AuditLog
    certificates: Certificates

    @property
    def store(self) -> StateStore:
        """Its database."""

    @property
    def service(self) -> AcceleratorControl:
        """Its accelerators."""

    @property
    def devices(self) -> Sequence[Device]:
        """What it offers, as measured."""

    @property
    def limits_name(self) -> str:
        """By what means limits hold, such as `cgroup2`."""

    @property
    def disk_figures(self) -> tuple[int, bool]:
        """Bytes free on the disk of the state directory, and whether that is too little."""

    @property
    def num_users_left(self) -> int | None:
        """How many more accelerators can have a user of their own; None where they have none."""

    def status(self) -> dict[str, Any]:
        """Return what `host status` shows."""

    def warnings(self) -> list[str]:
        """Return what needs somebody's care, a sentence each."""

    def is_operator_hash(self, token_sha256: str) -> bool:
        """Whether this is the hash of the operator's token; in constant time."""

    def change_operator_token(self) -> str:
        """Make a new operator token, and refuse the old one from now on."""

    def stop(self, keep_running: bool) -> None:
        """Let the process that serves this end in order; `keep_running`: the accelerators go on."""


class Served(ControlApi, Protocol):
    """One that `doors.server` can serve: it is opened before its first request and closed after its last."""

    def open(self) -> None:
        """Take the state directory, and find what was left."""

    def close(self, keep_running: bool = False) -> None:
        """End in order; twice is fine."""

    def reload(self) -> None:
        """Read the TLS files again."""

    def keeps_running(self, otherwise: bool) -> bool:
        """Whether accelerators go on at the end: as whoever stopped it said, else as given."""
