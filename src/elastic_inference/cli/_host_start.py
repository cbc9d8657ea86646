"""`ei host start`, and what a file with its options would start."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from elastic_inference.cli._host_config import HostConfig, config_of, kinds_of, read_file
from elastic_inference.cli._host_options import (
    DEFAULT_CORE_PRICE,
    choose_devices,
    core_price,
    data_host,
    database_url,
    parse_ports,
    published_folder,
    tls_files,
)
from elastic_inference.cli._server_options import (
    LogLevelOption,
    RecordOption,
    TlsCertOption,
    TlsKeyOption,
    UnsafeOption,
    check_log_level,
)
from elastic_inference.cli._support import extra
from elastic_inference.cli.registration import as_command
from elastic_inference.cli.rendering import Block, Output
from elastic_inference.errors import InvalidInput
from elastic_inference.protocol.doors import DOORS, parse_doors
from elastic_inference.settings import state_dir as default_state_dir
from elastic_inference.units import parse_seconds

if TYPE_CHECKING:
    from elastic_inference.host.settings import HostSettings
    from elastic_inference.protocol.endpoint import Endpoint
logger = logging.getLogger(__name__)


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


def _take_file(context: typer.Context, path: Path | None) -> Path | None:
    """Let the values of a file be what options are without the command line."""
    if path is not None:
        context.default_map = read_file(path, kinds_of(start))
    return path


def start(
    output: Output,
    config: Annotated[
        Path | None,
        typer.Option(
            "--config",
            metavar="FILE",
            is_eager=True,
            callback=_take_file,
            help='TOML file with these options, such as listen = "0.0.0.0:8500"; one given here wins over it.',
        ),
    ] = None,
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
    tls_cert: TlsCertOption = None,
    tls_key: TlsKeyOption = None,
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
    cpu_price: Annotated[
        str,
        typer.Option(
            "--cpu-price",
            metavar="USD",
            help="What one core costs an hour, of which the types cpu.* take their share; 'none' for no price.",
        ),
    ] = str(DEFAULT_CORE_PRICE),
    keep_running: Annotated[
        bool, typer.Option("--keep-running", help="Leave accelerators running when the host ends.")
    ] = False,
    allow_unsafe_operations: UnsafeOption = False,
    doors: Annotated[
        str,
        typer.Option(
            "--doors",
            metavar="NAMES",
            help="Protocols that accelerators open: http, and others of grpc, tensorflow-serving, sagemaker. A type "
            "and an attach may open fewer.",
        ),
    ] = ",".join(DOORS),
    published: Annotated[
        Path | None,
        typer.Option(
            "--published",
            metavar="DIR",
            help="Models for all accelerators, as `ei model publish` writes them; they read it and never write.",
        ),
    ] = None,
    record_requests: RecordOption = 0,
    log_level: LogLevelOption = "info",
) -> None:
    """Start a host on this machine.

    It prints one line when it is ready, and runs until Ctrl-C, SIGTERM or `ei host stop`.

    \b
    Examples:
      ei host start
      ei host start --listen 0.0.0.0:8500 --tls --types types.toml
      ei host start --record-requests 36
      ei host start --listen unix:/run/ei.sock --data-listen none
      ei host start --config /etc/elastic-inference/host.toml
    """
    options = dict(locals())  # all of them, as `settings_of` takes them
    with extra("host"):
        from elastic_inference.host.priority import come_first

        comes_first = come_first()  # before the imports, most of a start's work
        from elastic_inference.host.doors import server
        from elastic_inference.host.doors.middleware import RequestIdFilter
        from elastic_inference.host.host import Host
        from elastic_inference.telemetry import set_up_logging
    # Until it serves, SIGTERM ends it at once: its next start finds what was half done.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    check_log_level(log_level)
    set_up_logging(log_level, [RequestIdFilter()])
    if not comes_first and os.geteuid() == 0:
        logger.warning(
            "the host runs at the priority of its accelerators: without CAP_SYS_NICE it answers late when they are busy"
        )
    settings, address = settings_of(options)
    host = Host(settings)

    def on_ready(url: str) -> None:
        names = [each.name for each in settings.devices]
        output.show_at_once(Started(url, os.getpid(), host.folder.operator_token, names, host.limits.name))

    server.serve(host, address, on_ready=on_ready, keep_running=keep_running)


def settings_of(options: Mapping[str, Any], is_trial: bool = False) -> tuple[HostSettings, Endpoint]:
    """Make a host's settings of the options of its start.

    Args:
        is_trial: Whether they are only looked at: then nothing is measured and no certificate is made.

    Raises:
        InvalidInput: An option, or a file that one names, is not what it should be.
    """
    with extra("host"):
        from elastic_inference.host.accounts.catalogue import load_types
        from elastic_inference.host.devices import list_devices
        from elastic_inference.host.processes.isolation import parse_uids
        from elastic_inference.host.settings import HostSettings
        from elastic_inference.protocol.endpoint import Endpoint
    directory = (options["state_dir"] or default_state_dir()).absolute()
    address = Endpoint.parse(options["listen"])
    known = list_devices(measure=not is_trial)  # the CPU comes first
    settings = HostSettings(
        state_dir=directory,
        devices=choose_devices(known, options["device"]),
        cpu=known[0],
        user_types=() if options["types"] is None else load_types(options["types"]),
        database_url=database_url(options["database"], options["database_password_file"]),
        data_host=data_host(options["data_listen"], address.host),
        ports=parse_ports(options["ports"]),
        tls=tls_files(
            options["tls"],
            options["tls_cert"],
            options["tls_key"],
            options["tls_client_ca"],
            directory,
            address.host,
            makes_absent=not is_trial,
        ),
        limits_mode=options["limits"],
        uids=parse_uids(options["uids"]),
        num_spares=options["spares"],
        pass_on=tuple(options["pass_on"] or ()),
        drain_seconds=parse_seconds(options["drain"]),
        turn_limit_seconds=parse_seconds(options["turn_limit"]),
        allow_unsafe_operations=options["allow_unsafe_operations"],
        published=published_folder(options["published"]),
        doors=parse_doors(options["doors"]),
        gpu_sharing=options["gpu_sharing"],
        cpu_sharing=options["cpu_sharing"],
        core_price=core_price(options["cpu_price"]),
        record_requests=options["record_requests"],
    )
    return settings, address


def read_start(arguments: Sequence[str]) -> HostConfig:
    """Check the arguments of a start, and return all options that would be in force.

    Raises:
        InvalidInput: An option, or a file that one names, is not what it should be.
    """
    app = typer.Typer(rich_markup_mode=None, add_completion=False)
    app.command("start")(as_command(start))
    command = typer.main.get_command(app)
    try:
        context = command.make_context("ei host start", list(arguments))
    except Exception as error:
        if not hasattr(error, "format_message"):
            raise
        raise InvalidInput(error.format_message()) from error
    check_log_level(context.params["log_level"], "log_level")
    settings_of(context.params, is_trial=True)
    return config_of(context, kinds_of(start))
