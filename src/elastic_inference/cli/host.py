"""`ei host`: start a host, ask for its status, make its certificates, change its token."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from elastic_inference.cli._hosts import (
    CaOption,
    HostOption,
    JsonOption,
    TokenOption,
    open_session,
    print_json,
    print_pairs,
)
from elastic_inference.cli._support import extra
from elastic_inference.errors import InvalidInput
from elastic_inference.settings import state_dir as default_state_dir
from elastic_inference.units import format_bytes, parse_seconds

if TYPE_CHECKING:
    from elastic_inference.host.processes.folders import TlsFiles

StateDirOption = Annotated[
    Path | None,
    typer.Option(
        "--state-dir", metavar="DIR", help="What the host keeps; default EI_STATE_DIR or the user's."
    ),
]


def register(app: typer.Typer) -> None:
    """Add `ei host ...`."""
    group = typer.Typer(
        help="Run a host and look after it.",
        no_args_is_help=True,
        rich_markup_mode=None,
        add_completion=False,
    )
    group.command("start")(start)
    group.command("status")(status)
    group.command("init-tls")(init_tls)
    group.command("drain")(drain)
    group.command("new-token")(new_token)
    app.add_typer(group, name="host")


def start(
    listen: Annotated[
        str, typer.Option("--listen", metavar="ADDRESS", help="HOST:PORT or unix:/path.")
    ] = "127.0.0.1:8500",
    device: Annotated[
        list[str] | None, typer.Option("--device", metavar="NAME", help="Give away only these; repeatable.")
    ] = None,
    types: Annotated[
        Path | None, typer.Option("--types", metavar="FILE", help="Your own types (TOML).")
    ] = None,
    data_listen: Annotated[
        str | None,
        typer.Option(
            "--data-listen", metavar="HOST", help="Address of accelerators' TCP endpoints; 'none': no TCP."
        ),
    ] = None,
    ports: Annotated[str, typer.Option("--ports", metavar="FIRST-LAST", help="Their ports.")] = "8600-9599",
    tls: Annotated[
        bool, typer.Option("--tls", help="Speak TLS; makes an authority if there is none.")
    ] = False,
    tls_cert: Annotated[Path | None, typer.Option("--tls-cert", metavar="FILE", help="Your own.")] = None,
    tls_key: Annotated[Path | None, typer.Option("--tls-key", metavar="FILE", help="Its key.")] = None,
    tls_client_ca: Annotated[
        Path | None,
        typer.Option(
            "--tls-client-ca", metavar="FILE", help="Ask clients for certificates of this authority."
        ),
    ] = None,
    state_dir: StateDirOption = None,
    database: Annotated[
        str | None, typer.Option("--database", metavar="URL", help="SQLAlchemy URL; default SQLite.")
    ] = None,
    limits: Annotated[
        str | None,
        typer.Option(
            "--limits",
            metavar="MEANS",
            help="'cgroup v2', 'cgroup v1' or 'rlimit and duty cycle'; default the best.",
        ),
    ] = None,
    uids: Annotated[
        str, typer.Option("--uids", metavar="FIRST-LAST", help="Users for accelerators, if root.")
    ] = "60600-61099",
    spares: Annotated[int, typer.Option("--spares", min=0, max=64, help="Processes started in advance.")] = 1,
    drain: Annotated[
        str, typer.Option("--drain", metavar="TIME", help="For what is in flight to finish.")
    ] = "10s",
    keep_running: Annotated[
        bool, typer.Option("--keep-running", help="Leave accelerators running when the host is ended.")
    ] = False,
    allow_unsafe_operations: Annotated[
        bool,
        typer.Option("--allow-unsafe-operations", help="Let graphs touch files, processes, the network."),
    ] = False,
    log_level: Annotated[str, typer.Option("--log-level", help="debug, info, warning or error.")] = "info",
    as_json: JsonOption = False,
) -> None:
    """Start a host here; it runs until it is ended. With --json it prints one line when it is ready.

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
        from elastic_inference.host.host import Host, HostSettings
        from elastic_inference.host.processes.isolation import parse_uids
        from elastic_inference.protocol.endpoint import Endpoint
        from elastic_inference.telemetry import set_up_logging
    if log_level not in ("debug", "info", "warning", "error"):
        raise InvalidInput(f"--log-level {log_level!r} is not one of debug, info, warning, error")
    directory = (state_dir or default_state_dir()).absolute()
    address = Endpoint.parse(listen)
    set_up_logging(log_level, [RequestIdFilter()])
    known = list_devices()  # the CPU comes first
    settings = HostSettings(
        state_dir=directory,
        devices=_choose(known, device),
        cpu=known[0],
        user_types=() if types is None else load_types(types),
        database_url=database,
        data_host=_data_host(data_listen, address.host),
        ports=_parse_ports(ports),
        tls=_tls_files(tls, tls_cert, tls_key, tls_client_ca, directory, address.host),
        limits_mode=limits,
        uids=parse_uids(uids),
        num_spares=spares,
        drain_seconds=parse_seconds(drain),
        allow_unsafe_operations=allow_unsafe_operations,
    )
    host = Host(settings)

    def on_ready(url: str) -> None:
        value = {"url": url, "pid": os.getpid(), "operator_token_file": str(host.folder.operator_token)}
        if as_json:
            import json

            print(json.dumps(value), flush=True)
        else:
            print(
                f"host {url} gives away {', '.join(d.name for d in settings.devices)}; limits by "
                f"{host.limits.name}; operator's token in {host.folder.operator_token}",
                flush=True,
            )

    server.serve(host, address, on_ready=on_ready, keep_running=keep_running)


