"""`ei pool`: start and stop a pool of hosts on Ray, look at it, and empty a host before it is taken away."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import typer

from elastic_inference.cli._pool_host import run_host
from elastic_inference.cli._pool_start import start, stop
from elastic_inference.cli._support import Progress
from elastic_inference.cli.host_access import HostAccess
from elastic_inference.cli.pool_plan import plan
from elastic_inference.cli.registration import add_command
from elastic_inference.cli.rendering import Block, Column, Listing, Pairs, Sentence
from elastic_inference.client.host_session import HostSession
from elastic_inference.errors import CapacityExceeded, InvalidInput
from elastic_inference.units import format_bytes

_LOOK_SECONDS = 0.3


@dataclass(frozen=True)
class PoolStatus:
    """A pool as a whole.

    Attributes:
        pool_epoch: How often a pool service took over.
        pid: Of the process that is the pool service.
        num_hosts, num_accelerators: By state.
    """

    url: str
    version: str
    pool_epoch: int
    pid: int
    database: str
    lease_seconds: float
    num_hosts: Mapping[str, int]
    num_accelerators: Mapping[str, int]
    warnings: Sequence[str]

    def blocks(self) -> Iterable[Block]:
        """Show it."""
        yield Pairs(
            [
                ("pool", f"{self.url}, version {self.version}"),
                ("service", f"process {self.pid}, the {self.pool_epoch}. that serves; {self.database}"),
                ("hosts", _counts(self.num_hosts)),
                ("accelerators", _counts(self.num_accelerators)),
                ("a host's lease", f"{self.lease_seconds:g} s"),
            ]
        )
        yield from self.warnings


@dataclass(frozen=True)
class PoolHost:
    """A host of a pool."""

    host_id: str
    node_id: str
    url: str
    state: str
    epoch: int
    silent_seconds: float
    devices: Sequence[Mapping[str, Any]]
    features: Sequence[str]
    accelerator_ids: Sequence[str]

    COLUMNS: ClassVar[Sequence[Column]] = (
        Column("HOST", lambda host: host.host_id),
        Column("NODE", lambda host: host.node_id[:12]),
        Column("ADDRESS", lambda host: host.url),
        Column("STATE", lambda host: host.state),
        Column("ACCELERATORS", lambda host: len(host.accelerator_ids), ""),
        Column("LEFT", lambda host: "; ".join(_left(device) for device in host.devices)),
    )
    EMPTY: ClassVar[str] = "no host has joined yet"


def register(app: typer.Typer) -> None:
    """Add `ei pool ...`."""
    group = typer.Typer(
        help="Plan, run and operate a pool of hosts on Ray.",
        no_args_is_help=True,
        rich_markup_mode=None,
        add_completion=False,
    )
    for name, command in (
        ("start", start),
        ("stop", stop),
        ("status", status),
        ("hosts", hosts),
        ("drain", drain),
        ("plan", plan),
    ):
        add_command(group, name, command)
    add_command(group, "run-host", run_host, hidden=True)
    app.add_typer(group, name="pool")


def status(access: HostAccess) -> PoolStatus:
    """Show a pool: its hosts and accelerators by state, and which process serves.

    \b
    Examples:
      ei pool status --host http://pool:8500
      ei pool status --json
    """
    session = access.open()
    return PoolStatus(url=session.url, **session.request("GET", "/v1/pool"))


def hosts(access: HostAccess) -> Listing:
    """List the hosts of a pool with what is left of their devices.

    \b
    Examples:
      ei pool hosts --host http://pool:8500
    """
    return Listing(PoolHost, _hosts(access.open()))


def drain(
    access: HostAccess,
    host_id: Annotated[
        str, typer.Argument(metavar="HOST", help="As `ei pool hosts` lists it, or the beginning of it.")
    ],
    off: Annotated[bool, typer.Option("--off", help="Let the host take accelerators again.")] = False,
    timeout: Annotated[
        float, typer.Option("--timeout", metavar="SECONDS", help="How long to wait until it is empty.")
    ] = 600.0,
) -> Sentence:
    """Move a host's accelerators elsewhere, one by one and without a failed call, and take no new ones to it.

    Returns when the host is empty: then it can be stopped, upgraded or taken away.

    \b
    Examples:
      ei pool drain 3f2a --host http://pool:8500
      ei pool drain 3f2a --off
    """
    if not 0 <= timeout < float("inf"):
        raise InvalidInput(f"--timeout {timeout} must be 0 or more, and finite")
    session = access.open()
    host = _find(session, host_id)
    body = {"is_draining": not off}
    session.request("POST", f"/v1/pool/hosts/{host.host_id}/drain", body)
    if off:
        return Sentence(f"host {host.host_id} takes accelerators again", {"host_id": host.host_id})
    num_before = len(host.accelerator_ids)
    deadline = time.monotonic() + timeout
    with Progress(f"draining {host.host_id}", "accelerators") as progress:
        while host.accelerator_ids:
            progress.update(num_before - len(host.accelerator_ids), num_before)
            if time.monotonic() > deadline:
                raise CapacityExceeded(
                    f"host {host.host_id} still has {len(host.accelerator_ids)} accelerators after {timeout:g} s; no "
                    "other host has room for them (`ei pool hosts`); it takes no new ones until `ei pool drain --off`",
                    requested=f"room for {len(host.accelerator_ids)} accelerators",
                    available="none elsewhere",
                )
            time.sleep(_LOOK_SECONDS)
            host = _find(session, host.host_id)
    return Sentence(
        f"host {host.host_id} is empty; it held {num_before} accelerators",
        {"host_id": host.host_id, "num_moved": num_before},
    )


def _hosts(session: HostSession) -> list[PoolHost]:
    return [PoolHost(**each) for each in session.request("GET", "/v1/pool/hosts")]


def _find(session: HostSession, wanted: str) -> PoolHost:
    known = _hosts(session)
    found = [host for host in known if wanted and host.host_id.startswith(wanted)]
    if len(found) != 1:
        names = ", ".join(host.host_id for host in found or known) or "none"
        raise InvalidInput(f"{wanted!r:.80} means {len(found)} hosts of this pool: give one of {names}")
    return found[0]


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{number} {name}" for name, number in counts.items() if number) or "none"


def _left(device: Mapping[str, Any]) -> str:
    return f"{device['name']} {device['left_share']:.0%}, {format_bytes(device['left_memory_bytes'])}"
