"""`ei attach`, `list`, `show`, `resize`, `detach`: accelerators of a host."""

from __future__ import annotations

import datetime
from typing import Annotated, Any

import typer

from elastic_inference.cli._hosts import (
    CaOption,
    HostOption,
    IdArgument,
    JsonOption,
    TokenOption,
    open_session,
    print_json,
    print_pairs,
    print_table,
)
from elastic_inference.client.host_session import accelerator_path
from elastic_inference.units import format_bytes, parse_seconds

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
        app.command(name)(command)


def attach(
    type_name: Annotated[str, typer.Option("--type", metavar="TYPE", help="One of `ei types`.")],
    name: Annotated[str | None, typer.Option("--name", help="For lists and reports.")] = None,
    lease: Annotated[
        str | None,
        typer.Option(
            "--lease", metavar="TIME", help="Detach when no heartbeat came for so long, such as 10min."
        ),
    ] = None,
    host: HostOption = None,
    token: TokenOption = None,
    tls_ca: CaOption = None,
    as_json: JsonOption = False,
) -> None:
    """Attach an accelerator and print its id, endpoints and token; it stays until it is detached.

    \b
    Examples:
      ei attach --type cpu.half
      ei attach --type eia1.medium --host https://gpu1:8500 --tls-ca ca.pem --json
      export EI_ACCELERATOR=$(ei attach --type cpu.half --json | jq -r .accelerator_id)
    """
    body: dict[str, Any] = {"type": type_name, "name": name}
    body["lease_seconds"] = None if lease is None else parse_seconds(lease)
    session = open_session(host, token, tls_ca)
    value = session.request("POST", "/v1/accelerators", body, timeout_seconds=_ATTACH_TIMEOUT_SECONDS)
    if as_json:
        print_json(value)
        return
    print(f"attached {value['accelerator_id']} ({value['type']}, {_price(value)})")
    for endpoint in value["endpoints"]:
        print(f"endpoint {endpoint}")
    print(f"token    {value['token']}  (told this once)")


def list_accelerators(
    host: HostOption = None, token: TokenOption = None, tls_ca: CaOption = None, as_json: JsonOption = False
) -> None:
    """List accelerators: all for the operator, one's own for an accelerator's token.

    \b
    Examples:
      ei list
      ei list --json
    """
    values = open_session(host, token, tls_ca).request("GET", "/v1/accelerators")
    if as_json:
        print_json(values)
        return
    rows = [
        (
            v["accelerator_id"],
            v["name"],
            v["type"],
            v["state"],
            f"{v['device']} {v['share'] * 100:.3g}%",
            _memory(v),
            None if v["utilisation_share"] is None else f"{v['utilisation_share'] * 100:.0f}%",
            v["num_restarts"],
            _time(v["created_at"]),
        )
        for v in values
    ]
    columns = ("ID", "NAME", "TYPE", "STATE", "SHARE", "MEMORY", "USED", "RESTARTS", "SINCE")
    print_table(columns, rows, "no accelerators are attached")


def show(
    accelerator_id: IdArgument,
    host: HostOption = None,
    token: TokenOption = None,
    tls_ca: CaOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show one accelerator: what it is, where it serves, what is in force.

    \b
    Examples:
      ei show eia-0123456789abcdef0123456789abcdef
    """
    value = open_session(host, token, tls_ca).request("GET", accelerator_path(accelerator_id))
    print_json(value) if as_json else _print_one(value)


def resize(
    accelerator_id: IdArgument,
    type_name: Annotated[str, typer.Option("--type", metavar="TYPE", help="One of `ei types`.")],
    host: HostOption = None,
    token: TokenOption = None,
    tls_ca: CaOption = None,
    as_json: JsonOption = False,
) -> None:
    """Give an attached accelerator another type; it keeps its id, token, endpoints and models.

    \b
    Examples:
      ei resize eia-0123456789abcdef0123456789abcdef --type cpu.whole
    """
    session = open_session(host, token, tls_ca)
    body = {"type": type_name}
    path = accelerator_path(accelerator_id)
    value = session.request("PATCH", path, body, timeout_seconds=_ATTACH_TIMEOUT_SECONDS)
    if as_json:
        print_json(value)
        return
    how = "its process was started again" if value["was_restarted"] else "under the running process"
    print(f"{value['accelerator_id']} is {value['type']} now ({_price(value)}); changed {how}")


def detach(
    accelerator_id: IdArgument,
    drain: Annotated[
        str | None,
        typer.Option("--drain", metavar="TIME", help="For what is in flight to finish, such as 30s."),
    ] = None,
    host: HostOption = None,
    token: TokenOption = None,
    tls_ca: CaOption = None,
    as_json: JsonOption = False,
) -> None:
    """Detach an accelerator, after it has finished what is in flight; its models go with it.

    \b
    Examples:
      ei detach eia-0123456789abcdef0123456789abcdef
      ei detach eia-0123456789abcdef0123456789abcdef --drain 60s
    """
    drain_seconds = None if drain is None else parse_seconds(drain)
    open_session(host, token, tls_ca).detach(accelerator_id, drain_seconds=drain_seconds)
    if as_json:
        print_json({"accelerator_id": accelerator_id, "detached": True})
    else:
        print(f"detached {accelerator_id}")


def _print_one(value: dict[str, Any]) -> None:
    lease = value["lease_left_seconds"]
    print_pairs(
        [
            ("id", value["accelerator_id"]),
            ("name", value["name"]),
            ("type", f"{value['type']}, {_price(value)}"),
            ("state", value["state"]),
            ("device", f"{value['device']}, {value['share'] * 100:.3g}%"),
            ("memory", _memory(value)),
            ("lease", "none" if lease is None else f"{lease:.0f} s left"),
            ("restarts", f"{value['num_restarts']} {value['last_exit']}".strip()),
            ("since", _time(value["created_at"])),
            *((f"limit of {name}", text) for name, text in value["limits"].items()),
            *(("endpoint", endpoint) for endpoint in value["endpoints"]),
        ]
    )


def _price(value: dict[str, Any]) -> str:
    return "no price" if value["usd_per_hour"] is None else f"{value['usd_per_hour']} USD/hour"


def _memory(value: dict[str, Any]) -> str:
    used = value["memory_used_bytes"]
    limit = format_bytes(value["memory_bytes"])
    return limit if used is None else f"{format_bytes(used)} of {limit}"


def _time(seconds: float) -> str:
    return datetime.datetime.fromtimestamp(seconds, datetime.timezone.utc).strftime("%Y-%m-%d %H:%M:%SZ")
