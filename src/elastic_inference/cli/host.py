"""`ei host`: start a host, ask for its status, make its certificates, change its token."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from elastic_inference.cli._host_options import (
    choose_devices,
    data_host,
    database_url,
    parse_ports,
    published_folder,
    tls_files,
)
from elastic_inference.cli._support import extra
from elastic_inference.cli.answers import HostStatus
from elastic_inference.cli.host_access import HostAccess
from elastic_inference.cli.registration import add_command
from elastic_inference.cli.rendering import Block, Output, Pairs, Sentence
from elastic_inference.errors import InvalidInput
from elastic_inference.settings import state_dir as default_state_dir
from elastic_inference.units import parse_seconds

StateDirOption = Annotated[
    Path | None,
    typer.Option(
        "--state-dir",
        metavar="DIR",
        help="Where the host keeps its data; default EI_STATE_DIR, else the user's state directory.",
    ),
]


@dataclass(frozen=True)
class Started:
    """A host that answers.

    Attributes:
        operator_token_file: Where the operator's token lies.
    """

    url: str
    pid: int
    operator_token_file: Path
    devices: Sequence[str]
    limits: str

    def blocks(self) -> Iterable[Block]:
        """Show it in one line."""
        yield (
            f"host {self.url} offers {', '.join(self.devices)}; limits by {self.limits}; the operator's token is in "
            f"{self.operator_token_file}"
        )


@dataclass(frozen=True)
class ClientFiles:
    """A client's certificate and key."""

    cert: Path
    key: Path


@dataclass(frozen=True)
class MadeTls:
    """What `ei host init-tls` made."""

    ca: Path
    cert: Path
    key: Path
    clients: Sequence[ClientFiles]

    def blocks(self) -> Iterable[Block]:
        """Show which file is for whom."""
        yield Pairs(
            [
                ("authority, for clients' --tls-ca", self.ca),
                ("the host's certificate and key", f"{self.cert}, {self.key}"),
                *(("a client's certificate and key", f"{c.cert}, {c.key}") for c in self.clients),
            ]
        )


def register(app: typer.Typer) -> None:
    """Add `ei host ...`."""
    group = typer.Typer(
        help="Run and operate a host.",
        no_args_is_help=True,
        rich_markup_mode=None,
        add_completion=False,
    )
    for name, command in (
        ("start", start),
        ("status", status),
        ("init-tls", init_tls),
        ("drain", drain),
        ("new-token", new_token),
    ):
        add_command(group, name, command)
    app.add_typer(group, name="host")


