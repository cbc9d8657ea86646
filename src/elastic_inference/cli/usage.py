"""`ei usage`: what accelerators cost and did."""

from __future__ import annotations

import datetime
import time
from typing import Annotated

import typer

from elastic_inference.cli._hosts import (
    CaOption,
    HostOption,
    JsonOption,
    TokenOption,
    open_session,
    print_json,
    print_table,
)
from elastic_inference.errors import InvalidInput
from elastic_inference.units import parse_seconds


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("usage")(usage)


def usage(
    since: Annotated[
        str | None,
        typer.Option(
            "--since", metavar="WHEN", help="A date (2026-01-31, UTC) or a time back from now (24h)."
        ),
    ] = None,
    host: HostOption = None,
    token: TokenOption = None,
    tls_ca: CaOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show hours attached, cost, inferences, and what 100,000 inferences really cost.

    \b
    Examples:
      ei usage
      ei usage --since 24h
      ei usage --since 2026-01-01 --json
    """
    start = parse_since(since, time.time())
    values = open_session(host, token, tls_ca).request("GET", f"/v1/usage?since={start:.3f}")
    if as_json:
        print_json(values)
        return
    rows = [
        (
            v["accelerator_id"] + (" *" if v["is_attached"] else ""),
            v["name"],
            " > ".join(v["types"]),
            f"{v['attached_hours']:.3f}",
            v["cost_usd"],
            v["inferences"],
            f"{v['device_seconds']:.1f}",
            f"{v['throttled_seconds']:.1f}",
            v["usd_per_100k_inferences"],
        )
        for v in values
    ]
    columns = (
        "ID (* attached)", "NAME", "TYPE", "HOURS", "USD", "INFERENCES", "DEVICE S", "THROTTLED S", "USD/100K",
    )  # fmt: skip
    print_table(columns, rows, "no accelerator was attached in that time")


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
