"""`ei usage`: what accelerators cost and did."""

from __future__ import annotations

import datetime
import time
from typing import Annotated

import typer

from elastic_inference.cli.answers import Usage
from elastic_inference.cli.host_access import HostAccess
from elastic_inference.cli.registration import add_command
from elastic_inference.cli.rendering import Listing
from elastic_inference.errors import InvalidInput
from elastic_inference.units import parse_seconds


def register(app: typer.Typer) -> None:
    """Add the command."""
    add_command(app, "usage", usage)


def usage(
    access: HostAccess,
    since: Annotated[
        str | None,
        typer.Option(
            "--since", metavar="WHEN", help="A date (2026-01-31, UTC) or a time back from now (24h)."
        ),
    ] = None,
) -> Listing:
    """Show what accelerators cost and did.

    The cost of 100,000 inferences includes the time in which the accelerator was attached and idle.

    \b
    Examples:
      ei usage
      ei usage --since 24h
      ei usage --since 2026-01-01 --json
    """
    start = parse_since(since, time.time())
    session = access.open()
    return Listing(Usage, Usage.read_all(session.request("GET", f"/v1/usage?since={start:.3f}"), session))


def parse_since(text: str | None, now: float) -> float:
    """Read a date, a moment (ISO 8601, UTC unless it says otherwise) or a time back from now; 0 for None."""
    if text is None:
        return 0.0
    try:
        moment = datetime.datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        try:
            return max(0.0, now - parse_seconds(text))
        except InvalidInput as error:
            raise InvalidInput(
                f"--since {text!r} is neither a date such as 2026-01-31 nor a time such as 24h"
            ) from error
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=datetime.timezone.utc)
    return max(0.0, moment.timestamp())
