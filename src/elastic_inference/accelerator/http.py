"""HTTP/1.1 as the accelerator speaks it: request heads, bodies, responses. Knows no route and no tensor."""

from __future__ import annotations

import contextlib
import json
import mmap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

import httptools

from elastic_inference.errors import ElasticInferenceError, HttpError, ProtocolError
from elastic_inference.protocol.status import REASONS, encode_error
from elastic_inference.protocol.stream import Stream

KEPT_BUFFER_BYTES = 64 << 20  # a connection keeps at most this much between requests
DISCARD_STEP_BYTES = 1 << 16
_PAGE = mmap.PAGESIZE
_HUGE_PAGE = 2 << 20


@dataclass(frozen=True)
class Request:
    """A parsed request head.

    Attributes:
        path: Without the query, percent-decoded segment by segment in `segments`.
        headers: Lower-case names; of a header given twice the last value.
    """

    method: str
    path: str
    segments: tuple[str, ...]
    headers: Mapping[bytes, bytes]
    content_length: int
    keep_alive: bool

    def header(self, name: bytes) -> str | None:
        """Return a header's value as text, None where it is absent."""
        value = self.headers.get(name)
        return None if value is None else value.decode("latin-1")


@dataclass
class Response:
    """What a handler answers: a status, headers and views that are sent as they are."""

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Sequence[bytes | memoryview] = ()

    @classmethod
    def of_json(cls, value: Any, status: int = 200) -> Response:
        """Return a JSON body."""
        return cls(status, {"Content-Type": "application/json"}, [json.dumps(value).encode()])

    @classmethod
    def of_error(cls, error: ElasticInferenceError) -> Response:
        """Return the protocol's error body with the status that our table gives."""
        status, body = encode_error(error)
        return cls.of_json(body, status)

    def encode(self, keep_alive: bool, with_body: bool = True) -> list[bytes | memoryview]:
        """Return the views to send, head first; `with_body` is False for HEAD."""
        closing = "" if keep_alive else "Connection: close\r\n"
        lines = "".join([f"{name}: {value}\r\n" for name, value in self.headers.items()])
        head = (
            f"HTTP/1.1 {self.status} {REASONS.get(self.status, 'Status')}\r\n{lines}"
            f"Content-Length: {sum(map(len, self.body))}\r\n{closing}\r\n"
        ).encode("latin-1")
        return [head, *self.body] if with_body else [head]


class _Callbacks:
    """What httptools calls while it reads a head."""

    def __init__(self) -> None:
        self.url = b""
        self.headers: list[tuple[bytes, bytes]] = []
        self.is_complete = False
        self.keep_alive = True
        self.parser: Any = None

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        self.is_complete = True
        # Asked here, because llhttp forgets it at the end of a message, which a head without body is.
        self.keep_alive = self.parser.should_keep_alive()


def parse_head(head: bytes) -> Request:
    """Read a request head that ends with its blank line.

    Raises:
        HttpError: It is not HTTP, or asks for what is not offered (chunked bodies, upgrades).
    """
    callbacks = _Callbacks()
    parser = callbacks.parser = httptools.HttpRequestParser(callbacks)
    try:
        parser.feed_data(head)
    except httptools.HttpParserUpgrade as error:
        raise HttpError("upgrades are not offered", status=501) from error
    except httptools.HttpParserError as error:
        raise HttpError(f"not an HTTP/1.1 request: {error}", status=400) from error
    if not callbacks.is_complete:
        raise HttpError("not an HTTP/1.1 request: the head is incomplete", status=400)
    headers = dict(callbacks.headers)
    if b"transfer-encoding" in headers:
        raise HttpError("chunked bodies are not offered; send Content-Length", status=411)
    if parser.get_http_version() not in ("1.0", "1.1"):
        raise HttpError(f"HTTP/{parser.get_http_version()} is not offered; use HTTP/1.1", status=505)
    path = callbacks.url.decode("latin-1").partition("?")[0]
    return Request(
        method=parser.get_method().decode("latin-1"),
        path=path,
        segments=tuple(unquote(segment) for segment in path.split("/")[1:]),
        headers=headers,
        content_length=_content_length(headers),
        keep_alive=callbacks.keep_alive,
    )


