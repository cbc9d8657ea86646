"""`ei audit`: who changed what on a host."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar

import typer

from elastic_inference.cli.answers import Answer, moment
from elastic_inference.cli.host_access import HostAccess
from elastic_inference.cli.registration import add_command
from elastic_inference.cli.rendering import Column, Listing


@dataclass(frozen=True)
class AuditEntry(Answer):
    """One request that changed something, or tried to."""

    at: float
    who: str
    address: str
    door: str
    method: str
    path: str
    accelerator_id: str
    status: int
    request_id: str
    tenant: str
    detail: str

    COLUMNS: ClassVar[Sequence[Column]] = (
        Column("WHEN (UTC)", lambda e: moment(e.at)),
        Column("WHO", lambda e: e.who),
        Column("FROM", lambda e: e.address),
        Column("BY", lambda e: e.door),
        Column("REQUEST", lambda e: f"{e.method} {e.path}"),
        Column("TENANT", lambda e: e.tenant or None),
        Column("ACCELERATOR", lambda e: e.accelerator_id or None),
        Column("OUTCOME", lambda e: "done" if e.status < 400 else "refused" if e.status < 500 else "failed"),
        Column("STATUS", lambda e: e.status, "d"),
        Column("DETAIL", lambda e: e.detail or None),
    )
    EMPTY: ClassVar[str] = "nothing was changed on this host"


def register(app: typer.Typer) -> None:
    """Add the command."""
    add_command(app, "audit", audit)


def audit(
    access: HostAccess,
    last: Annotated[int, typer.Option("--last", min=1, max=10_000, help="How many entries.")] = 50,
) -> Listing:
    """Show who changed what on a host, from where, and with what outcome; oldest first.

    Heartbeats and questions are not in it. The operator's token shows all of it, a tenant's token what is its own.

    \b
    Examples:
      ei audit
      ei audit --last 1000 --json
    """
    session = access.open()
    values = session.request("GET", f"/v1/audit?last={last}")
    return Listing(AuditEntry, AuditEntry.read_all(values, session))
