"""Arrays as the bytes of the binary tensor extension and back: little-endian, row-major, strings with lengths."""

from __future__ import annotations

import math
import struct
from typing import Any

import numpy as np
import numpy.typing as npt

from elastic_inference.errors import InvalidInput
from elastic_inference.tensors import NUMPY_DTYPES, from_bfloat16_bits, to_bfloat16_bits

_LENGTH = struct.Struct("<I")


def to_bytes(array: npt.NDArray[Any]) -> memoryview:
    """Return the bytes of an array; a view where it is C-contiguous, else of a copy; strings are encoded."""
    if array.dtype == object:
        return memoryview(encode_strings(array))
    # A view of the array itself: reshape(-1) of a contiguous one copies nothing, and rank 0 has no cast.
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data


def encode_strings(array: npt.NDArray[Any]) -> bytes:
    """Each element as its length (uint32) and its bytes."""
    parts: list[bytes] = []
    for item in array.ravel().tolist():
        data = item.encode() if isinstance(item, str) else bytes(item)
        parts += (_LENGTH.pack(len(data)), data)
    return b"".join(parts)


def decode_strings(data: memoryview, shape: tuple[int, ...], name: str) -> npt.NDArray[Any]:
    """Read what `encode_strings` wrote; raises InvalidInput where lengths and shape do not agree."""
    items: list[bytes] = []
    position = 0
    count = math.prod(shape)
    while position + 4 <= len(data) and len(items) < count:
        (length,) = _LENGTH.unpack_from(data, position)
        if position + 4 + length > len(data):
            break
        items.append(bytes(data[position + 4 : position + 4 + length]))
        position += 4 + length
    if len(items) != count or position != len(data):
        raise InvalidInput(
            f"tensor {name!r} of shape {list(shape)} needs {count} strings that fill {len(data)} bytes; "
            f"{len(items)} were found in {position} bytes"
        )
    return _object_array(items, shape)


def view_of(data: memoryview, dtype: str, shape: tuple[int, ...], name: str) -> npt.NDArray[Any]:
    """Return an array that looks at `data`; a copy only for strings and where the bytes are not aligned."""
    if dtype == "string":
        return decode_strings(data, shape, name)
    array: npt.NDArray[Any] = np.frombuffer(data, NUMPY_DTYPES[dtype]).reshape(shape)
    return array if array.flags.aligned else array.copy()


def from_json(value: Any, dtype: str, shape: tuple[int, ...], name: str) -> npt.NDArray[Any]:
    """Return an array from the inline JSON form, flat or nested; raises InvalidInput where it does not fit.

    Strings may be bytes too, which JSON does not have and other forms of a message do.
    """
    try:
        if dtype == "string":
            flat = _flatten(value)
            items = [item.encode() if isinstance(item, str) else item for item in flat]
            if not all(isinstance(item, bytes) for item in items):
                raise InvalidInput(f"data of {name!r} must be strings")
            array = _object_array(items, (len(items),))
        else:
            is_bfloat16 = dtype == "bfloat16"
            with np.errstate(over="ignore"):  # 1e300 is infinite as float32
                array = np.asarray(value, np.float32 if is_bfloat16 else NUMPY_DTYPES[dtype])
            array = to_bfloat16_bits(array) if is_bfloat16 else array
        return array.reshape(shape)
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        raise InvalidInput(
            f"data of {name!r} does not make a {dtype} tensor of shape {list(shape)}: {error}"
        ) from error


def to_json(array: npt.NDArray[Any], dtype: str, name: str) -> list[Any]:
    """Return the flat inline JSON form; strings as text, bytes that are not UTF-8 replaced.

    Raises:
        InvalidInput: A value is NaN or infinite. JSON has neither; null in their place would be read as 0 by some.
    """
    if dtype == "bfloat16":
        array = from_bfloat16_bits(array).astype(np.float32)
    if array.dtype == object:
        return [
            i.decode(errors="replace") if isinstance(i, bytes) else str(i) for i in array.ravel().tolist()
        ]
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise InvalidInput(
            f"output {name!r} holds NaN or infinity, which JSON does not have; ask for binary data, by the parameter "
            "binary_data_output of the request or binary_data of the output"
        )
    flat: list[Any] = array.ravel().tolist()
    return flat


def _flatten(value: Any) -> list[Any]:
    return [item for entry in value for item in _flatten(entry)] if isinstance(value, list) else [value]


def _object_array(items: list[Any], shape: tuple[int, ...]) -> npt.NDArray[Any]:
    array = np.empty(len(items), dtype=object)
    array[:] = items
    return array.reshape(shape)
