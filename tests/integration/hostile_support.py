"""What the hostile tests share: an accelerator with a model, raw connections to it, and judging answers."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from tests.integration.tiny_model import write_doubling_graph
from tests.waiting import wait_until as wait_until

REPLY_SECONDS = 30.0  # no answer in this time counts as hanging


@dataclass(frozen=True)
class Answer:
    """One response: its status and body."""

    status: int
    body: bytes
    closes: bool

    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


class Connection:
    """A raw connection that sends any bytes and reads responses."""

    def __init__(self, address: str) -> None:
        if address.startswith("unix:"):
            self.socket = socket.socket(socket.AF_UNIX)
            self.socket.settimeout(REPLY_SECONDS)
            self.socket.connect(address.removeprefix("unix:"))
        else:
            host, port = address.removeprefix("tcp:").rsplit(":", 1)
            self.socket = socket.create_connection((host, int(port)), timeout=REPLY_SECONDS)
        self._reader = self.socket.makefile("rb")

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *_: object) -> None:
        self._reader.close()
        self.socket.close()

    def send(self, data: bytes) -> None:
        """Send; a server that has hung up already is fine, its answer tells why."""
        with suppress(BrokenPipeError, ConnectionResetError):
            self.socket.sendall(data)

    def end_sending(self) -> None:
        """Say that nothing more will come."""
        with suppress(OSError):
            self.socket.shutdown(socket.SHUT_WR)

    def read(self, method: str = "POST") -> Answer | None:
        """One response, or None where the server closed instead; TimeoutError where it hangs."""
        try:
            status_line = self._reader.readline()
            if not status_line:
                return None
            headers = http.client.parse_headers(self._reader)
            length = 0 if method == "HEAD" else int(headers["Content-Length"])
            body = self._reader.read(length)
        except (ConnectionResetError, BrokenPipeError):
            return None
        assert len(body) == length, "the server closed in the middle of an answer"
        return Answer(int(status_line.split()[1]), body, headers.get("Connection", "").lower() == "close")

    def read_head(self) -> bytes:
        """The head of a response, as it comes."""
        lines = list(iter(self._reader.readline, b"\r\n"))
        return b"".join(lines)

    def read_interim(self) -> bytes:
        """The two lines of an interim response such as `100 Continue`."""
        return self._reader.readline() + self._reader.readline()

    def is_closed(self) -> bool:
        """Wait until the server closed; False where it sent something instead."""
        try:
            return self._reader.read(1) == b""
        except ConnectionResetError:
            return True


@dataclass(frozen=True)
class Target:
    """An accelerator under attack, with a model that doubles an int32 vector loaded as `model`."""

    address: str
    token: str
    pid: int
    model: str

    @property
    def infer_path(self) -> str:
        """Where inference requests go."""
        return f"/v2/models/{self.model}/infer"

    def connect(self) -> Connection:
        """A new connection."""
        return Connection(self.address)

    def head(
        self, method: str, path: str, headers: Mapping[str, Any] | None = None, token: str | None = None
    ) -> bytes:
        """A well-formed request head; `headers` replace and add, a value of None takes one away."""
        all_headers: dict[str, Any] = {
            "Host": "localhost",
            "Authorization": f"Bearer {self.token if token is None else token}",
            **(headers or {}),
        }
        lines = [f"{name}: {value}" for name, value in all_headers.items() if value is not None]
        return "\r\n".join([f"{method} {path} HTTP/1.1", *lines, "", ""]).encode("latin-1")

    def infer(self, body: bytes, json_size: int | str | None = None, **headers: Any) -> bytes:
        """A whole inference request with this body; `json_size` is where the binary part begins."""
        own = {"Content-Length": len(body), "Inference-Header-Content-Length": json_size}
        return self.head("POST", self.infer_path, {**own, **headers}) + body

    def valid(self, values: tuple[int, ...] = (1, 2, 3)) -> bytes:
        """A request that is right; `doubled` checks its answer."""
        tensor = np.array(values, np.int32).tobytes()
        text = json.dumps(
            {
                "inputs": [
                    {
                        "name": "x",
                        "datatype": "INT32",
                        "shape": [len(values)],
                        "parameters": {"binary_data_size": len(tensor)},
                    }
                ]
            }
        ).encode()
        return self.infer(text + tensor, len(text))

    def ask(self, request: bytes, *, end_sending: bool = False) -> Answer | None:
        """Send on a connection of its own and give the answer, None where the server only closed."""
        with self.connect() as connection:
            connection.send(request)
            if end_sending:
                connection.end_sending()
            return connection.read()

    def assert_refuses(self, request: bytes, *statuses: int, end_sending: bool = False) -> str:
        """It is answered with an error of the protocol, whose text this gives, and the accelerator works on."""
        answer = self.ask(request, end_sending=end_sending)
        assert answer is not None, "the server closed without an answer"
        text = error_text(answer)
        assert answer.status in (statuses or range(400, 500)), (answer.status, text)
        self.assert_works()
        return text

    def assert_works(self) -> None:
        """It is the same process, and it answers a right request rightly."""
        assert psutil.pid_exists(self.pid)
        assert doubled(self.ask(self.valid())) == [2, 4, 6]


def error_text(answer: Answer) -> str:
    """The text of an error answer in the protocol's form."""
    assert answer.status >= 400, answer
    value = answer.json()
    assert isinstance(value, dict), answer
    assert isinstance(value["error"], str), answer
    assert value["error"], answer
    return str(value["error"])


def doubled(answer: Answer | None) -> list[int]:
    """The values in the answer to a right request."""
    assert answer is not None
    assert answer.status == 200, answer
    return list(answer.json()["outputs"][0]["data"])


@contextmanager
def start_target(folder: Path) -> Iterator[Target]:
    """Start an accelerator and load the doubling model."""
    from elastic_inference import EIPredictor
    from elastic_inference.testing import start_accelerator

    graph = write_doubling_graph(folder / "doubling.pb")
    with (
        start_accelerator() as accelerator,
        EIPredictor(
            str(graph),
            input_names={"x": "x:0"},
            output_names={"y": "y:0"},
            address=accelerator.address,
            token=accelerator.token,
        ) as predictor,
    ):
        assert predictor({"x": np.array([4], np.int32)})["y"].tolist() == [8]
        index = Target(accelerator.address, accelerator.token, accelerator.pid, "")
        with index.connect() as connection:
            connection.send(index.head("POST", "/v2/repository/index", {"Content-Length": 0}))
            answer = connection.read()
        assert answer is not None
        model = answer.json()[0]["name"]
        yield Target(accelerator.address, accelerator.token, accelerator.pid, model)
