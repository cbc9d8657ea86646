"""`ei pool run-host`: the process of a pool's host, which a Ray actor starts. It is `ei host start`, and a member."""

from __future__ import annotations

import json
import logging
import signal
import sys
import threading
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any

import typer

from elastic_inference.cli._host_start import settings_of, start
from elastic_inference.cli._support import extra
from elastic_inference.cli.registration import as_command
from elastic_inference.cli.rendering import Sentence
from elastic_inference.errors import InvalidInput

logger = logging.getLogger(__name__)


def host_options(options: dict[str, Any], arguments: list[str]) -> dict[str, Any]:
    """Return the options of `ei host start` as these of a file and these arguments make them.

    Raises:
        InvalidInput: One of them is not what it should be.
    """
    app = typer.Typer(rich_markup_mode=None, add_completion=False)
    app.command("start")(as_command(start))
    command = typer.main.get_command(app)
    try:
        context = command.make_context("ei host start", list(arguments), default_map=dict(options))
    except Exception as error:
        if not hasattr(error, "format_message"):
            raise
        raise InvalidInput(error.format_message()) from error
    return context.params


def run_host(
    check: Annotated[
        bool, typer.Option("--check", help="Say only which version this is, and that it can be imported.")
    ] = False,
) -> Sentence | None:
    """Run a host of a pool, as its actor does on each node; its configuration is a line on standard input.

    \b
    Examples:
      ei pool run-host
      ei pool run-host --check --json
    """
    with extra("pool"):
        from elastic_inference.host.doors import server
        from elastic_inference.host.doors.app import Addition
        from elastic_inference.host.doors.middleware import RequestIdFilter
        from elastic_inference.host.host import Host
        from elastic_inference.host.priority import come_first
        from elastic_inference.pool.member_api import add_member_api
        from elastic_inference.pool.membership import Membership
        from elastic_inference.pool.process import main  # noqa: F401  # the pool service starts from here too
        from elastic_inference.pool.supervision import LOCK, watch_supervisor
        from elastic_inference.pool.versions import running
        from elastic_inference.protocol.tls import Tls
        from elastic_inference.telemetry import set_up_logging
    if check:
        return Sentence(f"version {running()}", asdict(running()))
    told = json.loads(sys.stdin.readline())
    come_first()
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # until it serves, it ends at once
    state_dir, address, tls = Path(told["state_dir"]), told["address"], told["tls"]
    set_up_logging(told["options"].get("log_level", "info"), [RequestIdFilter()])
    threading.Thread(
        target=watch_supervisor, args=(state_dir / LOCK,), name="supervision", daemon=True
    ).start()
    arguments = ["--state-dir", str(state_dir), "--listen", f"{address}:0", "--data-listen", address]
    if tls is not None:
        arguments += ["--tls-cert", tls["cert"], "--tls-key", tls["key"]]
    settings, listen = settings_of(host_options(told["options"], arguments))
    host = Host(replace(settings, fence=True))
    context = None if tls is None else Tls(tls["ca"]).client_context()
    member = Membership(host, told["pool_url"], told["join_token"], told["node_id"], context)
    member.prepare()
    try:
        server.serve(
            host,
            listen,
            on_ready=member.start,
            addition=Addition(lambda app, caller: add_member_api(app, caller, host, member.gate, context)),
        )
    finally:
        member.close()
    return None
