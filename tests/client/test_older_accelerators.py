"""A client of today beside an accelerator of an earlier version, which refuses fields of a load that it does not know.

The earlier version is one of today behind a relay: it knows the fields, and gives the answers, of the first that
refused unknown ones.
"""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from elastic_inference import Accelerator, EIPredictor, LoadOptions
from elastic_inference.errors import InvalidInput
from elastic_inference.protocol.status import encode_error
from elastic_inference.testing import RunningAccelerator, start_accelerator, write_model

FIRST_FIELDS = {"package", "signature", "engine", "precision", "warm_up", "instance", "label"}
NEWER_ANSWERS = ("proof", "batching")


class _Relay(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    behind: int  # port of the accelerator

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.path.endswith("/load"):
            unknown = set(json.loads(body)["parameters"]) - FIRST_FIELDS
            if unknown:
                status, error = encode_error(InvalidInput(f"load: unknown field {min(unknown)!r}"))
                self._answer(status, json.dumps(error).encode(), {})
                return
        connection = http.client.HTTPConnection("127.0.0.1", self.behind, timeout=60)
        connection.request(self.command, self.path, body or None, dict(self.headers))
        reply = connection.getresponse()
        content = reply.read()
        if self.path.endswith("/config"):
            content = json.dumps(
                {name: value for name, value in json.loads(content).items() if name not in NEWER_ANSWERS}
            ).encode()
        kept = {n: v for n, v in reply.getheaders() if n.lower() not in ("content-length", "connection")}
        self._answer(reply.status, content, kept)
        connection.close()

    do_GET = do_PUT = do_POST  # noqa: N815

    def _answer(self, status: int, content: bytes, headers: dict[str, str]) -> None:
        self.send_response_only(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture(scope="module")
def running() -> Iterator[RunningAccelerator]:
    with start_accelerator() as running:
        yield running


@pytest.fixture
def earlier(running: RunningAccelerator) -> Iterator[Accelerator]:
    port = int(running.address.rpartition(":")[2])
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Relay", (_Relay,), {"behind": port}))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield Accelerator.at(f"tcp:127.0.0.1:{server.server_port}", token=running.token)
    server.shutdown()
    server.server_close()


@pytest.fixture
def echo(tmp_path: Path) -> Path:
    tensor = {"x": ("uint8", (None, None))}
    return write_model(tmp_path / "echo.testing", tensor, tensor)


def test_a_load_that_asks_for_nothing_new_is_one_that_it_knows(earlier: Accelerator, echo: Path) -> None:
    given = np.ones((1, 2), np.uint8)
    with EIPredictor(echo, accelerator=earlier) as predictor:
        np.testing.assert_array_equal(predictor({"x": given})["x"], given)
        assert (predictor.report.engine, predictor.report.proof, predictor.report.batching) == (
            "testing",
            "",
            "",
        )


def test_what_it_does_not_know_is_refused_and_not_left_out(earlier: Accelerator, echo: Path) -> None:
    for options in (LoadOptions(proof="off"), LoadOptions(batching="off"), LoadOptions(max_batch_rows=4)):
        with pytest.raises(InvalidInput, match="unknown field"):
            EIPredictor(echo, accelerator=earlier, load=options)
