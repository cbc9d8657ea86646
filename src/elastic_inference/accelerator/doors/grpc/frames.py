"""The frames of HTTP/2 (RFC 9113): their heads, settings and errors. Knows no connection."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from enum import IntEnum

HEAD_BYTES = 9
PREFACE_REST = b"SM\r\n\r\n"  # what follows the line by which HTTP/2 is recognized
DEFAULT_WINDOW_BYTES = 65_535
MAX_WINDOW_BYTES = (1 << 31) - 1
DEFAULT_FRAME_BYTES = 16_384
MAX_FRAME_BYTES = (1 << 24) - 1

END_STREAM, ACK, END_HEADERS, PADDED, PRIORITY = 0x1, 0x1, 0x4, 0x8, 0x20

_HEAD = struct.Struct(">HBBBI")
_SETTING = struct.Struct(">HI")
_NUMBER = struct.Struct(">I")


class Kind(IntEnum):
    """Types of frames; others are skipped."""

    DATA = 0
    HEADERS = 1
    PRIORITY = 2
    RST_STREAM = 3
    SETTINGS = 4
    PUSH_PROMISE = 5
    PING = 6
    GOAWAY = 7
    WINDOW_UPDATE = 8
    CONTINUATION = 9


class Setting(IntEnum):
    """Settings that we send or heed."""

    HEADER_TABLE_SIZE = 1
    ENABLE_PUSH = 2
    MAX_CONCURRENT_STREAMS = 3
    INITIAL_WINDOW_SIZE = 4
    MAX_FRAME_SIZE = 5
    MAX_HEADER_LIST_SIZE = 6


class Code(IntEnum):
    """Why a stream or a connection ends."""

    NO_ERROR = 0
    PROTOCOL_ERROR = 1
    INTERNAL_ERROR = 2
    FLOW_CONTROL_ERROR = 3
    STREAM_CLOSED = 5
    FRAME_SIZE_ERROR = 6
    REFUSED_STREAM = 7
    CANCEL = 8
    COMPRESSION_ERROR = 9
    ENHANCE_YOUR_CALM = 11


def parse_head(data: bytes) -> tuple[int, int, int, int]:
    """Return a frame's length, type, flags and stream."""
    high, low, kind, flags, stream = _HEAD.unpack(data)
    return high << 8 | low, kind, flags, stream & 0x7FFFFFFF


def head(length: int, kind: int, flags: int, stream: int) -> bytes:
    """Return the nine bytes before a payload of that length."""
    return _HEAD.pack(length >> 8, length & 0xFF, kind, flags, stream)


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """Return a whole frame."""
    return head(len(payload), kind, flags, stream) + payload


def settings(values: dict[int, int]) -> bytes:
    """Return a SETTINGS frame."""
    return frame(Kind.SETTINGS, 0, 0, b"".join(_SETTING.pack(*pair) for pair in values.items()))


def parse_settings(payload: bytes) -> Iterator[tuple[int, int]]:
    """Give each setting of a frame; its length is a multiple of 6."""
    return _SETTING.iter_unpack(payload)


def number(payload: bytes) -> int:
    """Return a payload of four bytes as a number, without its first bit."""
    return int(_NUMBER.unpack(payload)[0]) & 0x7FFFFFFF


def window_update(stream: int, num_bytes: int) -> bytes:
    """Return a frame that lets the peer send so many bytes more."""
    return frame(Kind.WINDOW_UPDATE, 0, stream, _NUMBER.pack(num_bytes))


def rst_stream(stream: int, code: Code) -> bytes:
    """Return a frame that ends a stream."""
    return frame(Kind.RST_STREAM, 0, stream, _NUMBER.pack(code))


def goaway(last_stream: int, code: Code, text: str) -> bytes:
    """Return a frame that ends the connection and says why."""
    return frame(Kind.GOAWAY, 0, 0, _NUMBER.pack(last_stream) + _NUMBER.pack(code) + text.encode()[:1000])
