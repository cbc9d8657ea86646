"""Time-outs of one connection: each part of a message has its own, counted anew, and none ends an idle client's."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from elastic_inference.accelerator import visit
from elastic_inference.accelerator.config import AcceleratorConfig
from elastic_inference.accelerator.kept_buffer import KeptBuffer
from elastic_inference.accelerator.process import make_service
from elastic_inference.accelerator.server import Server
from tests.integration.hostile_support import Connection

SERVING = b"GET /v2/health/live HTTP/1.1\r\n\r\n"
ALLOWED = b"GET /v2 HTTP/1.1\r\nHost: a\r\n\r\n"  # needs the token, where there is one
MALFORMED_LOAD = b"POST /v2/repository/models/m/load HTTP/1.1\r\nContent-Length: 2\r\n\r\n"


@pytest.fixture
def before_an_answer() -> list[Callable[[], object]]:
    """What the service does before it answers."""
    return []


@pytest.fixture
def address(tmp_path: Path, before_an_answer: list[Callable[[], object]]) -> Iterator[str]:
    """A server in this process, whose bounds the test shortens before it connects."""
    config = AcceleratorConfig(f"eia-{'0' * 32}", ("tcp:127.0.0.1:0",), str(tmp_path))
    service = make_service(config)

    def answer(*request: object) -> object:
        for act in before_an_answer:
            act()
        return service.answer(*request)  # type: ignore[arg-type]

    scripted = SimpleNamespace(inference=service.inference, answer=answer, opening=lambda _doors: scripted)
    server = Server(config, scripted)  # type: ignore[arg-type]
    stack_bytes = threading.stack_size()
    try:
        yield server.start()[0]
    finally:
        server.close()
        threading.stack_size(stack_bytes)


def test_an_answer_that_took_longer_than_a_message_may_is_sent(
    address: str, before_an_answer: list[Callable[[], object]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(visit, "MESSAGE_SECONDS", 1.0)
    before_an_answer.append(lambda: threading.Event().wait(1.2))  # as a slow model would
    with Connection(address) as connection:
        connection.send(SERVING)
        assert connection.read().status == 200


def test_a_client_that_rests_longer_than_its_buffer_is_kept_is_still_served(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(visit, "KEEP_SECONDS", 0.02)
    gave_back = threading.Semaphore(0)
    monkeypatch.setattr(KeptBuffer, "trim", lambda _, *size: gave_back.release() if size == (0,) else None)
    with Connection(address) as connection:
        for _ in range(3):
            connection.send(ALLOWED)
            assert connection.read().status == 200
            assert gave_back.acquire(timeout=30)


def test_a_body_may_take_longer_than_a_head(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(visit, "HEAD_SECONDS", 0.5)
    with Connection(address) as connection:
        connection.send(ALLOWED)
        assert connection.read().status == 200
        connection.send(MALFORMED_LOAD)
        threading.Event().wait(0.8)  # as a slow wire would
        connection.send(b"{]")
        assert connection.read().status == 400


@pytest.mark.parametrize(
    ("bound", "is_proven", "sent"),
    [
        ("FIRST_SECONDS", False, MALFORMED_LOAD[:-1]),
        ("HEAD_SECONDS", True, MALFORMED_LOAD[:-1]),
        ("MESSAGE_SECONDS", True, MALFORMED_LOAD + b"{"),
    ],
)
def test_a_client_that_stops_in_a_message_is_hung_up_on(
    address: str, bound: str, is_proven: bool, sent: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("FIRST_SECONDS", "HEAD_SECONDS", "KEEP_SECONDS", "MESSAGE_SECONDS"):
        monkeypatch.setattr(visit, name, 600.0)
    with Connection(address) as connection:
        if is_proven:
            connection.send(ALLOWED)
            assert connection.read().status == 200
        monkeypatch.setattr(visit, bound, 0.05)
        connection.send(sent)
        assert connection.socket.recv(100) == b""
