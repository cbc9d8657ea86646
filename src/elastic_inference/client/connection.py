"""One connection to an accelerator, and the pool of them that threads share."""

from __future__ import annotations

import json
import os
import ssl
import threading
import time
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from elastic_inference.client.response import ResponseHead, kept_headers
from elastic_inference.deadline import Deadline
from elastic_inference.errors import (
    ConnectError,
    ConnectionLost,
    DeadlineExceeded,
    InvalidInput,
    PredictorClosed,
    ProtocolError,
    TransportError,
)
from elastic_inference.protocol.endpoint import Endpoint, tune
from elastic_inference.protocol.shared_memory import Region
from elastic_inference.protocol.status import decode_error
from elastic_inference.protocol.stream import Stream

_TIMING = b"Server-Timing:"
MAX_JSON_BYTES = 64 << 20  # of an answer that is read as a whole
MAX_ERROR_BYTES = 1 << 20
REGION_IDLE_SECONDS = 30.0
"""After which shared memory that no call has used is given back."""


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
        """Return the header lines that every request carries."""
        lines = f"Host: {self.endpoint.host_header}\r\n"
        if self.token is not None:
            if not self.token.isascii() or not self.token.isprintable():
                raise InvalidInput("token must be printable ASCII")
            lines += f"Authorization: Bearer {self.token}\r\n"
        return lines.encode()


class Connection:
    """One connection; for one thread at a time.

    Attributes:
        address: Where to.
        region: Shared memory that this connection has registered with the accelerator, None before its first use.
        region_used: When a call last used it, as time.monotonic() tells.
        began: When the exchange under way began, as time.monotonic tells; None: there is none.
        is_reusable: Whether it may carry another exchange.
        is_parents: Whether it was made before this process was forked off, whose parent goes on using it.
    """

    def __init__(self, address: Address, timeout_seconds: float | None) -> None:
        self.address = address
        self.headers = address.headers()
        sock = address.endpoint.connect(timeout_seconds, address.tls)
        tune(sock)
        self.stream = Stream(sock)
        self.region: Region | None = None
        self.region_used = 0.0
        self.began: float | None = None
        self.is_reusable = True
        self.is_parents = False
        _open_connections.add(self)

    def exchange(self, request: Sequence[bytes | memoryview]) -> ResponseHead:
        """Send a whole request and read the response's head."""
        self.is_reusable = False  # until the body was read to its end
        try:
            self.stream.send(request)
        except ConnectionLost as lost:
            # An accelerator that refuses a large body answers and closes before it has all of it.
            try:
                return self.read_response_head()
            except TransportError:
                raise lost from None
        return self.read_response_head()

    def read_response_head(self) -> ResponseHead:
        """Read status line and headers; ProtocolError where they are not HTTP/1.1 with a Content-Length."""
        raw = self.stream.read_head()
        if raw is None:
            raise ConnectionLost("the accelerator closed the connection without an answer")
        first, _, lines = raw.partition(b"\r\n")
        if not first.startswith(b"HTTP/1.1 ") or not first[9:12].isdigit():
            raise ProtocolError(f"not an HTTP/1.1 response: {first[:80]!r}")
        # An accelerator's first header says where the time went; the others are the same from call to call.
        if lines.startswith(_TIMING):
            timing, _, lines = lines.partition(b"\r\n")
        else:
            timing = b""
        return ResponseHead(int(first[9:12]), kept_headers(lines), timing)

    def finish(self, head: ResponseHead) -> None:
        """Note that the body was read to its end: the next request may follow, unless the server closes."""
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
        if head.content_length > MAX_JSON_BYTES:
            raise ProtocolError(f"{method} {path}: the answer has {head.content_length} bytes")
        text = self.stream.read(head.content_length)
        self.finish(head)
        try:
            value = json.loads(text or b"{}")
        except (ValueError, RecursionError) as error:
            raise ProtocolError(f"{method} {path}: the answer is not JSON: {text[:80]!r}") from error
        return value if isinstance(value, dict) else {"value": value}

    def end_region(self) -> None:
        """Give the region back on both sides, and keep the connection."""
        region, self.region = self.region, None
        if region is not None:
            try:
                self.call("POST", f"/v2/systemsharedmemory/region/{region.key[1:]}/unregister")
            finally:
                region.close()

    def close(self) -> None:
        """Close the socket, which also ends the registration of the region; closing twice is fine."""
        if self.region is not None:
            self.region.close()
            self.region = None
        self.stream.close()

    def leave_to_parent(self) -> None:
        """In a forked child: close this side's copy of the socket, which says nothing to the accelerator.

        Whoever was in the middle of an exchange when its own thread forked (in a handler of signals, in `progress`)
        would read the parent's answer; now it finds the connection lost, and tries again on one of its own.
        """
        self.is_parents = True
        self.region = None
        self.stream.close()


# Also those that are lent: only so can a child close all that it has of its parent's.
_open_connections: weakref.WeakSet[Connection] = weakref.WeakSet()
_pools: weakref.WeakSet[ConnectionPool] = weakref.WeakSet()


def _forget_after_fork() -> None:
    for pool in _pools:
        pool.forget()
    for connection in _open_connections:
        connection.leave_to_parent()


if hasattr(os, "register_at_fork"):  # not on Windows, where nothing forks
    os.register_at_fork(after_in_child=_forget_after_fork)


