"""Protocol buffers field by field, with the standard library alone: for what a client must read of a model itself.

Knows the encoding and no message. Large fields are views, so that skipping a gigabyte of weights costs nothing.
"""

from __future__ import annotations

from collections.abc import Iterator

from elastic_inference.errors import InvalidModel

_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5
_SIZES = {_FIXED64: 8, _FIXED32: 4}

Value = int | memoryview


def fields(message: memoryview) -> Iterator[tuple[int, Value]]:
    """Yield the fields of a message in their order: number, and an int (varint) or the field's bytes.

    Raises:
        InvalidModel: The bytes are no message.
    """
    position = 0
    while position < len(message):
        key, position = _varint(message, position)
        number, kind = key >> 3, key & 7
        if kind == _VARINT:
            value, position = _varint(message, position)
            yield number, value
            continue
        if kind == _LENGTH:
            size, position = _varint(message, position)
        elif kind in _SIZES:
            size = _SIZES[kind]
        else:
            raise InvalidModel(f"no protocol buffer: field {number} has wire type {kind}")
        if not number or position + size > len(message):
            raise InvalidModel(f"no protocol buffer, or cut short: field {number} claims {size} bytes")
        yield number, message[position : position + size]
        position += size


def text(value: Value) -> str:
    """Return a string field; what is not UTF-8 is replaced."""
    return "" if isinstance(value, int) else bytes(value).decode(errors="replace")


def signed(value: Value) -> int:
    """Return an int64 field."""
    if not isinstance(value, int):
        raise InvalidModel("no protocol buffer of this kind: a number was expected")
    return value - (1 << 64) if value >> 63 else value


def packed(value: Value) -> list[int]:
    """Return a repeated int64 field, or one element of it where it is not packed."""
    if isinstance(value, int):
        return [signed(value)]
    numbers, position = [], 0
    while position < len(value):
        number, position = _varint(value, position)
        numbers.append(signed(number))
    return numbers


def _varint(message: memoryview, position: int) -> tuple[int, int]:
    result = shift = 0
    while position < len(message) and shift < 70:
        byte = message[position]
        position += 1
        result |= (byte & 0x7F) << shift
        if byte < 0x80:
            return result & 0xFFFF_FFFF_FFFF_FFFF, position
        shift += 7
    raise InvalidModel("no protocol buffer, or cut short: a number does not end")
