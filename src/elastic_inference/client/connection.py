"""One connection to an accelerator, and the pool of them that threads share."""

from __future__ import annotations

import json
import os
import ssl
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from elastic_inference.errors import ConnectionLost, InvalidInput, ProtocolError
from elastic_inference.protocol.endpoint import Endpoint, tune
from elastic_inference.protocol.shared_memory import Region
from elastic_inference.protocol.status import decode_error
from elastic_inference.protocol.stream import Stream

MAX_ERROR_BYTES = 1 << 20


@dataclass(frozen=True)
class Address:
    """How to reach an accelerator.

    Attributes:
        token: Bearer token, None for none.
        tls: Context for `tls` endpoints; None takes the system's certificates.
    """

    endpoint: Endpoint
    token: str | None = None
    tls: ssl.SSLContext | None = None

    def headers(self) -> bytes:
        """The header lines that every request carries."""
        lines = f"Host: {self.endpoint.host_header}\r\n"
        if self.token is not None:
            if not self.token.isascii() or not self.token.isprintable():
                raise InvalidInput("token must be printable ASCII")
            lines += f"Authorization: Bearer {self.token}\r\n"
        return lines.encode()


@dataclass
class ResponseHead:
    """Status and headers of a response whose body is still to be read; header names are lower-case."""

    status: int
    headers: dict[bytes, bytes] = field(default_factory=dict)
    content_length: int = 0


class Connection:
    """One connection; for one thread at a time.

    Attributes:
        region: Shared memory that this connection has registered with the accelerator, None before its first use.
    """

    def __init__(self, address: Address, timeout_seconds: float | None) -> None:
        sock = address.endpoint.connect(timeout_seconds, address.tls)
        tune(sock)
        self.stream = Stream(sock)
        self.headers = address.headers()
        self.region: Region | None = None
        self.is_reusable = True

    def exchange(self, request: Sequence[bytes | memoryview]) -> ResponseHead:
        """Send a whole request and read the response's head."""
        self.is_reusable = False  # until the body was read to its end
        self.stream.send(request)
        return self.read_response_head()

    def read_response_head(self) -> ResponseHead:
        """Read status line and headers; ProtocolError where they are not HTTP/1.1 with a Content-Length."""
        raw = self.stream.read_head()
        if raw is None:
            raise ConnectionLost("the accelerator closed the connection without an answer")
        first, _, rest = raw.partition(b"\r\n")
        if not first.startswith(b"HTTP/1.1 ") or not first[9:12].isdigit():
            raise ProtocolError(f"not an HTTP/1.1 response: {first[:80]!r}")
        head = ResponseHead(int(first[9:12]))
        for line in rest.split(b"\r\n"):
            name, separator, value = line.partition(b":")
            if separator:
                head.headers[name.lower()] = value.strip()
        length = head.headers.get(b"content-length")
        if length is None or not length.isdigit():
            raise ProtocolError("the response has no Content-Length")
        head.content_length = int(length)
        return head

    def finish(self, head: ResponseHead) -> None:
        """The body was read to its end: the connection may carry the next request, unless the server closes."""
        self.is_reusable = head.headers.get(b"connection", b"").lower() != b"close"

    def read_error(self, head: ResponseHead) -> Exception:
        """Read an error's body and give the error that it stands for."""
        body = self.stream.read(min(head.content_length, MAX_ERROR_BYTES))
        if head.content_length <= MAX_ERROR_BYTES:
            self.finish(head)
        return decode_error(head.status, body)

    def call(
        self,
        method: str,
        path: str,
        body: bytes | memoryview = b"",
        headers: Mapping[str, str] | None = None,
        ok: Sequence[int] = (200, 201),
    ) -> dict[str, Any]:
        """One request outside the hot path, with a JSON answer ({} for none).

        Raises:
            ElasticInferenceError: Whatever the accelerator answered instead of a status in `ok`.
        """
        lines = "".join(f"{name}: {value}\r\n" for name, value in (headers or {}).items())
        start = f"{method} {path} HTTP/1.1\r\n{lines}Content-Length: {len(body)}\r\n".encode()
        head = self.exchange([start + self.headers + b"\r\n", body])
        if head.status not in ok:
            raise self.read_error(head)
        text = b"" if method == "HEAD" else self.stream.read(head.content_length)
        self.finish(head)
        try:
            value = json.loads(text or b"{}")
        except ValueError as error:
            raise ProtocolError(f"{method} {path}: the answer is not JSON: {text[:80]!r}") from error
        return value if isinstance(value, dict) else {"value": value}

    def close(self) -> None:
        """Close the socket, which also ends the registration of the region; closing twice is fine."""
        if self.region is not None:
            self.region.close()
            self.region = None
        self.stream.close()


class ConnectionPool:
    """Connections to one accelerator, kept between calls, for any number of threads and after a fork.

    Args:
        address: Where to; `redirect` changes it.
        connect_timeout_seconds: For each new connection.
    """

    def __init__(self, address: Address, connect_timeout_seconds: float = 10.0) -> None:
        self.address = address
        self._connect_timeout_seconds = connect_timeout_seconds
        self._idle: list[Connection] = []
        self._pid = os.getpid()
        self._lock = threading.Lock()

    @contextmanager
    def connection(self, timeout_seconds: float | None) -> Iterator[Connection]:
        """Lend a connection for one exchange; one that broke is not lent again."""
        connection = self._take()
        if connection is None:
            wait = self._connect_timeout_seconds
            connection = Connection(
                self.address, wait if timeout_seconds is None else min(wait, timeout_seconds)
            )
        try:
            connection.stream.set_timeout(timeout_seconds)
            yield connection
        except BaseException:
            if not connection.is_reusable:
                connection.close()
                connection = None
            raise
        finally:
            if connection is not None:
                self._give_back(connection)

    def _take(self) -> Connection | None:
        if self._pid != os.getpid():
            # A forked child shares its parent's sockets and perhaps a held lock: it starts with nothing.
            self._pid, self._lock, self._idle = os.getpid(), threading.Lock(), []
        with self._lock:
            return self._idle.pop() if self._idle else None

    def _give_back(self, connection: Connection) -> None:
        if not connection.is_reusable:
            connection.close()
            return
        with self._lock:
            self._idle.append(connection)

    def drop_idle(self) -> None:
        """Close all idle connections, such as after one of them broke; closing twice is fine."""
        if self._pid != os.getpid():
            return
        with self._lock:
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    close = drop_idle
