"""`ei attach`, `list`, `show`, `resize`, `detach`: accelerators of a host."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from elastic_inference.cli.answers import Accelerator, Attached, Resized
from elastic_inference.cli.host_access import AcceleratorArgument, HostAccess, TypeOption
from elastic_inference.cli.registration import add_command
from elastic_inference.cli.rendering import Listing, Output, Sentence
from elastic_inference.client.host_session import accelerator_path
from elastic_inference.client.waiting import MAX_PRIORITY
from elastic_inference.errors import InvalidInput
from elastic_inference.protocol.doors import parse_doors
from elastic_inference.units import parse_seconds

_ATTACH_TIMEOUT_SECONDS = 120.0


def register(app: typer.Typer) -> None:
    """Add the commands."""
    for name, command in (
        ("attach", attach),
        ("list", list_accelerators),
        ("show", show),
        ("resize", resize),
        ("detach", detach),
    ):
        add_command(app, name, command)


def attach(
    type_name: TypeOption,
    access: HostAccess,
    output: Output,
    name: Annotated[
        str | None,
        typer.Option("--name", help="Unique on the host; by default the first digits of its id."),
    ] = None,
    lease: Annotated[
        str | None,
        typer.Option(
            "--lease", metavar="TIME", help="Detach it when no heartbeat came for this long, such as 10min."
        ),
    ] = None,
    wait: Annotated[
        str | None,
        typer.Option(
            "--wait",
            metavar="TIME",
            help="Stand in line where there is no room now, for so long, such as 10min.",
        ),
    ] = None,
    priority: Annotated[
        int,
        typer.Option(
            "--priority",
            min=0,
            max=MAX_PRIORITY,
            help="In that line: a step is worth a minute of having come earlier.",
        ),
    ] = 0,
    tenant: Annotated[
        str | None, typer.Option("--tenant", help="For this tenant; with the operator's token.")
    ] = None,
    doors: Annotated[
        str | None,
        typer.Option(
            "--doors",
            metavar="NAMES",
            help="Protocols that it opens, such as http,grpc; default those of its type.",
        ),
    ] = None,
) -> Attached:
    """Attach an accelerator; it stays until it is detached.

    Prints its id, endpoints and token. The token is shown only now. While it waits, its place in the line is printed on
    standard error; Ctrl-C gives the place up.

    \b
    Examples:
      ei attach --type cpu.quarter --name mybox
      ei attach --type cpu.quarter --lease 10min --doors http,grpc --json
      ei attach --type cpu.quarter --wait 10min
      export EI_ACCELERATOR=$(ei attach --type cpu.quarter --json | jq -r .accelerator_id)
    """
    body: dict[str, Any] = {"type": type_name, "name": name}
    body["lease_seconds"] = None if lease is None else parse_seconds(lease)
    if tenant is not None:
        body["tenant"] = tenant
    if doors is not None:
        body["doors"] = parse_doors(doors)
    wait_seconds = 0.0 if wait is None else parse_seconds(wait)
    if priority and not wait_seconds:
        raise InvalidInput("--priority is for the line that --wait stands in: give --wait too")
    session = access.open()
    try:
        value = session.request_attach(
            body,
            _ATTACH_TIMEOUT_SECONDS,
            wait_seconds,
            priority,
            lambda place: output.say(f"waiting for {type_name}: {place}"),
        )
    except KeyboardInterrupt as error:
        if wait_seconds:
            raise KeyboardInterrupt("interrupted; the place in the line is given up") from error
        raise KeyboardInterrupt(
            "interrupted; the host may attach it all the same: `ei list` shows it, `ei detach` detaches it"
        ) from error
    return Attached.read(value, session)


def list_accelerators(access: HostAccess) -> Listing:
    """List the attached accelerators.

    The operator's token shows all of them, a tenant's token its own, an accelerator's token that one.

    \b
    Examples:
      ei list
      ei list --json
    """
    session = access.open()
    values = session.request("GET", "/v1/accelerators")
    return Listing(Accelerator, Accelerator.read_all(values, session))


def show(accelerator: AcceleratorArgument, access: HostAccess) -> Accelerator:
    """Show one accelerator and the limits in force.

    \b
    Examples:
      ei show mybox
      ei show mybox --json
    """
    session = access.open()
    path = accelerator_path(session.find_id(accelerator))
    return Accelerator.read(session.request("GET", path), session)


def resize(accelerator: AcceleratorArgument, type_name: TypeOption, access: HostAccess) -> Resized:
    """Give an attached accelerator another type.

    It keeps its id, token, endpoints and models.

    \b
    Examples:
      ei resize mybox --type cpu.half
    """
    session = access.open()
    path = accelerator_path(session.find_id(accelerator))
    body = {"type": type_name}
    value = session.request("PATCH", path, body, timeout_seconds=_ATTACH_TIMEOUT_SECONDS)
    return Resized.read(value, session)


def detach(
    accelerator: AcceleratorArgument,
    access: HostAccess,
    drain: Annotated[
        str | None,
        typer.Option(
            "--drain", metavar="TIME", help="How long requests in flight may take to finish, such as 30s."
        ),
    ] = None,
) -> Sentence:
    """Detach an accelerator; its models are deleted.

    It finishes the requests in flight first.

    \b
    Examples:
      ei detach mybox
      ei detach mybox --drain 60s
    """
    drain_seconds = None if drain is None else parse_seconds(drain)
    session = access.open()
    accelerator_id = session.find_id(accelerator)
    session.detach(accelerator_id, drain_seconds=drain_seconds)
    return Sentence(f"detached {accelerator_id}", {"accelerator_id": accelerator_id, "detached": True})
