"""One JSON request on a connection of its own, with the standard library alone: for control, never for tensors."""

from __future__ import annotations

import http.client
import io
import json
import socket
import ssl
from collections.abc import Mapping
from typing import Any

from elastic_inference.deadline import Deadline
from elastic_inference.errors import ConnectionLost, DeadlineExceeded, ElasticInferenceError, ProtocolError
from elastic_inference.protocol.endpoint import Endpoint
from elastic_inference.protocol.status import decode_error

IDEMPOTENCY_KEY = "Idempotency-Key"  # draft-ietf-httpapi-idempotency-key-header

_ANSWER_LIMIT_BYTES = 64 << 20


class _Reader(io.RawIOBase):
    """What arrives on a socket until a deadline; a socket's own time-out would start anew with each part."""

    def __init__(self, sock: socket.socket, deadline: Deadline, what: str) -> None:
        self._sock, self._deadline, self._what = sock, deadline, what

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        self._sock.settimeout(self._deadline.check(self._what))
        return self._sock.recv_into(buffer)


class _Socket:
    """As much of a socket as http.client uses."""

    def __init__(self, sock: socket.socket, deadline: Deadline, what: str) -> None:
        self._sock, self._deadline, self._what = sock, deadline, what

    def sendall(self, data: bytes) -> None:
        self._sock.settimeout(self._deadline.check(self._what))
        self._sock.sendall(data)  # its time-out is for all of the data

    def makefile(self, *_: Any) -> io.BufferedReader:
        return io.BufferedReader(_Reader(self._sock, self._deadline, self._what))

    def close(self) -> None:
        """Leave it open: http.client closes it before the answer is read where the peer closes after it."""


class _Connection(http.client.HTTPConnection):
    """HTTP over whatever an Endpoint connects to: a Unix socket, TCP or TLS."""

    def __init__(self, endpoint: Endpoint, deadline: Deadline, tls: ssl.SSLContext | None) -> None:
        super().__init__(endpoint.host_header)
        self._endpoint = endpoint
        self._what = f"the answer of {endpoint}"
        self._deadline = deadline
        self._tls = tls
        self._opened: socket.socket | None = None

    def connect(self) -> None:
        self._opened = self._endpoint.connect(self._deadline.check(self._what), self._tls)
        self.sock = _Socket(self._opened, self._deadline, self._what)

    def end(self) -> None:
        """Close the socket, where one was opened."""
        self.close()
        if self._opened is not None:
            self._opened.close()


def request_json(
    endpoint: Endpoint,
    method: str,
    path: str,
    body: Mapping[str, Any] | None = None,
    *,
    token: str | None = None,
    headers: Mapping[str, str] | None = None,
    timeout_seconds: float = 30.0,
    deadline: Deadline | None = None,
    tls: ssl.SSLContext | None = None,
) -> Any:
    """Make one HTTP request on a connection of its own and give back the JSON (or text) of the answer.

    Args:
        headers: Beside the usual ones.
        timeout_seconds: For all of it.
        deadline: Of the call that this is a part of, in place of `timeout_seconds`.

    Raises:
        ElasticInferenceError: The error that the peer answered, with its figures.
        ConnectError: Nothing was sent.
        ConnectionLost: The connection broke; the request may have been carried out.
        DeadlineExceeded: No answer in time; the request may be carried out.
    """
    deadline = deadline or Deadline(timeout_seconds)
    connection = _Connection(endpoint, deadline, tls)
    sent = {"Accept": "application/json", **(headers or {})}
    if token:
        sent["Authorization"] = f"Bearer {token}"
    data = None if body is None else json.dumps(body).encode()
    if data is not None:
        sent["Content-Type"] = "application/json"
    try:
        connection.request(method, path, data, sent)
        response = connection.getresponse()
        content = response.read(_ANSWER_LIMIT_BYTES)
    except ElasticInferenceError:
        raise
    except TimeoutError as error:
        raise DeadlineExceeded(
            f"no answer of {endpoint} to {method} {path} in {deadline.timeout_seconds:.3g} s"
        ) from error
    except (OSError, http.client.HTTPException) as error:
        raise ConnectionLost(f"connection to {endpoint} broke during {method} {path}: {error}") from error
    finally:
        connection.end()
    if response.status >= 400:
        raise decode_error(response.status, content)
    if response.status >= 300:  # nothing of ours redirects, so nothing was done
        raise ProtocolError(f"{endpoint} answered {response.status} to {method} {path}")
    if "json" not in response.headers.get("Content-Type", ""):
        return content.decode(errors="replace")
    try:
        return json.loads(content) if content else None
    except ValueError as error:
        raise ProtocolError(f"{endpoint} answered to {method} {path} what is not JSON") from error
