"""Fields of protocol buffers written by hand: for messages that hold tensors, and where protobuf is not at hand."""

from __future__ import annotations

LENGTH_DELIMITED = 2


def varint(value: int) -> bytes:
    """Return a number of 0 or more."""
    parts = bytearray()
    while value > 0x7F:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    parts.append(value)
    return bytes(parts)


def head(number: int, num_bytes: int) -> bytes:
    """Return what stands before the bytes of a field."""
    return varint(number << 3 | LENGTH_DELIMITED) + varint(num_bytes)


def field(number: int, data: bytes) -> bytes:
    """Return a field of bytes, text or a message."""
    return head(number, len(data)) + data
