"""`ei logs`: what an accelerator's processes wrote."""

from __future__ import annotations

import json
import time
from typing import Annotated, Any

import typer

from elastic_inference.cli.host_access import AcceleratorArgument, HostAccess
from elastic_inference.cli.registration import add_command
from elastic_inference.cli.rendering import Output
from elastic_inference.client.host_session import HostSession, accelerator_path
from elastic_inference.errors import AcceleratorNotFound, ConnectError, ConnectionLost, DeadlineExceeded
from elastic_inference.units import parse_bytes

_EVERY_SECONDS = 1.0
_MAX_BYTES = 256 << 10  # of one answer


def register(app: typer.Typer) -> None:
    """Add the command."""
    add_command(app, "logs", logs)


def logs(
    accelerator: AcceleratorArgument,
    access: HostAccess,
    output: Output,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Continue with what is written later.")
    ] = False,
    tail: Annotated[
        str, typer.Option("--tail", metavar="SIZE", help="How much of the log's end, at most 256KiB.")
    ] = "16KiB",
) -> None:
    """Print what an accelerator's processes wrote to standard error.

    A process that died is followed by the next one. With --json each part is one line: text, process and cursor.
    With -f it ends when the accelerator is detached, or by Ctrl-C.

    \b
    Examples:
      ei logs mybox
      ei logs mybox --tail 100KiB
      ei logs -f mybox
    """
    num_bytes = max(1, min(parse_bytes(tail), _MAX_BYTES))
    session = access.open()
    path = f"{accelerator_path(session.find_id(accelerator))}/logs"
    part = _read(session, f"{path}?max_bytes={num_bytes}")
    if not part["text"]:
        output.say("it has written nothing")
    while True:
        _write(output, part)
        if not follow:
            return
        if not part["has_more"]:
            time.sleep(_EVERY_SECONDS)
        try:
            part = _read(session, f"{path}?max_bytes={_MAX_BYTES}&cursor={part['cursor']}")
        except AcceleratorNotFound:
            output.say("the accelerator is detached")
            return
        except (ConnectError, ConnectionLost, DeadlineExceeded) as error:
            output.say(f"no answer, tried again: {error}")
            part = {**part, "text": "", "has_more": False}


def _read(session: HostSession, path: str) -> dict[str, Any]:
    return dict(session.request("GET", path))


def _write(output: Output, part: dict[str, Any]) -> None:
    if part["text"]:
        output.write(json.dumps(part) + "\n" if output.as_json else part["text"])
