"""`ei usage`: what accelerators cost and did."""

from __future__ import annotations

import datetime
import io
import time
from collections.abc import Iterable, Sequence
from csv import writer as writer_of
from dataclasses import dataclass, fields
from decimal import Decimal
from typing import Annotated

import typer

from elastic_inference.cli.answers import Usage, UsageSum
from elastic_inference.cli.host_access import HostAccess
from elastic_inference.cli.registration import add_command
from elastic_inference.cli.rendering import Block, Listing, Output
from elastic_inference.errors import InvalidInput
from elastic_inference.units import parse_seconds

_BY = ("accelerator", "tenant", "type", "model", "day")


def register(app: typer.Typer) -> None:
    """Add the command."""
    add_command(app, "usage", usage)


@dataclass(frozen=True)
class UsageListing(Listing):
    """Usage with its sum below; the JSON is the rows alone."""

    rows: Sequence[Usage | UsageSum]

    def blocks(self) -> Iterable[Block]:
        """Show the table, and what it comes to."""
        yield from super().blocks()
        if not self.rows:
            return
        usd = sum((Decimal(row.cost_usd) for row in self.rows if row.cost_usd is not None), Decimal(0))
        hours, unpriced = (
            sum(getattr(row, n) for row in self.rows) for n in ("attached_hours", "unpriced_hours")
        )
        text = f"\ntotal: {usd:f} USD for {hours - unpriced:.3f} hours with a price"
        text += f"; {unpriced:.3f} hours without a price are not in it" if unpriced else ""
        yield f"{text}; {sum(row.inferences for row in self.rows)} inferences"


def usage(
    access: HostAccess,
    output: Output,
    since: Annotated[
        str | None,
        typer.Option(
            "--since", metavar="WHEN", help="A date (2026-01-31, UTC) or a time back from now (24h)."
        ),
    ] = None,
    by: Annotated[
        str,
        typer.Option(
            "--by", metavar="WHAT", help="'accelerator', or sums by 'tenant', 'type', 'model' or 'day' (UTC)."
        ),
    ] = "accelerator",
    csv: Annotated[bool, typer.Option("--csv", help="Print comma-separated values with all digits.")] = False,
) -> UsageListing | None:
    """Show what accelerators cost and did, and the sum.

    The cost of 100,000 inferences includes the time in which the accelerator was attached and idle. Time with a type
    that has no price is shown apart and costs nothing. By model, each hour goes to the models that ran in it, as they
    used the device.

    \b
    Examples:
      ei usage
      ei usage --since 24h --by type
      ei usage --by tenant
      ei usage --since 2026-01-01 --by day --csv
      ei usage --since 2026-01-01 --json
    """
    if by not in _BY:
        raise InvalidInput(f"--by {by!r} is not one of {', '.join(_BY)}")
    if csv and output.as_json:
        raise InvalidInput("--csv and --json contradict each other: give one of them")
    start = parse_since(since, time.time())
    session = access.open()
    kind: type[Usage | UsageSum] = Usage if by == "accelerator" else UsageSum
    path = f"/v1/usage?since={start:.3f}" if kind is Usage else f"/v1/usage/sums?by={by}&since={start:.3f}"
    listing = UsageListing(kind, kind.read_all(session.request("GET", path), session))
    if not csv:
        return listing
    output.write(_csv(kind, listing.rows))
    return None


def _csv(kind: type[Usage | UsageSum], rows: Sequence[Usage | UsageSum]) -> str:
    """Write the fields of the API, one line a row; several types of an accelerator with `>` between them."""
    names = [each.name for each in fields(kind) if each.name != "other"]
    buffer = io.StringIO()
    writer = writer_of(buffer, lineterminator="\n")
    writer.writerow(names)
    for row in rows:
        values = [getattr(row, name) for name in names]
        writer.writerow([" > ".join(v) if isinstance(v, list) else "" if v is None else v for v in values])
    return buffer.getvalue()


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
