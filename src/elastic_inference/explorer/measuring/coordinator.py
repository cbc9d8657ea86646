"""Where clients elsewhere join an exploration: hands out tasks over HTTP, gives the model's files, takes outcomes.

Loopback by default, a token always. `GET /work?client=NAME` waits a while and answers 200 with a task, 204 for
none yet, 410 when all is done; `GET /model` lists the model's files, `GET /files/SHA256` gives one;
`GET /input` gives the input file where there is one; `POST /outcome?client=NAME` takes what was measured.
"""

from __future__ import annotations

import hmac
import json
import os
import secrets
import shutil
import threading
from collections.abc import Iterable
from dataclasses import asdict, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from queue import Empty, SimpleQueue
from types import TracebackType
from typing import Any
from urllib.parse import parse_qs, urlsplit

from elastic_inference.errors import InvalidInput
from elastic_inference.explorer.measuring.in_process import run_in_process
from elastic_inference.explorer.measuring.task import Outcome, Task
from elastic_inference.models.package import ModelPackage

# A client asks again after this; short, so that a connection that died is noticed.
POLL_SECONDS = 10.0
INPUT_FILE = "file:"  # before the name of an input that clients fetch from `/input`
MAX_OUTCOME_BYTES = 16 << 20


class Coordinator:
    """Runs tasks of clients elsewhere there, and all others here.

    Args:
        listen: `HOST:PORT`; port 0 takes any free one.
        model: Path of the model, whose files clients fetch.
        names: Clients that are to join.
        token: What clients must show; None makes one.
        wait_seconds: How long a task waits for its client, its measurement included; then its cell is marked.
    """

    def __init__(
        self,
        listen: str,
        model: str,
        names: Iterable[str],
        token: str | None = None,
        wait_seconds: float = 3600.0,
    ) -> None:
        host, colon, port = listen.rpartition(":")
        if not colon or not host or not port.isdigit():
            raise InvalidInput(f"listen address {listen!r} is not HOST:PORT")
        self.token = token or secrets.token_urlsafe(24)
        self.package = ModelPackage.read(model)
        self._address = (host, int(port))
        self._wait_seconds = wait_seconds
        self._tasks: dict[str, SimpleQueue[Task | None]] = {name: SimpleQueue() for name in names}
        self._outcomes: dict[str, SimpleQueue[Outcome]] = {name: SimpleQueue() for name in names}
        self._server: ThreadingHTTPServer | None = None
        self.input_path: Path | None = None
        self._changed = threading.Condition()
        self._joined: set[str] = set()
        self._dismissed: set[str] = set()
        self.is_over = False

    @property
    def url(self) -> str:
        """Where clients join."""
        assert self._server is not None, "the coordinator is not started"
        host, port = self._server.server_address[:2]
        return f"http://{host!s}:{port}"

    def __enter__(self) -> Coordinator:
        handler = type("Handler", (_Handler,), {"coordinator": self})
        try:
            self._server = ThreadingHTTPServer(self._address, handler)
        except OSError as error:
            raise InvalidInput(f"cannot listen on {self._address[0]}:{self._address[1]}: {error}") from error
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.is_over = True
        for tasks in self._tasks.values():
            tasks.put(None)  # wakes a client that waits for work
        with self._changed:  # so that clients learn of the end, and do not wonder where the exploration went
            self._changed.wait_for(lambda: self._joined <= self._dismissed, POLL_SECONDS)
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def run_task(self, task: Task) -> Outcome:
        """Measure on the client that the task names; a client that does not answer in time marks its cell."""
        name = task.cell.client
        if name not in self._tasks:
            return run_in_process(task)
        outcomes = self._outcomes[name]
        while not outcomes.empty():  # of a task that was given up before
            outcomes.get()
        if Path(task.input).is_file():
            self.input_path = Path(task.input)
            task = replace(task, input=INPUT_FILE + self.input_path.name)
        self._tasks[name].put(task)
        try:
            return outcomes.get(timeout=self._wait_seconds)
        except Empty:
            return Outcome.failed(f"client {name!r} did not answer in {self._wait_seconds:g} s")

    def has_client(self, name: str) -> bool:
        """Whether a client of this name is to join."""
        return name in self._tasks

    def next_task(self, name: str) -> Task | None:
        """The next task of a client, waiting up to `POLL_SECONDS`; None for none, or where all is over."""
        with self._changed:
            self._joined.add(name)
        try:
            return None if self.is_over else self._tasks[name].get(timeout=POLL_SECONDS)
        except Empty:
            return None

    def dismiss(self, name: str) -> None:
        """Note that a client knows of the end."""
        with self._changed:
            self._dismissed.add(name)
            self._changed.notify_all()

    def finish(self, name: str, outcome: Outcome) -> None:
        """Take what a client measured."""
        self._outcomes[name].put(outcome)


