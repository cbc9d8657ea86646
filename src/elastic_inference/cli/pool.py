"""`ei pool`: start and stop a pool of hosts on Ray, look at it, and empty a host before it is taken away."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated

import typer

from elastic_inference.cli._pool_host import run_host
from elastic_inference.cli._pool_hosts import PoolHost, find_host, list_hosts, set_draining, wait_empty
from elastic_inference.cli._pool_start import start, stop
from elastic_inference.cli._pool_upgrade import upgrade
from elastic_inference.cli._support import Progress
from elastic_inference.cli.host_access import HostAccess
from elastic_inference.cli.pool_plan import plan
from elastic_inference.cli.registration import add_command
from elastic_inference.cli.rendering import Block, Listing, Pairs, Sentence
from elastic_inference.errors import InvalidInput


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
        ("upgrade", upgrade),
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
    return Listing(PoolHost, list_hosts(access.open()))


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
    host = find_host(session, host_id)
    set_draining(session, host.host_id, not off)
    if off:
        return Sentence(f"host {host.host_id} takes accelerators again", {"host_id": host.host_id})
    num_before = len(host.accelerator_ids)
    with Progress(f"draining {host.host_id}", "accelerators") as progress:
        wait_empty(session, host, timeout, progress, "it takes no new ones until `ei pool drain --off`")
    return Sentence(
        f"host {host.host_id} is empty; it held {num_before} accelerators",
        {"host_id": host.host_id, "num_moved": num_before},
    )


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{number} {name}" for name, number in counts.items() if number) or "none"
