"""A client elsewhere: joins an exploration, fetches the model once, measures what it is told, until it is over."""

from __future__ import annotations

import hashlib
import http.client
import json
import tempfile
import time
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import quote, urlsplit

from elastic_inference.errors import ConnectError, InvalidInput, PermissionDenied, ProtocolError
from elastic_inference.explorer.measuring.assignments import INPUT_FILE, POLL_SECONDS, Assignment
from elastic_inference.explorer.measuring.in_process import RunTask, run_in_process

_ATTEMPTS = 5
_PAUSE_SECONDS = 1.0


class RemoteClient:
    """One client machine.

    Args:
        url: Of the coordinator, `http://HOST:PORT`.
        name: As the exploration names this machine.
        run_task: How to measure; in a process of its own by default.
    """

    def __init__(self, url: str, name: str, token: str, run_task: RunTask = run_in_process) -> None:
        parts = urlsplit(url)
        if parts.scheme != "http" or not parts.hostname:
            raise InvalidInput(f"address {url!r} is not http://HOST:PORT")
        self._host, self._port = parts.hostname, parts.port or 80
        self._name, self._token, self._run_task = name, token, run_task

    def run(self) -> int:
        """Measure until the exploration is over; gives the number of measurements.

        Raises:
            ConnectError: The exploration cannot be reached any more.
            PermissionDenied: The token is wrong.
            InvalidInput: The exploration names no such client.
        ProtocolError: Something else answers there.
        """
        count = 0
        with tempfile.TemporaryDirectory(prefix="elastic-inference-explore-") as folder:
            model: Path | None = None
            while True:
                status, body = self._request("GET", f"/work?client={quote(self._name)}")
                if status == 410:
                    return count
                if status == 204:
                    continue
                assignment = Assignment.from_json(json.loads(body))
                model = model or self._fetch_model(Path(folder) / "model")
                given = self._fetch_input(Path(folder), assignment.task.input)
                task = replace(assignment.task, model=str(model), input=given, cores=None)
                outcome = json.dumps(self._run_task(task).to_json())
                path = f"/outcome?client={quote(self._name)}&number={assignment.number}"
                self._request("POST", path, outcome.encode())
                count += 1

    def _fetch_model(self, folder: Path) -> Path:
        listing = json.loads(self._request("GET", "/model")[1])
        for file in listing["files"]:
            self._fetch_file(folder, file)
        return folder if listing["format"] == "saved_model" else folder / listing["main"]

    def _fetch_input(self, folder: Path, text: str) -> str:
        if not text.startswith(INPUT_FILE):
            return text
        path = folder / PurePosixPath(text.removeprefix(INPUT_FILE)).name
        if not path.exists():
            path.write_bytes(self._request("GET", "/input")[1])
        return str(path)

    def _fetch_file(self, folder: Path, file: dict[str, Any]) -> None:
        relative = PurePosixPath(file["path"])
        if relative.is_absolute() or ".." in relative.parts:
            raise ProtocolError(f"the exploration names a model file outside of the model: {file['path']!r}")
        content = self._request("GET", f"/files/{file['sha256']}")[1]
        if hashlib.sha256(content).hexdigest() != file["sha256"]:
            raise ProtocolError(f"model file {file['path']!r} arrived damaged")
        path = folder / relative
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)

    def _request(self, method: str, path: str, body: bytes | None = None) -> tuple[int, bytes]:
        for attempt in range(_ATTEMPTS):
            try:
                status, content = self._request_once(method, path, body)
                break
            except (OSError, http.client.HTTPException) as error:
                if attempt == _ATTEMPTS - 1:
                    raise ConnectError(
                        f"exploration at {self._host}:{self._port} cannot be reached: {error}"
                    ) from error
                time.sleep(_PAUSE_SECONDS)
        if status == 401:
            raise PermissionDenied("the exploration does not take this token")
        if status in (400, 404):
            raise InvalidInput(json.loads(content or b"{}").get("error", f"status {status}"))
        if status not in (200, 204, 410):
            raise ProtocolError(
                f"exploration at {self._host}:{self._port} answered status {status}: {content!r:.200}"
            )
        return status, content

    def _request_once(self, method: str, path: str, body: bytes | None) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection(self._host, self._port, timeout=POLL_SECONDS + 60)
        try:
            connection.request(method, path, body, {"Authorization": f"Bearer {self._token}"})
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()
