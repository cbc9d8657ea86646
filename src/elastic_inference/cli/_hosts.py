"""What the commands that speak to a host share: its address, the token, tables and JSON."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from elastic_inference import settings
from elastic_inference.cli._support import extra
from elastic_inference.client.host_session import HostSession
from elastic_inference.protocol.tls import Tls

_PIPED_WIDTH = 200  # a table that is read by a program or kept in a file must not be cut at 80 columns

HostOption = Annotated[
    str | None,
    typer.Option("--host", metavar="URL", help="The host; default EI_HOST, else http://127.0.0.1:8500."),
]
TokenOption = Annotated[
    str | None,
    typer.Option(
        "--token",
        metavar="TOKEN",
        help="Default EI_TOKEN, else the operator's token of a host on this machine. Arguments are seen by "
        "other users of the machine; the variable is not.",
    ),
]
CaOption = Annotated[
    str | None,
    typer.Option("--tls-ca", metavar="FILE", help="Authority of the host's certificate; default EI_TLS_CA."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
IdArgument = Annotated[str, typer.Argument(metavar="ID", help="eia- and 32 hexadecimal digits.")]


def open_session(host: str | None, token: str | None, tls_ca: str | None) -> HostSession:
    """A session with what options and environment say."""
    session = HostSession(host, token, tls=None if tls_ca is None else Tls(ca=tls_ca))
    if session.token is None and session.endpoint.is_local():
        session.token = _local_operator_token()
    return session


def _local_operator_token() -> str | None:
    try:
        return (settings.state_dir() / "operator.token").read_text().strip()
    except OSError:
        return None


def names_host(host: str | None) -> bool:
    """Whether options or environment name a host."""
    return bool(host or settings.HOST.get())


def print_json(value: Any) -> None:
    """Print JSON, readable."""
    print(json.dumps(value, indent=2))


def print_table(columns: Sequence[str], rows: Sequence[Sequence[Any]], empty: str) -> None:
    """Print a table; None is shown as a dash, and no rows as the text `empty`."""
    if not rows:
        print(empty)
        return
    with extra("host"):
        from rich.console import Console
        from rich.table import Table
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        is_number = all(isinstance(row[columns.index(column)], int | float | None) for row in rows)
        table.add_column(column, justify="right" if is_number else "left", overflow="fold")
    for row in rows:
        table.add_row(*("-" if value is None else str(value) for value in row))
    Console(width=None if sys.stdout.isatty() else _PIPED_WIDTH, highlight=False, markup=False).print(table)


def print_pairs(pairs: Sequence[tuple[str, Any]]) -> None:
    """Print `name  value` lines, the values below each other."""
    width = max(len(name) for name, _ in pairs)
    for name, value in pairs:
        print(f"{name:<{width}}  {'-' if value is None else value}")
