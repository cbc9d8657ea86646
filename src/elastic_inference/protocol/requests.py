"""One JSON request on a connection of its own, with the standard library alone: for control, never for tensors."""

from __future__ import annotations

import http.client
import json
import ssl
from collections.abc import Mapping
from typing import Any

from elastic_inference.errors import ConnectionLost, DeadlineExceeded, ElasticInferenceError, ProtocolError
from elastic_inference.protocol.endpoint import Endpoint
from elastic_inference.protocol.status import decode_error

_ANSWER_LIMIT_BYTES = 64 << 20


class _Connection(http.client.HTTPConnection):
    """HTTP over whatever an Endpoint connects to: a Unix socket, TCP or TLS."""

    def __init__(self, endpoint: Endpoint, timeout_seconds: float, tls: ssl.SSLContext | None) -> None:
        super().__init__(endpoint.host_header, timeout=timeout_seconds)
        self._endpoint = endpoint
        self._timeout_seconds = timeout_seconds
        self._tls = tls

    def connect(self) -> None:
        self.sock = self._endpoint.connect(self._timeout_seconds, self._tls)
        self.sock.settimeout(self._timeout_seconds)


def request_json(
    endpoint: Endpoint,
    method: str,
    path: str,
    body: Mapping[str, Any] | None = None,
    *,
    token: str | None = None,
    timeout_seconds: float = 30.0,
    tls: ssl.SSLContext | None = None,
) -> Any:
    """Make one HTTP request on a connection of its own and give back the JSON (or text) of the answer.

    Raises:
        ElasticInferenceError: The error that the peer answered, with its figures.
        ConnectError: Nothing was sent.
        ConnectionLost: The connection broke; the request may have been carried out.
        DeadlineExceeded: No answer in time; the request may be carried out.
    """
    connection = _Connection(endpoint, timeout_seconds, tls)
    headers = {"Accept": "application/json"}
    if token:
        headers["Authorization"] = f"Bearer {token}"
    data = None if body is None else json.dumps(body).encode()
    if data is not None:
        headers["Content-Type"] = "application/json"
    try:
        connection.request(method, path, data, headers)
        response = connection.getresponse()
        content = response.read(_ANSWER_LIMIT_BYTES)
    except ElasticInferenceError:
        raise
    except TimeoutError as error:
        raise DeadlineExceeded(
            f"no answer of {endpoint} to {method} {path} in {timeout_seconds} s"
        ) from error
    except (OSError, http.client.HTTPException) as error:
        raise ConnectionLost(f"connection to {endpoint} broke during {method} {path}: {error}") from error
    finally:
        connection.close()
    if response.status >= 400:
        raise decode_error(response.status, content)
    if "json" not in response.headers.get("Content-Type", ""):
        return content.decode(errors="replace")
    try:
        return json.loads(content) if content else None
    except ValueError as error:
        raise ProtocolError(f"{endpoint} answered to {method} {path} what is not JSON") from error
