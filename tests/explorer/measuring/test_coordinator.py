"""The coordinator over real sockets: who may, what is refused, and that nothing is left of it."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from elastic_inference.errors import ConnectError, InvalidInput
from elastic_inference.explorer.measuring.coordinator import Coordinator
from elastic_inference.explorer.measuring.coordinator_app import MAX_OUTCOME_BYTES
from elastic_inference.explorer.measuring.task import Task
from elastic_inference.explorer.space import Cell


@pytest.fixture
def coordinator(quick_model: str) -> Iterator[Coordinator]:
    with Coordinator("127.0.0.1:0", quick_model, ["mybox"]) as coordinator:
        yield coordinator


def ask(
    coordinator: Coordinator, method: str, path: str, body: Any = None, token: str | None = None
) -> tuple[int, bytes]:
    return ask_url(coordinator.url, coordinator.token if token is None else token, method, path, body)


def ask_url(url: str, token: str, method: str, path: str, body: Any = None) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=30)
    try:
        connection.request(method, path, body, {"Authorization": f"Bearer {token}"} if token else {})
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


@pytest.mark.parametrize("token", ["", "wrong", "ünlatin"])
@pytest.mark.parametrize("path", ["/work?client=mybox", "/model", "/files/0", "/input"])
def test_every_path_wants_the_token(coordinator: Coordinator, path: str, token: str) -> None:
    status, body = ask(coordinator, "GET", path, token=token)
    assert (status, json.loads(body)) == (401, {"error": "the token is missing or wrong"})


@pytest.mark.parametrize("path", ["/docs", "/openapi.json", "/nothing", "/files/../../etc/passwd", "/input"])
def test_there_is_nothing_else(coordinator: Coordinator, path: str) -> None:
    status, body = ask(coordinator, "GET", path)
    assert status == 404
    assert json.loads(body)["error"]


@pytest.mark.parametrize(
    ("query", "body", "status", "text"),
    [
        ("client=mybox&number=1", b"{", 400, "not the outcome"),
        ("client=mybox&number=1", b"[" * 100_000, 400, "not the outcome"),
        ("client=mybox&number=1", b"\xff\xfe", 400, "not the outcome"),
        ("client=mybox&number=1", b'{"observation": 3}', 400, "not the outcome"),
        ("client=mybox&number=one", b"{}", 400, "number"),
        ("client=mybox", b"{}", 400, "number"),
        ("client=other&number=1", b"{}", 404, "'other'"),
        ("number=1", b"{}", 400, "client"),
    ],
)
def test_what_is_no_outcome_is_refused(
    coordinator: Coordinator, query: str, body: bytes, status: int, text: str
) -> None:
    answered, content = ask(coordinator, "POST", f"/outcome?{query}", body)
    assert answered == status
    assert text in json.loads(content)["error"]


def test_outcome_is_refused_once_it_is_too_large(coordinator: Coordinator) -> None:
    connection = http.client.HTTPConnection(urlsplit(coordinator.url).netloc, timeout=30)
    connection.putrequest("POST", "/outcome?client=mybox&number=1")
    connection.putheader("Authorization", f"Bearer {coordinator.token}")
    connection.putheader("Content-Length", str(1 << 40))  # which no one reads to its end
    connection.endheaders()
    connection.send(b" " * (MAX_OUTCOME_BYTES + 1))
    response = connection.getresponse()
    assert response.status == 413
    assert str(MAX_OUTCOME_BYTES) in json.loads(response.read())["error"]
    connection.close()


def test_client_that_waits_for_work_learns_of_the_end(quick_model: str) -> None:
    with ThreadPoolExecutor() as pool:
        with Coordinator("127.0.0.1:0", quick_model, ["mybox"]) as coordinator:
            waiting = pool.submit(ask, coordinator, "GET", "/work?client=mybox")
            task = Task(Cell("mybox"), quick_model, "float32:1,4")
            measured = pool.submit(coordinator.run_task, task)
            number = json.loads(waiting.result(30)[1])["number"]
            outcome = json.dumps({"observation": {"latency_seconds": 0.25}, "detail": {}, "report": {}})
            ask(coordinator, "POST", f"/outcome?client=mybox&number={number}", outcome)
            assert measured.result(30).observation.latency_seconds == 0.25
            last = pool.submit(ask_url, coordinator.url, coordinator.token, "GET", "/work?client=mybox")
        assert last.result(30)[0] == 410


def test_nothing_is_left_of_it(quick_model: str) -> None:
    before = set(threading.enumerate()), len(os.listdir("/proc/self/fd"))
    with Coordinator("127.0.0.1:0", quick_model, ["mybox"]) as coordinator:
        status, model = ask(coordinator, "GET", "/model")
        assert status == 200
        for file in json.loads(model)["files"]:
            assert len(ask(coordinator, "GET", f"/files/{file['sha256']}")[1]) == file["size_bytes"]
        for path in ("/model?token=none", "/input", "/outcome?client=mybox&number=one"):
            assert ask(coordinator, "POST", path, b"{}")[0] >= 400
        url = coordinator.url
    assert (set(threading.enumerate()), len(os.listdir("/proc/self/fd"))) == before
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((urlsplit(url).hostname, urlsplit(url).port), 10)


def test_address_that_is_none_or_taken_is_an_error(coordinator: Coordinator, quick_model: str) -> None:
    for wrong in ("here", "127.0.0.1", ":80", "127.0.0.1:port"):
        with pytest.raises(InvalidInput, match="is not HOST:PORT"):
            Coordinator(wrong, quick_model, ["mybox"])
    taken = urlsplit(coordinator.url).netloc
    with (
        pytest.raises(ConnectError, match=f"cannot listen on tcp:{taken}"),
        Coordinator(taken, quick_model, []),
    ):
        pass


def test_ctrl_c_while_a_client_elsewhere_is_waited_for(quick_model: str, tmp_path: Path) -> None:
    command = [
        sys.executable, "-c", "import sys; from elastic_inference.cli import main; sys.exit(main())",
        "explore", "--model", quick_model, "--shape", "float32:1,4", "--clients", "m5.large",
        "--listen", "127.0.0.1:0", "-o", str(tmp_path / "out"),
    ]  # fmt: skip
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    assert process.stderr is not None
    seen = []
    for line in process.stderr:
        seen.append(line)
        if "measuring m5.large" in line:
            process.send_signal(signal.SIGINT)
            break
    _, rest = process.communicate(timeout=120)
    assert process.returncode == 130, "".join(seen) + rest
    assert "the same command continues from them" in rest
    assert "Traceback" not in rest