def status(
    host: HostOption = None, token: TokenOption = None, tls_ca: CaOption = None, as_json: JsonOption = False
) -> None:
    """Show capacity, which limits are in force and by what means, and health.

    \b
    Examples:
      ei host status
      ei host status --host https://gpu1:8500 --tls-ca ca.pem --json
    """
    value = open_session(host, token, tls_ca).request("GET", "/v1/host")
    if as_json:
        print_json(value)
        return
    states = ", ".join(f"{count} {state}" for state, count in value["num_by_state"].items()) or "none"
    pairs: list[tuple[str, Any]] = [
        ("host", f"{value['host_id']}, version {value['version']}, process {value['pid']}"),
        ("state", "drains: nothing new is attached" if value["is_draining"] else "takes accelerators"),
        ("accelerators", f"{states}; {value['num_unhealthy']} do not answer"),
        ("limits by", value["limits"]["means"]),
        ("why", value["limits"]["reason"] or "the best that there is"),
        ("run as", value["users"]),
        ("TLS", "yes" if value["tls"] else "no"),
        ("database", value["database"]),
    ]
    for device in value["devices"]:
        left = f"{device['left_share'] * 100:.3g}% and {format_bytes(device['left_memory_bytes'])}"
        pairs.append((device["name"], f"{left} of {format_bytes(device['offered_memory_bytes'])} left"))
    print_pairs(pairs)


def init_tls(
    name: Annotated[
        list[str] | None,
        typer.Option("--name", help="DNS name or address by which clients reach the host; repeatable."),
    ] = None,
    client: Annotated[
        list[str] | None,
        typer.Option("--client", help="Also make a certificate for this client; repeatable."),
    ] = None,
    days: Annotated[int, typer.Option("--days", help="How long the certificates hold.")] = 365,
    state_dir: StateDirOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make an authority and the host's certificate, for `ei host start --tls`.

    \b
    Examples:
      ei host init-tls --name gpu1.example.org --name 10.0.0.5
      ei host init-tls --client alice
    """
    with extra("host"):
        from elastic_inference.host import tls
    directory = (state_dir or default_state_dir()).absolute() / "tls"
    ca, files = tls.init_tls(directory, name or (), days)
    clients = [tls.issue_client(directory, one, days) for one in client or ()]
    if as_json:
        print_json(
            {
                "ca": str(ca),
                "cert": str(files.cert),
                "key": str(files.key),
                "clients": [{"cert": str(cert), "key": str(key)} for cert, key in clients],
            }
        )
        return
    print(f"authority, for clients' --tls-ca:  {ca}")
    print(f"the host's certificate and key:    {files.cert}, {files.key}")
    for cert, key in clients:
        print(f"a client's certificate and key:    {cert}, {key}")


def drain(
    off: Annotated[bool, typer.Option("--off", help="Take new accelerators again.")] = False,
    host: HostOption = None,
    token: TokenOption = None,
    tls_ca: CaOption = None,
    as_json: JsonOption = False,
) -> None:
    """Refuse new accelerators from now on; attached ones are not touched.

    \b
    Examples:
      ei host drain
      ei host drain --off
    """
    value = open_session(host, token, tls_ca).request("POST", "/v1/host/drain", {"is_draining": not off})
    print_json(value) if as_json else print(f"the host is {value['status']}")


def new_token(
    host: HostOption = None, token: TokenOption = None, tls_ca: CaOption = None, as_json: JsonOption = False
) -> None:
    """Make a new operator's token; the old one is refused at once.

    \b
    Examples:
      ei host new-token
    """
    value = open_session(host, token, tls_ca).request("POST", "/v1/host/token")
    print_json(value) if as_json else print(value["token"])


def _choose(devices: Any, names: list[str] | None) -> tuple[Any, ...]:
    known = {device.name: device for device in devices}
    for name in names or ():
        if name not in known:
            raise InvalidInput(f"--device {name!r} is not one of {', '.join(known)}")
    return tuple(known[name] for name in dict.fromkeys(names or known))


def _data_host(given: str | None, listen_host: str) -> str | None:
    if given == "none":
        return None
    return given or listen_host or None


def _parse_ports(text: str) -> range:
    first, _, last = text.partition("-")
    if not (first.isdigit() and last.isdigit() and 1 <= int(first) <= int(last) <= 65535):
        raise InvalidInput(f"--ports {text!r} must be FIRST-LAST within 1-65535, such as 8600-9599")
    return range(int(first), int(last) + 1)


def _tls_files(
    wanted: bool, cert: Path | None, key: Path | None, client_ca: Path | None, directory: Path, name: str
) -> TlsFiles | None:
    """The user's own files where they are given, else those that `init-tls` made, or makes now."""
    if (cert is None) != (key is None):
        raise InvalidInput("--tls-cert and --tls-key must be given together")
    if not wanted and cert is None:
        if client_ca is not None:
            raise InvalidInput("--tls-client-ca needs --tls")
        return None
    with extra("host"):
        from elastic_inference.host import tls
        from elastic_inference.host.processes.folders import TlsFiles
    if cert is not None and key is not None:
        files = TlsFiles(cert.absolute(), key.absolute(), client_ca)
    else:
        made = directory / "tls"
        files = TlsFiles(made / tls.HOST_CERT, made / tls.HOST_KEY, client_ca)
        if not files.cert.exists():
            tls.init_tls(made, (name,) if name not in ("", "0.0.0.0", "::") else ())
    for path in (files.cert, files.key, files.client_ca):
        if path is not None and not path.is_file():
            raise InvalidInput(f"TLS file {path} is not there")
    return files