def _content_length(headers: Mapping[bytes, bytes]) -> int:
    text = headers.get(b"content-length", b"0")
    if not text.isdigit() or len(text) > 18:
        raise HttpError(f"Content-Length {text[:40]!r} is not a number of bytes", status=400)
    return int(text)


class KeptBuffer:
    """Page-aligned memory that is kept from request to request, so that its pages stay warm."""

    def __init__(self) -> None:
        self._mapping: mmap.mmap | None = None

    def take(self, size_bytes: int) -> memoryview:
        """At least `size_bytes`, valid until the next call; contents are left over."""
        if self._mapping is None or len(self._mapping) < size_bytes:
            self._mapping = None  # the old one goes first: both at once might exceed the memory limit
            try:
                self._mapping = _map(size_bytes)
            except OSError as error:
                raise MemoryError(f"no memory for a body of {size_bytes} bytes") from error
        return memoryview(self._mapping)

    def trim(self, limit_bytes: int = KEPT_BUFFER_BYTES) -> None:
        """Give the memory back where it is more than may be kept."""
        if self._mapping is not None and len(self._mapping) > limit_bytes:
            self._mapping = None


def _map(size_bytes: int) -> mmap.mmap:
    # Private, because shared anonymous memory would not count against the process's memory limit; in huge pages where
    # it is large, because receiving a frame into them takes a sixth less of the core.
    huge = size_bytes >= _HUGE_PAGE
    page = _HUGE_PAGE if huge else _PAGE
    size = max(-(-size_bytes // page) * page, page)
    mapping = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if huge and hasattr(mmap, "MADV_HUGEPAGE"):
        with contextlib.suppress(OSError):  # a kernel without huge pages
            mapping.madvise(mmap.MADV_HUGEPAGE)
    return mapping


class Body:
    """The body of one request, read at most once."""

    def __init__(self, stream: Stream, length: int, wants_continue: bool) -> None:
        self._stream = stream
        self._wants_continue = wants_continue
        self.remaining = length

    def read_into(self, view: memoryview) -> None:
        """Fill `view` with the next bytes; ProtocolError where the body is shorter."""
        if len(view) > self.remaining:
            raise ProtocolError(f"the body has {self.remaining} bytes left, but {len(view)} are needed")
        if self._wants_continue:
            self._wants_continue = False
            self._stream.send([b"HTTP/1.1 100 Continue\r\n\r\n"])
        self._stream.read_into(view)
        self.remaining -= len(view)  # only now: after a read that failed, what comes next is no request

    def read(self, limit_bytes: int) -> bytes:
        """Return the whole rest; HttpError 413 where it is larger than the limit."""
        if self.remaining > limit_bytes:
            raise HttpError(
                f"the body of {self.remaining} bytes exceeds the limit of {limit_bytes}", status=413
            )
        data = bytearray(self.remaining)
        self.read_into(memoryview(data))
        return bytes(data)

    def read_json(self, limit_bytes: int = 16 << 20) -> dict[str, Any]:
        """Return the whole rest as a JSON object; {} for an empty body."""
        data = self.read(limit_bytes)
        if not data:
            return {}
        try:
            value = json.loads(data)
        except (ValueError, RecursionError) as error:
            raise HttpError(f"the body is not JSON: {error}", status=400) from error
        if not isinstance(value, dict):
            raise HttpError("the body must be a JSON object", status=400)
        return value

    def discard(self, limit_bytes: int) -> bool:
        """Skip what no one read, so that the next request can follow; False where that is not worth it."""
        if not self.remaining:
            return True
        if self.remaining > limit_bytes or self._wants_continue:
            return False
        scratch = memoryview(bytearray(DISCARD_STEP_BYTES))
        while self.remaining:
            self.read_into(scratch[: min(self.remaining, DISCARD_STEP_BYTES)])
        return True