class _Handler(BaseHTTPRequestHandler):
    coordinator: Coordinator
    timeout = 60.0

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        if not self._is_allowed():
            return
        if parts.path == "/work":
            self._work(parts.query)
        elif parts.path == "/model":
            package = self.coordinator.package
            files = [asdict(file) for file in package.files]
            self._answer(
                200, {"files": files, "main": package.main_path.name, "format": package.format.value}
            )
        elif parts.path.startswith("/files/"):
            self._model_file(parts.path.removeprefix("/files/"))
        elif parts.path == "/input":
            self._file(self.coordinator.input_path)
        else:
            self._answer(404, {"error": f"no such path: {parts.path}"})

    def do_POST(self) -> None:
        parts = urlsplit(self.path)
        if not self._is_allowed():
            return
        name = self._client(parts.query)
        if name is None:
            return
        length = int(self.headers.get("Content-Length") or 0)
        if parts.path != "/outcome" or not 0 < length <= MAX_OUTCOME_BYTES:
            self._answer(400, {"error": "not an outcome"})
            return
        try:
            outcome = Outcome.from_json(json.loads(self.rfile.read(length)))
        except (ValueError, InvalidInput) as error:
            self._answer(400, {"error": str(error)})
            return
        self.coordinator.finish(name, outcome)
        self._answer(200, {})

    def _is_allowed(self) -> bool:
        given = self.headers.get("Authorization", "")
        if hmac.compare_digest(given.encode(), f"Bearer {self.coordinator.token}".encode()):
            return True
        self._answer(401, {"error": "the token is missing or wrong"})
        return False

    def _client(self, query: str) -> str | None:
        name = parse_qs(query).get("client", [""])[0]
        if self.coordinator.has_client(name):
            return name
        self._answer(404, {"error": f"the exploration does not name a client {name!r}"})
        return None

    def _work(self, query: str) -> None:
        name = self._client(query)
        if name is None:
            return
        task = self.coordinator.next_task(name)
        if task is not None:
            self._answer(200, task.to_json())
        elif self.coordinator.is_over:
            self._answer(410, {"error": "the exploration is over"})
            self.coordinator.dismiss(name)
        else:
            self._answer(204, None)

    def _model_file(self, sha256: str) -> None:
        package = self.coordinator.package
        found = next((file for file in package.files if file.sha256 == sha256), None)
        self._file(None if found is None else package.root / found.path)

    def _file(self, path: Path | None) -> None:
        if path is None:
            self._answer(404, {"error": "no such file"})
            return
        with open(path, "rb") as source:
            self.send_response(200)
            self.send_header("Content-Length", str(os.fstat(source.fileno()).st_size))
            self.end_headers()
            shutil.copyfileobj(source, self.wfile, 1 << 20)

    def _answer(self, status: int, value: Any) -> None:
        body = b"" if value is None else json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: Any) -> None:
        """Say nothing: the command prints what matters."""
