"""Hosts of a pool as commands show them, found by the beginning of their id, and emptied."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from elastic_inference.cli._support import Progress
from elastic_inference.cli.rendering import Column
from elastic_inference.client.host_session import HostSession
from elastic_inference.errors import CapacityExceeded, InvalidInput
from elastic_inference.units import format_bytes

LOOK_SECONDS = 0.3


@dataclass(frozen=True)
class PoolHost:
    """A host of a pool."""

    host_id: str
    node_id: str
    url: str
    state: str
    version: str
    epoch: int
    silent_seconds: float
    devices: Sequence[Mapping[str, Any]]
    features: Sequence[str]
    accelerator_ids: Sequence[str]

    COLUMNS: ClassVar[Sequence[Column]] = (
        Column("HOST", lambda host: host.host_id),
        Column("NODE", lambda host: host.node_id[:12]),
        Column("ADDRESS", lambda host: host.url),
        Column("VERSION", lambda host: host.version),
        Column("STATE", lambda host: host.state),
        Column("ACCELERATORS", lambda host: len(host.accelerator_ids), ""),
        Column("LEFT", lambda host: "; ".join(_left(device) for device in host.devices)),
    )
    EMPTY: ClassVar[str] = "no host has joined yet"


def list_hosts(session: HostSession) -> list[PoolHost]:
    """Ask a pool for its hosts."""
    return [PoolHost(**each) for each in session.request("GET", "/v1/pool/hosts")]


def find_host(session: HostSession, wanted: str) -> PoolHost:
    """Return the one host whose id begins so; raises InvalidInput."""
    known = list_hosts(session)
    found = [host for host in known if wanted and host.host_id.startswith(wanted)]
    if len(found) != 1:
        names = ", ".join(host.host_id for host in found or known) or "none"
        raise InvalidInput(f"{wanted!r:.80} means {len(found)} hosts of this pool: give one of {names}")
    return found[0]


def set_draining(session: HostSession, host_id: str, is_draining: bool) -> None:
    """Let a host be emptied, or take accelerators again."""
    session.request("POST", f"/v1/pool/hosts/{host_id}/drain", {"is_draining": is_draining})


def wait_empty(
    session: HostSession, host: PoolHost, timeout_seconds: float, progress: Progress, then: str
) -> None:
    """Wait until a host that drains holds nothing.

    Args:
        then: What becomes of it where it still does.

    Raises:
        CapacityExceeded: It still holds something after that time.
    """
    num_before = len(host.accelerator_ids)
    deadline = time.monotonic() + timeout_seconds
    while host.accelerator_ids:
        progress.update(num_before - len(host.accelerator_ids), num_before)
        if time.monotonic() > deadline:
            raise CapacityExceeded(
                f"host {host.host_id} still has {len(host.accelerator_ids)} accelerators after {timeout_seconds:g} s; "
                f"no other host has room for them (`ei pool hosts`); {then}",
                requested=f"room for {len(host.accelerator_ids)} accelerators",
                available="none elsewhere",
            )
        time.sleep(LOOK_SECONDS)
        host = find_host(session, host.host_id)


def _left(device: Mapping[str, Any]) -> str:
    return f"{device['name']} {device['left_share']:.0%}, {format_bytes(device['left_memory_bytes'])}"
