"""What `ei host status` shows of a host: devices, what is left of them, what is in force and by what means."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from elastic_inference.host.board import num_by_state
from elastic_inference.limits.gpu import NOT_ISOLATED

if TYPE_CHECKING:
    from elastic_inference.host.host import Host


def host_status(host: Host) -> dict[str, Any]:
    """Return it as JSON."""
    records = host.service.list_all()
    return {
        "host_id": host.host_id,
        "version": host.version,
        "pid": os.getpid(),
        "started_at": host.service.started_at,
        "is_draining": host.service.is_draining,
        "devices": list(_devices(host)),
        "limits": {"means": host.limits.name, "reason": host.limits.reason},
        "users": host.isolation.statement,
        "tls": host.settings.tls is not None,
        "database": host.store.dialect,
        "num_accelerators": len(records),
        "disk": {
            "level": host.disk.level.value,
            "free_bytes": host.disk.free_bytes,
            "reserve_bytes": host.disk.reserve_bytes,
        },
        "warnings": host.warnings(),
        "num_by_state": num_by_state(records),
    }


def _devices(host: Host) -> Iterator[dict[str, Any]]:
    settings, capacity = host.settings, host.service.capacity
    for device, offered in zip(settings.devices, capacity.devices, strict=True):
        share, memory_bytes = capacity.left(offered)
        yield {
            "name": device.name,
            "num_cores": device.num_cores,
            "sharing": settings.sharing(device),
            "not_isolated": NOT_ISOLATED[settings.gpu_sharing] if device.kind == "cuda" else "",
            "offered_memory_bytes": offered.memory_bytes,
            "tflops": dict(device.tflops),
            "left_share": share,
            "left_memory_bytes": memory_bytes,
        }
