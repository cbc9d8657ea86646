"""Header blocks of gRPC calls: what a client's say, and those that answer it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import hpack

from elastic_inference.accelerator.doors.grpc.frames import Code
from elastic_inference.errors import Http2Error, InvalidInput
from elastic_inference.protocol.status import GrpcCode

MAX_HEADER_LIST_BYTES = 1 << 16
MAX_CACHED = 64
MAX_MESSAGE_CHARACTERS = 2000  # clients refuse trailers of more than 8 KB
_SECONDS_OF_UNIT = {"H": 3600.0, "M": 60.0, "S": 1.0, "m": 1e-3, "u": 1e-6, "n": 1e-9}
_TIMEOUT = re.compile(r"(\d{1,8})([HMSmun])")


@dataclass(frozen=True)
class CallHead:
    """What a client says before its first message.

    Attributes:
        path: `/package.Service/Method`.
        timeout_seconds: From now on; None: no limit.
        coding: How its messages may be compressed, "identity" for not at all.
    """

    method: str
    path: str
    content_type: str
    timeout_seconds: float | None
    coding: str
    metadata: Mapping[bytes, bytes]

    @property
    def authorization(self) -> str | None:
        """The header that carries a token, None where it is absent."""
        value = self.metadata.get(b"authorization")
        return None if value is None else value.decode("latin-1")


class HeadReader:
    """Reads the header blocks of one connection, which build on each other.

    A client's calls differ in nothing, so a block that was read before and left the table of headers as it was
    means the same again, as long as nothing else changed that table.
    """

    def __init__(self) -> None:
        self._decoder = hpack.Decoder(MAX_HEADER_LIST_BYTES)
        self._known: dict[bytes, CallHead] = {}

    def read(self, block: bytes) -> CallHead:
        """Return what a block says.

        Raises:
            Http2Error: It cannot be read, and so none after it can.
            InvalidInput: A field of gRPC's says nothing sensible.
        """
        known = self._known.get(block)
        if known is not None:
            return known
        before = self._table()
        try:
            fields = dict(self._decoder.decode(block, raw=True))
        except hpack.HPACKError as error:
            raise Http2Error(
                f"a header block cannot be read: {error}", code=Code.COMPRESSION_ERROR
            ) from error
        head = _head(fields)
        if self._table() != before or len(self._known) >= MAX_CACHED:
            self._known.clear()
        else:
            self._known[block] = head
        return head

    def _table(self) -> tuple[Any, ...]:
        """Return what changes when an entry comes or goes: the newest one is another object then."""
        table = self._decoder.header_table
        entries = table.dynamic_entries
        return id(entries[0]) if entries else 0, len(entries), table.maxsize


def _head(fields: Mapping[bytes, bytes]) -> CallHead:
    def text(name: bytes, default: str = "") -> str:
        value = fields.get(name)
        return default if value is None else value.decode("latin-1")

    return CallHead(
        method=text(b":method"),
        path=text(b":path"),
        content_type=text(b"content-type"),
        timeout_seconds=_timeout(text(b"grpc-timeout")),
        coding=text(b"grpc-encoding", "identity"),
        metadata=fields,
    )


def _timeout(value: str) -> float | None:
    if not value:
        return None
    match = _TIMEOUT.fullmatch(value)
    if match is None:
        raise InvalidInput(f"grpc-timeout {value!r:.40} is not at most 8 digits and one of H, M, S, m, u, n")
    return int(match[1]) * _SECONDS_OF_UNIT[match[2]]


def _literal(name: bytes, value: bytes) -> bytes:
    """Return a field that no table keeps, so that blocks of ours may go out in any order."""
    return b"\x00" + _length(len(name)) + name + _length(len(value)) + value


def _length(number: int) -> bytes:
    if number < 127:
        return bytes([number])
    number -= 127
    digits = bytearray([127])
    while number >= 128:
        digits.append(number & 127 | 128)
        number >>= 7
    digits.append(number)
    return bytes(digits)


def _status(number: int) -> bytes:
    return b"\x88" if number == 200 else _literal(b":status", str(number).encode())


RESPONSE = (
    _status(200)
    + _literal(b"content-type", b"application/grpc")
    + _literal(b"grpc-accept-encoding", b"gzip, deflate, identity")
)
TRAILERS_OK = _literal(b"grpc-status", b"0")


def trailers(code: GrpcCode, message: str) -> bytes:
    """Return the block that ends an answer."""
    text = quote(message[:MAX_MESSAGE_CHARACTERS], safe=" !\"#$&'()*+,-./:;<=>?@[\\]^_`{|}~")
    return _literal(b"grpc-status", str(int(code)).encode()) + _literal(b"grpc-message", text.encode())


def not_grpc(status: int) -> bytes:
    """Return the block that answers a request that is not gRPC."""
    return _status(status)
