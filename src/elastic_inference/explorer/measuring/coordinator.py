"""Where clients elsewhere join an exploration: tasks that name such a client are measured there.

Loopback by default, a token always; what is said over HTTP stands in `coordinator_app`.
"""

from __future__ import annotations

import asyncio
import secrets
import socket
import threading
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import TracebackType

import uvicorn

from elastic_inference.errors import InvalidInput
from elastic_inference.explorer.measuring.assignments import INPUT_FILE, Assignments
from elastic_inference.explorer.measuring.coordinator_app import make_app
from elastic_inference.explorer.measuring.in_process import run_in_process
from elastic_inference.explorer.measuring.task import Outcome, Task
from elastic_inference.models.package import ModelPackage
from elastic_inference.protocol.endpoint import Endpoint

_GRACE_SECONDS = 5
# Clients, each with a request or two; far above what an exploration has, far below what open files allow.
_MAX_CONNECTIONS = 256


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
        self._endpoint = _endpoint(listen)
        self.token = token or secrets.token_urlsafe(24)
        self._wait_seconds = wait_seconds
        self._assignments = Assignments(names)
        self._input_path: Path | None = None
        self._app = make_app(
            self._assignments, ModelPackage.read(model), lambda: self._input_path, self.token
        )
        self._server: _ServerThread | None = None

    @property
    def url(self) -> str:
        """Where clients join."""
        assert self._server is not None, "the coordinator is not started"
        host = f"[{self._endpoint.host}]" if ":" in self._endpoint.host else self._endpoint.host
        return f"http://{host}:{self._server.port}"

    def __enter__(self) -> Coordinator:
        self._server = _ServerThread(self._app, self._endpoint.listen())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        server, self._server = self._server, None
        self._assignments.end()
        try:
            self._assignments.wait_until_dismissed()
        finally:  # a second Ctrl-C waits no more
            server.close()

    def run_task(self, task: Task) -> Outcome:
        """Measure on the client that the task names; a client that does not answer in time marks its cell."""
        name = task.cell.client
        if not self._assignments.has_client(name):
            return run_in_process(task)
        if Path(task.input).is_file():
            self._input_path = Path(task.input)
            task = replace(task, input=INPUT_FILE + self._input_path.name)
        outcome = self._assignments.run(name, task, self._wait_seconds)
        return outcome or Outcome.failed(f"client {name!r} did not answer in {self._wait_seconds:g} s")


def _endpoint(listen: str) -> Endpoint:
    try:
        return Endpoint.parse(f"tcp:{listen}")
    except InvalidInput as error:
        raise InvalidInput(f"listen address {listen!r} is not HOST:PORT") from error


class _Server(uvicorn.Server):
    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Give the loop a thread for each connection, for many clients may wait for work; they end with the loop."""
        executor = ThreadPoolExecutor(_MAX_CONNECTIONS, "coordinator")
        asyncio.get_running_loop().set_default_executor(executor)
        await super().startup(sockets)


class _ServerThread:
    """uvicorn in a thread of its own, where it leaves the signals of the process alone."""

    def __init__(self, app: object, sock: socket.socket) -> None:
        config = uvicorn.Config(
            app,  # type: ignore[arg-type]
            log_config=None,
            access_log=False,
            server_header=False,
            lifespan="off",
            limit_concurrency=_MAX_CONNECTIONS,
            timeout_graceful_shutdown=_GRACE_SECONDS,
        )
        self.port: int = sock.getsockname()[1]
        self._sock = sock
        self._server = _Server(config)
        # A daemon, so that a second Ctrl-C, which stops the waiting for it, also ends the process.
        self._thread = threading.Thread(
            target=self._server.run, args=([sock],), name="coordinator", daemon=True
        )
        self._thread.start()  # the socket listens already: who connects before uvicorn runs waits

    def close(self) -> None:
        """Answer what is under way, then end."""
        self._server.should_exit = True
        self._thread.join()
        self._sock.close()
