"""Attaching while what answers restarts, over real sockets: asked again by the same key, for a bounded time."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from elastic_inference.client.host_session import HostSession
from elastic_inference.client.waiting import ask_through_restarts
from elastic_inference.deadline import Deadline
from elastic_inference.errors import CapacityExceeded, ConnectError, ConnectionLost
from elastic_inference.protocol.endpoint import Endpoint
from elastic_inference.protocol.requests import IDEMPOTENCY_KEY

ATTACHED = {
    "accelerator_id": f"eia-{0:032x}",
    "endpoints": ["tcp:127.0.0.1:1"],
    "token": "t",
    "type": "tiny",
    "name": "n",
    "lease_seconds": None,
    "limits": {},
}


class BreakingServer(ThreadingHTTPServer):
    """Breaks the connection after it has read the first requests, as a process that is killed then does."""

    def __init__(self, address: tuple[str, int], num_broken: int) -> None:
        super().__init__(address, _Handler)
        self.num_broken = num_broken
        self.asked: list[dict[str, Any]] = []
        self.keys: list[str] = []


class _Handler(BaseHTTPRequestHandler):
    server: BreakingServer

    def do_POST(self) -> None:
        self.server.asked.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.server.keys.append(self.headers[IDEMPOTENCY_KEY])
        if len(self.server.keys) <= self.server.num_broken:
            return
        content = json.dumps(ATTACHED).encode()
        self.send_response(201)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def port() -> int:
    with Endpoint.parse("tcp:127.0.0.1:0").listen() as sock:
        return int(sock.getsockname()[1])


@pytest.fixture
def serve() -> Iterator[Any]:
    servers = []

    def start(port: int, num_broken: int) -> BreakingServer:
        server = BreakingServer(("127.0.0.1", port), num_broken)
        servers.append(server)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return server

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def test_an_attach_whose_answer_was_lost_is_repeated_by_the_same_key(serve: Any) -> None:
    server = serve(0, 2)
    session = HostSession(f"http://127.0.0.1:{server.server_port}", "x")
    assert session.attach("tiny").accelerator_id == ATTACHED["accelerator_id"]
    session.attach("tiny")
    keys = server.keys
    assert len(keys) == 4
    assert len(set(keys[:3])) == 1
    assert keys[3] != keys[0]  # another attach


def test_an_attach_waits_out_refused_connections(serve: Any, port: int) -> None:
    timer = threading.Timer(0.5, lambda: serve(port, 0))
    timer.start()
    try:
        assert HostSession(f"http://127.0.0.1:{port}", "x").attach("tiny").name == "n"
    finally:
        timer.join(60)


def test_it_gives_up_within_its_time(port: int) -> None:
    session = HostSession(f"http://127.0.0.1:{port}", "x")
    with pytest.raises(ConnectError, match="refused"):
        session.attach("tiny", timeout_seconds=0.5)


def test_what_a_restart_does_not_explain_is_raised_at_once(port: int) -> None:
    asked: list[Deadline] = []

    def refuse(deadline: Deadline) -> None:
        asked.append(deadline)
        raise CapacityExceeded("full", requested="tiny", available="none")

    with pytest.raises(CapacityExceeded):
        ask_through_restarts(refuse, 60.0, True)

    def connect(deadline: Deadline) -> None:
        asked.append(deadline)
        Endpoint.parse(f"tcp:127.0.0.1:{port}").connect(1.0)

    with pytest.raises(ConnectError):
        ask_through_restarts(connect, 60.0, False)  # the default address: nobody is there
    assert len(asked) == 2


def test_a_line_is_not_left_for_a_restart(serve: Any) -> None:
    server = serve(0, 1)
    session = HostSession(f"http://127.0.0.1:{server.server_port}", "x")
    assert session.attach("tiny", wait_seconds=5.0).name == "n"
    assert [each["wait"] for each in server.asked] == [True, True]


def test_a_peer_that_always_breaks_off_is_named(serve: Any) -> None:
    server = serve(0, 1000)
    with pytest.raises(ConnectionLost, match="broke"):
        HostSession(f"http://127.0.0.1:{server.server_port}", "x").attach("tiny", timeout_seconds=0.5)
    assert len(server.asked) > 1
