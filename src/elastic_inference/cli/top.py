"""`ei top`: what the host's page shows, in a terminal."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import typer

from elastic_inference.cli._support import extra
from elastic_inference.cli.answers import Answer, bytes_text, of_limit, percent_text
from elastic_inference.cli.host_access import HostAccess
from elastic_inference.cli.registration import add_command
from elastic_inference.cli.rendering import Block, Column, Output, Pairs, Table, to_text
from elastic_inference.client.host_session import HostSession
from elastic_inference.errors import ConnectError, ConnectionLost, DeadlineExceeded, ProtocolError
from elastic_inference.units import format_bytes

_MIB = 1 << 20
TENANT_COLUMNS: Sequence[Column] = (
    Column("TENANT", lambda t: t["name"]),
    Column("ACCELERATORS", lambda t: of_limit(t["num_accelerators"], t["max_accelerators"]), ""),
    Column("WAITING", lambda t: t["num_waiting"], "d"),
    Column("SHARE %", lambda t: of_limit(percent_text(t["share"]), percent_text(t["max_share"])), ""),
    Column(
        "MEMORY", lambda t: of_limit(bytes_text(t["memory_bytes"]), bytes_text(t["max_memory_bytes"])), ""
    ),
    Column("REQ/S", lambda t: of_limit(_figure(t["requests_now"]), _figure(t["requests_per_second"])), ""),
    Column(
        "USD THIS MONTH", lambda t: of_limit(t["spent_usd"], (t["budget"] or {}).get("usd_per_month")), ""
    ),
    Column("BUDGET", lambda t: t["budget"] and t["budget"]["level"]),
)
_NUM_EVENTS = 8
_NUM_WAITING = 5
_EVERY_SECONDS = 1.0


@dataclass(frozen=True)
class Board(Answer):
    """What a host saw last; the fields are those of `GET /v1/board`."""

    at: float
    host: Mapping[str, Any]
    devices: Sequence[Mapping[str, Any]]
    accelerators: Sequence[Mapping[str, Any]]
    events: Sequence[Mapping[str, Any]]
    tenants: Sequence[Mapping[str, Any]]
    waiting: Sequence[Mapping[str, Any]]

    COLUMNS: ClassVar[Sequence[Column]] = (
        Column("NAME", lambda a: a["name"]),
        Column("TENANT", lambda a: a["tenant"] or None),
        Column("TYPE", lambda a: a["type"]),
        Column("STATE", lambda a: _state(a)),
        Column("DEVICE", lambda a: a["device"]),
        Column("BUSY %", lambda a: _percent(a["utilisation_share"]), ".0f"),
        Column("HELD BACK %", lambda a: _percent(a["throttled_share"]), ".0f"),
        Column("MEMORY MiB", lambda a: a["memory_bytes"] / _MIB, ".0f"),
        Column("OF", lambda a: a["memory_limit_bytes"] / _MIB, ".0f"),
        Column("QUEUE", lambda a: a["num_waiting"], "d"),
        Column("REQ/S", lambda a: a["requests_per_second"], ".3g"),
        Column("p50 ms", lambda a: _latency(a["p50"], "total"), ".3g"),
        Column("p99 ms", lambda a: _latency(a["p99"], "total"), ".3g"),
        Column("QUEUE+SERVICE+WIRE", lambda a: _split(a["p99"])),
        Column("MODELS", lambda a: _models(a) or None),
        Column("RESTARTS", lambda a: a["num_restarts"], "d"),
        Column("USD", lambda a: a["cost_usd"], ""),
        Column("USD/100K", lambda a: a["usd_per_100k"], ""),
    )

    def blocks(self) -> Iterable[Block]:
        """Show the host, its devices, its tenants, who waits, its accelerators and the last events."""
        host = self.host
        about = f"{host.get('host_id') or 'your accelerators'}, version {host['version']}"
        moment = time.strftime("%H:%M:%S", time.localtime(self.at))
        draining = ", draining" if host["is_draining"] else ""
        yield f"{about}{draining}: as of {moment}" + "".join(
            f"\nwarning: {text}" for text in host["warnings"]
        )
        if self.devices:
            yield Pairs([(device["name"], _device(device)) for device in self.devices])
        if self.tenants:
            yield ""
            yield Table(TENANT_COLUMNS, [self._with_requests(tenant) for tenant in self.tenants])
            yield from (f"warning: {tenant['warning']}" for tenant in self.tenants if tenant["warning"])
        if self.waiting:
            yield f"\nin line for capacity: {'; '.join(map(_waiter, self.waiting[:_NUM_WAITING]))}" + (
                f"; and {len(self.waiting) - _NUM_WAITING} more" if len(self.waiting) > _NUM_WAITING else ""
            )
        yield ""
        yield Table(self.COLUMNS, self.accelerators, "no accelerators are attached")
        if self.events:
            yield ""
            yield "\n".join(map(_event, self.events[-_NUM_EVENTS:]))

    def _with_requests(self, tenant: Mapping[str, Any]) -> dict[str, Any]:
        """Add to a tenant's row how many requests a second all its accelerators answer."""
        mine = (a["requests_per_second"] or 0.0 for a in self.accelerators if a["tenant"] == tenant["name"])
        return {**tenant, "requests_now": sum(mine)}


