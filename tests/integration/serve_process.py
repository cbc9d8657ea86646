"""`ei serve` as a process of its own, which also knows the testing engine."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.waiting import read_line, wait_until

_PROGRAM = (
    "import sys; from elastic_inference.testing.engine import register; register(); "
    "from elastic_inference.cli import main; sys.exit(main(['serve', *sys.argv[1:]]))"
)


def ask_at(url: str, value: Any = None, token: str = "") -> tuple[int, Any]:
    """Status and JSON (or text) of a request; a `value` makes it a POST."""
    request = urllib.request.Request(
        url,
        None if value is None else json.dumps(value).encode(),
        {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {}),
    )
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, _parsed(answer.read())
    except urllib.error.HTTPError as error:
        with error:
            return error.code, _parsed(error.read())


@dataclass
class Serving:
    """A process that serves.

    Attributes:
        endpoints: `HOST:PORT` by door; of TensorFlow Serving the first.
        models: As they were when it was ready.
    """

    process: subprocess.Popen[str]
    log: Path
    endpoints: dict[str, str]
    models: list[dict[str, Any]]

    def ask(self, path: str, value: Any = None, door: str = "http", token: str = "") -> tuple[int, Any]:
        """Status and JSON (or text) of a request; a `value` makes it a POST."""
        return ask_at(f"http://{self.endpoints[door]}{path}", value, token)

    def index(self) -> dict[tuple[str, str], dict[str, Any]]:
        """The repository index by name and version."""
        status, rows = self.ask("/v2/repository/index", {})
        assert status == 200
        return {(row["name"], row["version"]): row for row in rows}

    def end(self, number: int = signal.SIGTERM) -> int:
        """End it by a signal; its exit status."""
        self.process.send_signal(number)
        return self.process.wait(60)


def start(folder: Path, *arguments: str, log: Path, cache: Path) -> subprocess.Popen[str]:
    """Start the process; it prints one line when it is ready."""
    with open(log, "w") as errors:
        return subprocess.Popen(
            [sys.executable, "-c", _PROGRAM, str(folder), "--json", *arguments],
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env={**os.environ, "EI_CACHE_DIR": str(cache)},
        )


@contextmanager
def serving(folder: Path, *arguments: str, scratch: Path) -> Iterator[Serving]:
    """A process that is ready; HTTP on any free port unless arguments name doors."""
    process = start(folder, *(arguments or ("--http", "0")), log=scratch / "log", cache=scratch / "cache")
    try:
        line = read_line(process)
        assert line, (scratch / "log").read_text()[-3000:]
        ready = json.loads(line)
        endpoints: dict[str, str] = {}
        for endpoint in ready["endpoints"]:
            for door in endpoint["doors"]:
                endpoints.setdefault(door, endpoint["address"].removeprefix("tcp:"))
        yield Serving(process, scratch / "log", endpoints, ready["models"])
    finally:
        process.kill()
        process.wait(60)
        assert process.stdout is not None
        process.stdout.close()


def wait_for(served: Serving, name: str, version: str, state: str = "READY") -> None:
    """Wait until the index says so."""
    wait_until(
        lambda: served.index().get((name, version), {}).get("state") == state, f"{name} {version} {state}"
    )


def _parsed(body: bytes) -> Any:
    try:
        return json.loads(body)
    except ValueError:
        return body.decode()