class ConnectionPool:
    """Connections to one accelerator, kept between calls, for any number of threads and after a fork.

    One whose shared memory no call has used for `REGION_IDLE_SECONDS` is closed, which gives that back on both sides.

    Args:
        address: Where to.
        connect_timeout_seconds: For each new connection.
    """

    def __init__(self, address: Address, connect_timeout_seconds: float = 10.0) -> None:
        self.address = address
        self._connect_timeout_seconds = connect_timeout_seconds
        self._idle: list[Connection] = []
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._is_closed = False
        self._watch: threading.Timer | None = None
        _pools.add(self)

    def forget(self) -> None:
        """In a forked child: start with nothing. The parent's sockets stay its own, and its lock may be held."""
        self._pid, self._lock, self._idle = os.getpid(), threading.Lock(), []
        self._watch = None  # its thread is the parent's

    def connection(self, deadline: Deadline) -> Lent:
        """Return a context manager that lends a connection for one exchange, until this deadline.

        Raises:
            ConnectError: No connection could be made.
            DeadlineExceeded: The time was over before one was made.
            PredictorClosed: The pool was closed.
        """
        return Lent(self, deadline)

    def _take(self, deadline: Deadline) -> Connection:
        if self._pid != os.getpid():
            self.forget()  # uWSGI forks without Python's knowledge unless it is asked to tell
        with self._lock:
            if self._idle:
                return self._idle.pop()
            if self._is_closed:
                raise PredictorClosed("the predictor was closed")
        return self._connect(deadline)

    def _connect(self, deadline: Deadline) -> Connection:
        limit = self._connect_timeout_seconds
        left = deadline.check("a connection")
        if left is not None and left <= limit:
            return Connection(self.address, left)
        try:
            return Connection(self.address, limit)
        except DeadlineExceeded as error:  # of the connection, not of the call, which may try again
            raise ConnectError(str(error)) from error

    def _give_back(self, connection: Connection) -> None:
        if connection.is_reusable and not connection.is_parents:
            with self._lock:
                if not self._is_closed and connection.address is self.address:
                    self._idle.append(connection)
                    if connection.region is not None and self._watch is None:
                        self._watch_regions(REGION_IDLE_SECONDS)
                    return
        connection.close()

    def _watch_regions(self, seconds: float) -> None:
        """Look for unused regions in this time; the lock is held."""
        self._watch = threading.Timer(seconds, _close_unused, [weakref.ref(self)])
        self._watch.daemon = True
        self._watch.start()

    def close_unused(self) -> None:
        """Close idle connections whose region was not used lately, and look again while there are others."""
        now = time.monotonic()
        with self._lock:
            holders = [connection for connection in self._idle if connection.region is not None]
            unused = [each for each in holders if now - each.region_used >= REGION_IDLE_SECONDS]
            self._idle = [connection for connection in self._idle if connection not in unused]
            self._watch = None
            left = [each.region_used for each in holders if each not in unused]
            if left and not self._is_closed:
                self._watch_regions(min(left) + REGION_IDLE_SECONDS - now)
        for connection in unused:
            connection.close()

    def drop_regions(self) -> None:
        """Close the idle connections that have a region: shared memory is given up."""
        with self._lock:
            holders = [connection for connection in self._idle if connection.region is not None]
            self._idle = [connection for connection in self._idle if connection.region is None]
        for connection in holders:
            connection.close()

    def move(self, address: Address) -> None:
        """Connect elsewhere from now on; calls under way on the old place's connections are tried again there.

        The old place may be cut off, where an answer would never come, so their sockets are shut down.
        """
        with self._lock:
            before, self.address = self.address, address
        self.drop_idle()
        for connection in _all_open():
            if connection.address is before and not connection.is_parents:
                connection.is_reusable = False
                connection.stream.abort()

    def waits_since(self) -> float | None:
        """When the exchange began that has been under way for longest, on time.monotonic; None: there is none."""
        began = [each.began for each in _all_open() if each.address is self.address]
        return min((at for at in began if at is not None), default=None)

    def drop_idle(self) -> None:
        """Close all idle connections, such as after one of them broke."""
        if self._pid != os.getpid():
            return
        with self._lock:
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    def close(self) -> None:
        """Close what is idle now and, when it comes back, what is lent; closing twice is fine."""
        self._is_closed = True
        if self._watch is not None and self._pid == os.getpid():
            self._watch.cancel()
        self.drop_idle()


def _all_open() -> list[Connection]:
    while True:
        try:
            return list(_open_connections)
        except RuntimeError:  # another thread opened one meanwhile
            continue


def _close_unused(pool: weakref.ref[ConnectionPool]) -> None:
    """Look after a pool, if it is still there; a timer runs this, and keeps no pool alive."""
    found = pool()
    if found is not None:
        found.close_unused()


class Lent:
    """A connection lent for one exchange; one that broke off in the middle is not lent again.

    A class, because this is the hot path and a generator would cost three times as much.
    """

    __slots__ = ("_connection", "_deadline", "_pool")

    def __init__(self, pool: ConnectionPool, deadline: Deadline) -> None:
        self._pool = pool
        self._deadline = deadline
        self._connection: Connection

    def __enter__(self) -> Connection:
        deadline = self._deadline
        self._connection = connection = self._pool._take(deadline)
        connection.began = time.monotonic()
        connection.stream.set_deadline(deadline)
        if deadline.cancellation is not None:
            deadline.cancellation.wake_by(connection.stream.abort)
        return connection

    def __exit__(self, *_: object) -> None:
        self._connection.began = None
        cancellation = self._deadline.cancellation
        if cancellation is not None:
            cancellation.wake_by(None)
            if cancellation.is_cancelled:
                self._connection.is_reusable = False  # it was aborted, perhaps after its last byte had come
        self._pool._give_back(self._connection)
