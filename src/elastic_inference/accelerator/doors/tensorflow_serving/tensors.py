"""TensorProto to arrays and back. A tensor's content is looked at where it was received, and sent from where it is."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from elastic_inference.accelerator.doors.tensorflow_serving import messages
from elastic_inference.accelerator.doors.tensorflow_serving.wire_format import field, head, varint
from elastic_inference.errors import InvalidInput, InvalidModel, MemoryQuotaExceeded
from elastic_inference.models import protobuf_wire
from elastic_inference.protocol.heads import MAX_RANK
from elastic_inference.tensors import NUMPY_DTYPES, TensorSpec

DTYPE_NUMBERS = {
    "float32": 1, "float64": 2, "int32": 3, "uint8": 4, "int16": 5, "int8": 6, "string": 7, "int64": 9, "bool": 10,
    "bfloat16": 14, "uint16": 17, "float16": 19, "uint32": 22, "uint64": 23,
}  # fmt: skip
_DTYPE_OF_NUMBER = {number: dtype for dtype, number in DTYPE_NUMBERS.items()}
_VALUES = {
    "float32": "float_val", "float64": "double_val", "int32": "int_val", "uint8": "int_val", "int16": "int_val",
    "int8": "int_val", "uint16": "int_val", "string": "string_val", "int64": "int64_val", "bool": "bool_val",
    "bfloat16": "half_val", "float16": "half_val", "uint32": "uint32_val", "uint64": "uint64_val",
}  # fmt: skip
_DTYPE, _SHAPE, _CONTENT, _STRINGS = 1, 2, 4, 8  # fields of TensorProto


def fields(message: memoryview) -> list[tuple[int, protobuf_wire.Value]]:
    """Return the fields of a message; raises InvalidInput where the bytes are none."""
    try:
        return list(protobuf_wire.fields(message))
    except InvalidModel as error:
        raise InvalidInput(f"the request is cut short or malformed: {error}") from error


def read_tensor(message: memoryview, alias: str, spec: TensorSpec, limit_bytes: int) -> npt.NDArray[Any]:
    """Return the array of a TensorProto; it looks at the message where the tensor comes as content.

    Args:
        spec: The model's tensor.
        limit_bytes: What an array may take that a few values are repeated to fill.

    Raises:
        InvalidInput: Its dtype is another, or size and shape do not agree.
        MemoryQuotaExceeded: Its shape is too large for the values that came.
    """
    number, content, shape_message = 0, memoryview(b""), memoryview(b"")
    for key, value in fields(message):
        if key == _DTYPE and isinstance(value, int):
            number = value
        elif key == _SHAPE and not isinstance(value, int):
            shape_message = value
        elif key == _CONTENT and not isinstance(value, int):
            content = value
    dtype = _DTYPE_OF_NUMBER.get(number)
    if dtype != spec.base_dtype:
        raise InvalidInput(
            f"input {alias!r} is {dtype or f'of type {number}'}, the model's is {spec.base_dtype}"
        )
    shape = _read_shape(shape_message, alias)
    if not len(content):
        return _of_values(messages.parse("tensorflow.TensorProto", message), dtype, shape, alias, limit_bytes)
    if dtype == "string":
        raise InvalidInput(f"input {alias!r} is string and must come as string_val")
    item = NUMPY_DTYPES[dtype]
    if len(content) != math.prod(shape) * item.itemsize:
        raise InvalidInput(
            f"input {alias!r} of shape {list(shape)} has {math.prod(shape) * item.itemsize} bytes, tensor_content "
            f"{len(content)}"
        )
    return np.frombuffer(content, item).reshape(shape)


def _read_shape(message: memoryview, alias: str) -> tuple[int, ...]:
    shape = messages.parse("tensorflow.TensorShapeProto", message)
    sizes = tuple(dim.size for dim in shape.dim)
    if shape.unknown_rank or any(size < 0 for size in sizes) or len(sizes) > MAX_RANK:
        raise InvalidInput(f"input {alias!r} needs a shape of at most {MAX_RANK} sizes, all of 0 or more")
    return sizes


def _of_values(
    tensor: Any, dtype: str, shape: tuple[int, ...], alias: str, limit_bytes: int
) -> npt.NDArray[Any]:
    """Return the array of a tensor whose values are listed; the last one stands for all that are left out."""
    values = getattr(tensor, _VALUES[dtype])
    count = math.prod(shape)
    if len(values) > count or (count and not values):
        raise InvalidInput(
            f"input {alias!r} of shape {list(shape)} has {count} values; {len(values)} came as {_VALUES[dtype]}"
        )
    if count * max(NUMPY_DTYPES[dtype].itemsize, 1) > limit_bytes:
        raise MemoryQuotaExceeded(
            f"input {alias!r} of shape {list(shape)} exceeds the limit of {limit_bytes} bytes",
            limit_bytes=limit_bytes,
        )
    array = np.empty(count, NUMPY_DTYPES[dtype])
    if count:
        array[: len(values)] = _cast(values, dtype, alias)
        array[len(values) :] = array[len(values) - 1]
    return array.reshape(shape)


def _cast(values: Any, dtype: str, alias: str) -> npt.NDArray[Any]:
    if dtype == "string":
        found = np.empty(len(values), object)
        found[:] = list(values)
        return found
    if dtype in ("float16", "bfloat16"):  # which come as their bits
        bits = _integers(values, np.dtype(np.uint16), alias)
        return bits.view(np.float16) if dtype == "float16" else bits
    wanted = NUMPY_DTYPES[dtype]
    return (
        _integers(values, wanted, alias) if wanted.kind in "iu" else np.fromiter(values, wanted, len(values))
    )


def _integers(values: Any, dtype: np.dtype[Any], alias: str) -> npt.NDArray[Any]:
    limits = np.iinfo(dtype)
    if not limits.min <= min(values) <= max(values) <= limits.max:
        raise InvalidInput(f"input {alias!r} holds a value beyond {limits.min} to {limits.max}")
    return np.fromiter(values, dtype, len(values))


def write_tensor(
    dtype: str, array: npt.NDArray[Any], to_view: Callable[[Any], memoryview]
) -> list[bytes | memoryview]:
    """Return the parts of a TensorProto; of all but strings the last part is a view of the array.

    Args:
        to_view: Gives an array's bytes.
    """
    sizes = b"".join(field(2, field_of_number(1, size)) for size in array.shape)
    start = field_of_number(_DTYPE, DTYPE_NUMBERS[dtype]) + field(_SHAPE, sizes)
    if array.dtype == object:
        items = (item if isinstance(item, bytes) else str(item).encode() for item in array.ravel().tolist())
        return [start + b"".join(field(_STRINGS, item) for item in items)]
    content = to_view(array)
    return [start + head(_CONTENT, len(content)), content]


def field_of_number(number: int, value: int) -> bytes:
    """Return a field of a number of 0 or more."""
    return varint(number << 3) + varint(value)
