"""What every keeper of a host works with: its settings, and how it limits and controls an accelerator."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from elastic_inference.accelerator.config import AcceleratorConfig, describe_recording
from elastic_inference.client.connection import Address, Connection
from elastic_inference.deadline import Deadline
from elastic_inference.errors import InvalidInput, StartFailed
from elastic_inference.host.accounts.catalogue import AcceleratorType
from elastic_inference.host.accounts.records import AcceleratorRecord
from elastic_inference.host.accounts.state import StateStore
from elastic_inference.host.audit import AuditLog
from elastic_inference.host.processes.cores import CoreKeeper
from elastic_inference.host.processes.folders import HostFolder, TlsFiles
from elastic_inference.host.processes.launch import Launcher
from elastic_inference.host.processes.leases import LeaseKeeper
from elastic_inference.host.processes.request_rates import RequestRates
from elastic_inference.host.processes.tenant_stores import TenantStores
from elastic_inference.host.tenancy import Tenancy
from elastic_inference.host.tokens import HostSecret, hash_token
from elastic_inference.limits.base import AppliedLimits, LimitRequest, Limits
from elastic_inference.limits.gpu import (
    DEFAULT_MPS_DIRECTORY,
    describe_gpu,
    describe_lease,
    gpu_environment,
    inner_device,
)
from elastic_inference.limits.lease.holder import LeaseConfig
from elastic_inference.protocol.doors import DOORS, check_doors
from elastic_inference.protocol.endpoint import Endpoint
from elastic_inference.protocol.requests import request_json

_STORE_PER_MEMORY = 4  # disk for models by memory: what cannot be loaded at once need not be kept at once


@dataclass(frozen=True)
class ProcessSettings:
    """What all accelerator processes of a host have in common.

    Attributes:
        data_host: The address on which they listen by TCP; None: by Unix sockets alone.
        ports: TCP ports for them.
        drain_seconds: How long an accelerator that is given back may finish what is in flight.
        hang_seconds: A process that does not answer for so long is started again. One with a tenth of 2 cores
            answered within 3.3 s while it loaded the Faster R-CNN graph.
        turn_limit_seconds: A process in which one request runs for longer is started again: a model may loop for ever.
        allow_unsafe_operations: See EngineOptions.
        published: See HostSettings.
        fence: The file that says until when accelerators may answer; None: nothing limits that.
        gpu_sharing, doors: See HostSettings.
        record_requests: See HostSettings.
        mps_directory: Of the pipes of NVIDIA's MPS daemon.
    """

    data_host: str | None
    ports: range
    tls: TlsFiles | None = None
    start_timeout_seconds: float = 60.0
    drain_seconds: float = 10.0
    hang_seconds: float = 60.0
    turn_limit_seconds: float = 600.0
    allow_unsafe_operations: bool = False
    published: Path | None = None
    fence: Path | None = None
    gpu_sharing: str = "lease"
    doors: tuple[str, ...] = DOORS
    mps_directory: str = DEFAULT_MPS_DIRECTORY
    record_requests: int = 0


@dataclass(frozen=True)
class HostContext:
    """What every keeper works with."""

    store: StateStore
    limits: Limits
    launcher: Launcher
    folder: HostFolder
    secret: HostSecret
    settings: ProcessSettings
    num_cores: Mapping[str, float]  # of the host, by the device that they serve
    cores: CoreKeeper
    leases: LeaseKeeper
    tenancy: Tenancy
    audit: AuditLog
    tenant_stores: TenantStores
    request_rates: RequestRates
    gpu_uuids: Mapping[str, str] = field(default_factory=dict)  # of devices that are GPUs, by name
    sharing: Mapping[str, str] = field(default_factory=dict)  # "lease" or "limits", by device

    def limit_request(self, record: AcceleratorRecord) -> LimitRequest:
        """Return what the kernel is to hold this accelerator to; not to its share of a CPU that is shared by lease.

        Raises:
            StartFailed: The device of its last run is not here: it broke, its driver does not answer, or the host was
                started without it.
        """
        if record.device not in self.num_cores:
            raise StartFailed(
                f"device {record.device!r} of this accelerator is not among the host's devices "
                f"({', '.join(self.num_cores)}); see what `ei devices` says of it, then start the host again"
            )
        is_held_by_lease = self.is_leased(record) and record.device.startswith("cpu:")
        return LimitRequest(
            accelerator_id=record.accelerator_id,
            compute_share=record.cpu_share,
            num_cores=self.num_cores[record.device],
            memory_bytes=record.kind.memory_bytes,
            may_burst=record.kind.may_burst or is_held_by_lease,
        )

    def is_leased(self, record: AcceleratorRecord) -> bool:
        """Whether the accelerator's device is shared by lease."""
        return record.device in self.leases.devices

    def opening(self, kind: AcceleratorType, doors: Sequence[str] | None) -> AcceleratorType:
        """Return a type with the doors that its accelerator opens: these, or for None those of the type.

        Raises:
            InvalidInput: One of them is unknown, or closed on this host or for this type.
        """
        may = self._doors_of(kind)
        wanted = may if doors is None else check_doors(doors, "doors")
        closed = [door for door in wanted if door not in may]
        if closed:
            raise InvalidInput(
                f"doors {', '.join(closed)} are closed for type {kind.name!r} on this host; open are {', '.join(may)}"
            )
        return kind if wanted == DOORS else replace(kind, doors=wanted)

    def _doors_of(self, kind: AcceleratorType) -> tuple[str, ...]:
        return tuple(door for door in self.settings.doors if door in (kind.doors or DOORS))

    def describe_limits(self, record: AcceleratorRecord, applied: AppliedLimits) -> dict[str, str]:
        """Return what is in force for an accelerator and by what means."""
        sharing = self.settings.gpu_sharing
        means = (
            self.tenancy.quota(record.tenant).describe(record.tenant)
            | describe_recording(self._record_requests(record))
            | applied.describe()
            | describe_gpu(record.device, record.share, sharing, record.kind.may_burst)
        )
        if not self.is_leased(record) or not record.device.startswith("cpu:"):
            return means
        return means | {"compute": describe_lease(record.device, record.share, record.kind.may_burst)}

    def _record_requests(self, record: AcceleratorRecord) -> int:
        return self.settings.record_requests if record.device.startswith("cpu:") else 0

    def gpu_environment(self, record: AcceleratorRecord) -> dict[str, str]:
        """Variables that an accelerator's process gets for its GPU; {} where it is on none."""
        return gpu_environment(
            self.gpu_uuids.get(record.device, ""),
            record.share,
            record.kind.device_memory_bytes or 0,
            self.settings.gpu_sharing,
            self.settings.mps_directory,
        )

    def configuration(
        self,
        record: AcceleratorRecord,
        applied: AppliedLimits,
        tls: TlsFiles | None,
        lease: LeaseConfig | None,
    ) -> AcceleratorConfig:
        """Return what a process of this accelerator is told when it starts."""
        folder = self.folder.accelerator(record.accelerator_id)
        shared = self.tenant_stores.directory(record)
        listen = [f"unix:{folder.socket}"]
        if self.settings.data_host is not None and record.port is not None:
            listen.append(str(Endpoint("tcp", host=self.settings.data_host, port=record.port)))
        return AcceleratorConfig(
            accelerator_id=record.accelerator_id,
            listen=tuple(listen),
            store_dir=str(folder.store),
            store_limit_bytes=self.tenant_stores.limit_bytes(record, _STORE_PER_MEMORY),
            token_sha256=record.token_sha256,
            admin_token_sha256=hash_token(self.secret.admin_token(record.accelerator_id)),
            tls_cert=None if tls is None else str(tls.cert),
            tls_key=None if tls is None else str(tls.key),
            tls_client_ca=None if tls is None or tls.client_ca is None else str(tls.client_ca),
            device=inner_device(record.device),
            num_threads=applied.num_threads,
            memory_limit_bytes=applied.rlimit_data_bytes,
            device_memory_limit_bytes=record.kind.device_memory_bytes,
            compute_share=applied.duty_cycle_share,
            lease=lease,
            limits=self.describe_limits(record, applied),
            artifacts_dir=str(folder.artifacts if shared is None else shared),
            is_store_shared=shared is not None,
            published_dir=None if self.settings.published is None else str(self.settings.published),
            fence=None if self.settings.fence is None else str(self.settings.fence),
            allow_unsafe_operations=self.settings.allow_unsafe_operations,
            rate=self.request_rates.admit(record),
            accelerator_type=record.kind.name,
            doors=self._doors_of(record.kind),
            record_requests=self._record_requests(record),
        )

    def forget_tenant(self, tenant: str) -> None:
        """Remove what a tenant that is gone leaves behind; its accelerators have ended."""
        self.tenant_stores.remove(tenant)
        self.request_rates.remove(tenant)

    def admit(self, record: AcceleratorRecord) -> LeaseConfig | None:
        """Give the accelerator its lease, or weigh the one it has anew; None where its device has none."""
        if not self.is_leased(record):
            return None
        share, may_burst = record.share, record.kind.may_burst
        return self.leases.admit(record.accelerator_id, record.device, share, may_burst)

    def control(
        self, record: AcceleratorRecord, method: str, path: str, body: Any = None, **options: Any
    ) -> Any:
        """Call the accelerator's own control endpoints, over its Unix socket."""
        address = self._address(record)
        return request_json(address.endpoint, method, path, body, token=address.token, **options)

    def look(self, record: AcceleratorRecord, timeout_seconds: float) -> dict[str, Any]:
        """Read what the accelerator says of itself, as often as each second, so with half of what `control` costs."""
        deadline = Deadline(timeout_seconds)
        with contextlib.closing(Connection(self._address(record), timeout_seconds)) as connection:
            connection.stream.set_deadline(deadline)
            return connection.call("GET", "/v2/accelerator")

    def _address(self, record: AcceleratorRecord) -> Address:
        socket_path = self.folder.accelerator(record.accelerator_id).socket
        token = self.secret.admin_token(record.accelerator_id)
        return Address(Endpoint("unix", path=str(socket_path)), token)