def register(app: typer.Typer) -> None:
    """Add the command."""
    add_command(app, "top", top)


def top(
    access: HostAccess,
    output: Output,
    once: Annotated[bool, typer.Option("--once", help="Show it once and end.")] = False,
) -> Board | None:
    """Show devices, tenants, accelerators and events of a host as they are, each second anew.

    It is what the page at the host's URL shows. In a pipe, and with --json, it is shown once. Ctrl-C ends it.

    \b
    Examples:
      ei top
      ei top --once
      ei top --json
    """
    session = access.open()
    board = _read(session)
    if once or output.as_json or not sys.stdout.isatty():
        return board
    _watch(session, board)
    return None


def _read(session: HostSession) -> Board:
    board = Board.read(session.request("GET", "/v1/board"), session)
    if not isinstance(board.host, dict) or "version" not in board.host:
        raise ProtocolError(f"{session.url} answered with a board that this version does not know")
    return board


def _watch(session: HostSession, board: Board) -> None:
    with extra("host"):
        from rich.live import Live
        from rich.text import Text
    heard_at = time.monotonic()
    with Live(Text.from_ansi(to_text(board, True)), screen=True, auto_refresh=False) as live:
        while True:
            time.sleep(_EVERY_SECONDS)
            silence = ""
            try:
                board = _read(session)
                heard_at = time.monotonic()
            except (ConnectError, ConnectionLost, DeadlineExceeded) as error:
                silence = f"no answer for {time.monotonic() - heard_at:.0f} s: {error}\n"
            live.update(Text.from_ansi(silence + to_text(board, True)), refresh=True)


def _state(row: Mapping[str, Any]) -> str:
    is_silent = row["state"] == "ready" and not row["is_healthy"]
    return "does not answer" if is_silent else str(row["state"])


def _percent(share: float | None) -> float | None:
    return None if share is None else share * 100


def _latency(parts: Mapping[str, float] | None, name: str) -> float | None:
    return None if parts is None else parts[f"{name}_ms"]


def _split(parts: Mapping[str, float] | None) -> str | None:
    if parts is None:
        return None
    return "+".join(f"{parts[f'{name}_ms']:.3g}" for name in ("queue", "service", "wire"))


def _models(row: Mapping[str, Any]) -> str:
    return ", ".join(
        model["state"].lower() if model["engine"] is None else f"{model['engine']} {model['precision']}"
        for model in row["models"]
    )


def _device(device: Mapping[str, Any]) -> str:
    used = device["used_memory_bytes"]
    text = (
        f"share {device['granted_share']:.0%} granted, {device['used_share']:.0%} used; memory "
        f"{format_bytes(device['granted_memory_bytes'])} of {format_bytes(device['offered_memory_bytes'])} granted"
    )
    text += "" if used is None else f", {format_bytes(used)} used"
    wait = device["lease_wait_seconds"]
    return text if wait is None else f"{text}; waited {wait:g} s for the lease"


def _figure(number: float | None) -> str | None:
    return None if number is None else f"{number:.3g}"


def _waiter(waiter: Mapping[str, Any]) -> str:
    whose = f" for {waiter['tenant']}" if waiter["tenant"] else ""
    return f"{waiter['place']}. {waiter['type']}{whose}"


def _event(event: Mapping[str, Any]) -> str:
    moment = time.strftime("%H:%M:%S", time.localtime(event["at"]))
    return " ".join(f"{moment}  {event['kind']:<15} {event['name']}  {event['text']}".splitlines())