def start(
    output: Output,
    listen: Annotated[
        str, typer.Option("--listen", metavar="ADDRESS", help="HOST:PORT or unix:/path.")
    ] = "127.0.0.1:8500",
    device: Annotated[
        list[str] | None, typer.Option("--device", metavar="NAME", help="Offer only this device; repeatable.")
    ] = None,
    types: Annotated[
        Path | None, typer.Option("--types", metavar="FILE", help="Your own accelerator types (TOML).")
    ] = None,
    data_listen: Annotated[
        str | None,
        typer.Option(
            "--data-listen",
            metavar="HOST",
            help="Address of the accelerators' TCP endpoints; 'none' for Unix sockets alone.",
        ),
    ] = None,
    ports: Annotated[
        str, typer.Option("--ports", metavar="FIRST-LAST", help="Ports of these endpoints.")
    ] = "8600-9599",
    tls: Annotated[
        bool, typer.Option("--tls", help="Serve TLS; makes an authority and a certificate if there is none.")
    ] = False,
    tls_cert: Annotated[
        Path | None, typer.Option("--tls-cert", metavar="FILE", help="Your own certificate.")
    ] = None,
    tls_key: Annotated[Path | None, typer.Option("--tls-key", metavar="FILE", help="Its key.")] = None,
    tls_client_ca: Annotated[
        Path | None,
        typer.Option(
            "--tls-client-ca", metavar="FILE", help="Require client certificates that this authority signed."
        ),
    ] = None,
    state_dir: StateDirOption = None,
    database: Annotated[
        str | None,
        typer.Option(
            "--database",
            metavar="URL",
            help="SQLAlchemy URL; default EI_DATABASE, else SQLite in the state directory. Give its password by "
            "EI_DATABASE_PASSWORD or a file: other users of the machine see arguments.",
        ),
    ] = None,
    database_password_file: Annotated[
        Path | None,
        typer.Option(
            "--database-password-file",
            metavar="FILE",
            help="The database's password is the first line of it.",
        ),
    ] = None,
    limits: Annotated[
        str | None,
        typer.Option(
            "--limits",
            metavar="MEANS",
            help="'cgroup v2', 'cgroup v1' or 'rlimit and duty cycle'; default the strongest that works.",
        ),
    ] = None,
    gpu_sharing: Annotated[
        str,
        typer.Option(
            "--gpu-sharing",
            metavar="MEANS",
            help="How accelerators share a GPU: 'lease' (by turns), 'mps' (NVIDIA's daemon, which must run) or 'mig' "
            "(an instance each).",
        ),
    ] = "lease",
    cpu_sharing: Annotated[
        str,
        typer.Option("--cpu-sharing", metavar="MEANS", help="How they share the CPU: 'limits' or 'lease'."),
    ] = "limits",
    uids: Annotated[
        str,
        typer.Option(
            "--uids", metavar="FIRST-LAST", help="Users that accelerators run as, if the host is root."
        ),
    ] = "60600-61099",
    spares: Annotated[
        int, typer.Option("--spares", min=0, max=64, help="Processes to start in advance.")
    ] = 1,
    drain: Annotated[
        str,
        typer.Option("--drain", metavar="TIME", help="How long requests in flight may take to finish."),
    ] = "10s",
    turn_limit: Annotated[
        str,
        typer.Option(
            "--turn-limit",
            metavar="TIME",
            help="How long one request may run before the host restarts its accelerator.",
        ),
    ] = "10min",
    pass_on: Annotated[
        list[str] | None,
        typer.Option(
            "--pass-on",
            metavar="NAME",
            help="Variable of the host's environment for accelerators, such as 'OTEL_*'; repeatable.",
        ),
    ] = None,
    keep_running: Annotated[
        bool, typer.Option("--keep-running", help="Leave accelerators running when the host ends.")
    ] = False,
    allow_unsafe_operations: Annotated[
        bool,
        typer.Option(
            "--allow-unsafe-operations", help="Allow graphs that use files, processes or the network."
        ),
    ] = False,
    published: Annotated[
        Path | None,
        typer.Option(
            "--published",
            metavar="DIR",
            help="Models for all accelerators, as `ei model publish` writes them; they read it and never write.",
        ),
    ] = None,
    log_level: Annotated[str, typer.Option("--log-level", help="debug, info, warning or error.")] = "info",
) -> None:
    """Start a host on this machine.

    It prints one line when it is ready, and runs until Ctrl-C or SIGTERM.

    \b
    Examples:
      ei host start
      ei host start --listen 0.0.0.0:8500 --tls --types types.toml
      ei host start --listen unix:/run/ei.sock --data-listen none
    """
    with extra("host"):
        from elastic_inference.host.priority import come_first

        come_first()  # before the imports, most of a start's work
        from elastic_inference.host.accounts.catalogue import load_types
        from elastic_inference.host.devices import list_devices
        from elastic_inference.host.doors import server
        from elastic_inference.host.doors.middleware import RequestIdFilter
        from elastic_inference.host.host import Host
        from elastic_inference.host.processes.isolation import parse_uids
        from elastic_inference.host.settings import HostSettings
        from elastic_inference.protocol.endpoint import Endpoint
        from elastic_inference.telemetry import set_up_logging
    # Until it serves, SIGTERM ends it at once: its next start finds what was half done.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if log_level not in ("debug", "info", "warning", "error"):
        raise InvalidInput(f"--log-level {log_level!r} is not one of debug, info, warning, error")
    directory = (state_dir or default_state_dir()).absolute()
    address = Endpoint.parse(listen)
    set_up_logging(log_level, [RequestIdFilter()])
    known = list_devices()  # the CPU comes first
    settings = HostSettings(
        state_dir=directory,
        devices=choose_devices(known, device),
        cpu=known[0],
        user_types=() if types is None else load_types(types),
        database_url=database_url(database, database_password_file),
        data_host=data_host(data_listen, address.host),
        ports=parse_ports(ports),
        tls=tls_files(tls, tls_cert, tls_key, tls_client_ca, directory, address.host),
        limits_mode=limits,
        uids=parse_uids(uids),
        num_spares=spares,
        pass_on=tuple(pass_on or ()),
        drain_seconds=parse_seconds(drain),
        turn_limit_seconds=parse_seconds(turn_limit),
        allow_unsafe_operations=allow_unsafe_operations,
        published=published_folder(published),
        gpu_sharing=gpu_sharing,
        cpu_sharing=cpu_sharing,
    )
    host = Host(settings)

    def on_ready(url: str) -> None:
        names = [each.name for each in settings.devices]
        output.show_at_once(Started(url, os.getpid(), host.folder.operator_token, names, host.limits.name))

    server.serve(host, address, on_ready=on_ready, keep_running=keep_running)


def status(access: HostAccess) -> HostStatus:
    """Show a host's capacity, limits in force and health.

    \b
    Examples:
      ei host status
      ei host status --json
      ei host status --host https://gpu1:8500 --tls-ca ca.pem
    """
    session = access.open()
    return HostStatus.read(session.request("GET", "/v1/host"), session)


def init_tls(
    name: Annotated[
        list[str] | None,
        typer.Option("--name", help="DNS name or address at which clients reach the host; repeatable."),
    ] = None,
    client: Annotated[
        list[str] | None,
        typer.Option("--client", help="Also make a certificate for this client; repeatable."),
    ] = None,
    days: Annotated[int, typer.Option("--days", help="How long the certificates are valid.")] = 365,
    state_dir: StateDirOption = None,
) -> MadeTls:
    """Make an authority and certificates for TLS.

    `ei host start --tls` uses them. A second call keeps the authority.

    \b
    Examples:
      ei host init-tls --name gpu1.example.org --name 10.0.0.5
      ei host init-tls --client alice
    """
    with extra("host"):
        from elastic_inference.host import tls
    directory = (state_dir or default_state_dir()).absolute() / "tls"
    ca, files = tls.init_tls(directory, name or (), days)
    clients = [ClientFiles(*tls.issue_client(directory, one, days)) for one in client or ()]
    return MadeTls(ca, files.cert, files.key, clients)


def drain(
    access: HostAccess,
    off: Annotated[bool, typer.Option("--off", help="Accept new accelerators again.")] = False,
) -> Sentence:
    """Refuse new accelerators; attached ones keep running.

    \b
    Examples:
      ei host drain
      ei host drain --off
    """
    value = access.open().request("POST", "/v1/host/drain", {"is_draining": not off})
    return Sentence(f"the host is {value['status']}", value)


def new_token(access: HostAccess) -> Sentence:
    """Make a new operator's token; the old one ends at once.

    \b
    Examples:
      ei host new-token
    """
    value = access.open().request("POST", "/v1/host/token")
    return Sentence(value["token"], value)
