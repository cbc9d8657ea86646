"""`ei host`: run a host, its options as a file and as a service, its status, backups, certificates, token."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from elastic_inference.cli._host_backup import backup, restore
from elastic_inference.cli._host_config import DEFAULT_PATH, HostConfig
from elastic_inference.cli._host_service import UNIT_DIR, unit_text, write_unit
from elastic_inference.cli._host_start import StateDirOption, read_start, start
from elastic_inference.cli._support import extra
from elastic_inference.cli.answers import HostStatus
from elastic_inference.cli.host_access import HostAccess
from elastic_inference.cli.registration import add_command
from elastic_inference.cli.rendering import Block, Pairs, Sentence
from elastic_inference.settings import state_dir as default_state_dir


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
        ("stop", stop),
        ("check", check),
        ("config", config),
        ("install-service", install_service),
        ("backup", backup),
        ("restore", restore),
        ("init-tls", init_tls),
        ("drain", drain),
        ("new-token", new_token),
    ):
        add_command(group, name, command)
    app.add_typer(group, name="host")


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


def stop(
    access: HostAccess,
    keep_running: Annotated[
        bool, typer.Option("--keep-running", help="Leave its accelerators running, for its next start.")
    ] = False,
) -> Sentence:
    """Stop a host in order, and wait for its end where it is on this machine.

    Its accelerators finish the requests in flight, end, and are started again at the host's next start.

    \b
    Examples:
      ei host stop
      ei host stop --keep-running
    """
    session = access.open()
    value = session.request("POST", "/v1/host/stop", {"keep_running": keep_running})
    has_ended = session.endpoint.is_local() and _wait_for_end(value["process"])
    text = "the host has ended" if has_ended else "the host ends"
    return Sentence(f"{text}; its accelerators {'run on' if keep_running else 'end with it'}", value)


def _wait_for_end(process: dict[str, Any]) -> bool:
    """Wait until a process of this machine has ended; False where it is another machine's, such as a container's."""
    from elastic_inference.limits.processes import ProcessIdentity, boot_id, open_pidfd, wait_readable

    identity = ProcessIdentity(**process)
    pidfd = open_pidfd(identity)
    if pidfd is None:
        return identity.boot_id == boot_id()
    try:
        wait_readable((pidfd,), None)
    finally:
        os.close(pidfd)
    return True


def check(
    file: Annotated[
        Path, typer.Argument(metavar="[FILE]", help="The file that `ei host start --config` is to read.")
    ] = DEFAULT_PATH,
) -> Sentence:
    """Check a file with the options of a host, and the files that it names, without starting one.

    \b
    Examples:
      ei host check
      ei host check host.toml
    """
    read_start(["--config", str(file)])
    return Sentence(
        f"{file} is fine; `ei host start --config {file}` starts it", {"file": file, "is_fine": True}
    )


def config(
    file: Annotated[
        Path | None, typer.Argument(metavar="[FILE]", help="Take options from this file first.")
    ] = None,
) -> HostConfig:
    """Print all options of a host as a file: those of a file, and the defaults of the others.

    \b
    Examples:
      ei host config > host.toml
      ei host config /etc/elastic-inference/host.toml
      ei host config --json
    """
    return read_start([] if file is None else ["--config", str(file)])


def install_service(
    file: Annotated[
        Path, typer.Argument(metavar="[FILE]", help="The options of the host that it starts.")
    ] = DEFAULT_PATH,
    unit_dir: Annotated[
        Path, typer.Option("--unit-dir", metavar="DIR", help="Where the unit is written.")
    ] = UNIT_DIR,
    show: Annotated[bool, typer.Option("--print", help="Print the unit and write nothing.")] = False,
) -> Sentence:
    """Write a unit of systemd that starts a host with the options of a file.

    The file is checked first. systemd does not see the unit before `systemctl daemon-reload`.

    \b
    Examples:
      ei host install-service
      ei host install-service host.toml --print
    """
    read_start(["--config", str(file)])
    text = unit_text(file)
    if show:
        return Sentence(text.rstrip(), {"unit": text})
    path = write_unit(text, unit_dir)
    return Sentence(
        f"wrote {path}; start it by: systemctl daemon-reload && systemctl enable --now {path.name}",
        {"path": path},
    )


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
