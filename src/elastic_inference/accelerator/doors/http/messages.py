"""HTTP/1.1 as the accelerator speaks it: request heads and responses. Knows no route and no tensor."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

import httptools

from elastic_inference.errors import ElasticInferenceError, HttpError
from elastic_inference.protocol.status import REASONS, encode_error


@dataclass(frozen=True)
class Request:
    """A parsed request head.

    Attributes:
        path: Without the query, percent-decoded segment by segment in `segments`.
        headers: Lower-case names; of a header given twice the last value.
        content_length: Of the body as it is sent; 0 where it comes in chunks.
        content_coding: How the body is compressed, "identity" where it is not.
        is_packed: Whether it is compressed or comes in chunks.
        wants_continue: Whether the client sends the body only when asked to.
    """

    method: str
    path: str
    segments: tuple[str, ...]
    headers: Mapping[bytes, bytes]
    content_length: int
    keep_alive: bool
    is_chunked: bool = False
    content_coding: str = "identity"
    is_packed: bool = False
    wants_continue: bool = False

    def header(self, name: bytes) -> str | None:
        """Return a header's value as text, None where it is absent."""
        value = self.headers.get(name)
        return None if value is None else value.decode("latin-1")


@dataclass
class Response:
    """What a handler answers: a status, headers and views that are sent as they are.

    Attributes:
        lines: Further headers as they stand in the head; the hot path writes its few itself.
    """

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Sequence[bytes | memoryview] = ()
    lines: str = ""

    @classmethod
    def of_json(cls, value: Any, status: int = 200) -> Response:
        """Return a JSON body."""
        return cls(status, {"Content-Type": "application/json"}, [json.dumps(value).encode()])

    @classmethod
    def of_error(cls, error: ElasticInferenceError) -> Response:
        """Return the protocol's error body with the status that our table gives."""
        status, body = encode_error(error)
        response = cls.of_json(body, status)
        if isinstance(error, HttpError) and error.allow:
            response.headers = {**response.headers, "Allow": error.allow}
        return response

    @property
    def num_bytes(self) -> int:
        """Size of the body."""
        return sum(map(len, self.body))

    def encode(self, keep_alive: bool, num_bytes: int, with_body: bool = True) -> list[bytes | memoryview]:
        """Return the views to send, head first.

        Args:
            num_bytes: Size of the body.
            with_body: False for HEAD.
        """
        closing = "" if keep_alive else "Connection: close\r\n"
        lines = self.lines + "".join([f"{name}: {value}\r\n" for name, value in self.headers.items()])
        head = (
            f"HTTP/1.1 {self.status} {REASONS.get(self.status, 'Status')}\r\n{lines}"
            f"Content-Length: {num_bytes}\r\n{closing}\r\n"
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
        HttpError: It is not HTTP, or its body comes in an encoding that is not offered.
    """
    callbacks = _Callbacks()
    parser = callbacks.parser = httptools.HttpRequestParser(callbacks)
    try:
        parser.feed_data(head)
    except httptools.HttpParserUpgrade:
        pass  # an offer that a server may leave; Java's client makes it with every first request
    except httptools.HttpParserError as error:
        raise HttpError(f"not an HTTP/1.1 request: {error}", status=400) from error
    if not callbacks.is_complete:
        raise HttpError("not an HTTP/1.1 request: the head is incomplete", status=400)
    headers = dict(callbacks.headers)
    is_chunked = b"transfer-encoding" in headers
    if is_chunked:
        _check_chunked(headers)
    coding = headers.get(b"content-encoding", b"identity").decode("latin-1").strip().lower()
    if parser.get_http_version() not in ("1.0", "1.1"):
        raise HttpError(f"HTTP/{parser.get_http_version()} is not offered; use HTTP/1.1", status=505)
    path = _path(callbacks.url.decode("latin-1"))
    return Request(
        method=parser.get_method().decode("latin-1"),
        path=path,
        segments=tuple(unquote(segment) for segment in path.rstrip("/").split("/")[1:]),
        headers=headers,
        content_length=_content_length(headers),
        keep_alive=callbacks.keep_alive,
        is_chunked=is_chunked,
        content_coding=coding,
        wants_continue=headers.get(b"expect", b"").lower() == b"100-continue",
        is_packed=is_chunked or coding != "identity",
    )


def _path(target: str) -> str:
    """Return the path of a request target, which proxies send with scheme and host before it."""
    if not target.startswith("/"):
        scheme, mark, rest = target.partition("://")
        if mark and scheme.lower() in ("http", "https"):
            target = "/" + rest.partition("/")[2]
    return target.partition("?")[0]


def _check_chunked(headers: Mapping[bytes, bytes]) -> None:
    coding = headers[b"transfer-encoding"].strip().lower()
    if coding != b"chunked":
        raise HttpError(f"Transfer-Encoding {coding[:40]!r} is not offered; use chunked, or none", status=501)
    if b"content-length" in headers:
        raise HttpError("Content-Length and Transfer-Encoding contradict each other", status=400)


def _content_length(headers: Mapping[bytes, bytes]) -> int:
    text = headers.get(b"content-length", b"0")
    if not text.isdigit() or len(text) > 18:
        raise HttpError(f"Content-Length {text[:40]!r} is not a number of bytes", status=400)
    return int(text)
