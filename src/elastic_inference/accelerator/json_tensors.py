"""Tensors in the JSON of REST interfaces: nested lists of numbers and strings, and `{"b64": ...}` for bytes.

It is TensorFlow Serving's form, which SageMaker's containers took over. The Open Inference Protocol's own, flat lists
beside a shape, is `protocol.arrays`.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from elastic_inference.errors import InvalidInput
from elastic_inference.models.signature import Signature
from elastic_inference.tensors import from_bfloat16_bits, to_bfloat16_bits

_B64 = "b64"
_KINDS = {"b": "boolean", "i": "integer", "u": "integer", "f": "number"}


def parse(text: bytes) -> Any:
    """Read a JSON text; NaN, Infinity and -Infinity are numbers, as TensorFlow Serving has them.

    Raises:
        InvalidInput: It is no JSON.
    """
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"JSON Parse error: {error}") from error


def is_bytes(value: Any) -> bool:
    """Whether a JSON value is one string of bytes, `{"b64": "..."}`."""
    return isinstance(value, dict) and value.keys() == {_B64}


def inputs_of_rows(rows: Any, signature: Signature) -> dict[str, npt.NDArray[Any]]:
    """Return the inputs of the row format: a list of objects that name them, or of the values of the only one.

    Raises:
        InvalidInput: It is no such list, rows do not name the same inputs, or values do not fit.
    """
    if not isinstance(rows, list) or not rows:
        raise InvalidInput("rows must be a list of at least one")
    first = rows[0]
    if not isinstance(first, dict) or is_bytes(first):
        return _arrays({only_input(signature): rows}, signature)
    for number, row in enumerate(rows):
        if not isinstance(row, dict) or row.keys() != first.keys():
            raise InvalidInput(
                f"row {number} must be an object with the inputs {sorted(first)}, as the first"
            )
    return _arrays({name: [row[name] for row in rows] for name in first}, signature)


def inputs_of_columns(value: Any, signature: Signature) -> dict[str, npt.NDArray[Any]]:
    """Return the inputs of the column format: an object of their values, or the value of the only one.

    Raises:
        InvalidInput: Values do not fit.
    """
    if isinstance(value, dict) and not is_bytes(value):
        return _arrays(value, signature)
    return _arrays({only_input(signature): value}, signature)


def only_input(signature: Signature) -> str:
    """Return the alias of a model's only input; raises InvalidInput where there are others."""
    if len(signature.inputs) != 1:
        raise InvalidInput(f"the model has inputs {sorted(signature.inputs)}; name each of them")
    return next(iter(signature.inputs))


def _arrays(values: Mapping[str, Any], signature: Signature) -> dict[str, npt.NDArray[Any]]:
    unknown = sorted(set(values) - set(signature.inputs))
    if unknown:
        raise InvalidInput(f"unexpected inputs {unknown}; the model has {sorted(signature.inputs)}")
    return {name: to_array(value, signature.inputs[name].base_dtype, name) for name, value in values.items()}


def to_array(value: Any, dtype: str, name: str) -> npt.NDArray[Any]:
    """Return an array of nested lists.

    Args:
        dtype: Our name of the tensor's dtype.
        name: Of the input, for errors.

    Raises:
        InvalidInput: Rows are unequal, or a value is of another type or beyond what the dtype holds.
    """
    if dtype == "string":
        return _strings(value, name)
    try:
        array = np.array(value)
    except (ValueError, OverflowError, RecursionError) as error:
        raise InvalidInput(f"input {name!r}: rows are of unequal length: {error}") from error
    if array.size == 0:
        array = array.astype(np.bool_ if dtype == "bool" else np.int64)
    return _cast(array, dtype, name)


def _cast(array: npt.NDArray[Any], dtype: str, name: str) -> npt.NDArray[Any]:
    wanted = np.dtype(np.float32 if dtype == "bfloat16" else dtype)
    allowed = {"b": "b", "i": "iu", "u": "iu", "f": "iuf"}[wanted.kind]
    if array.dtype.kind not in allowed:
        raise InvalidInput(
            f"input {name!r} is {dtype}: each value must be a {_KINDS[wanted.kind]}, all in lists of equal length"
        )
    if wanted.kind in "iu" and array.size:
        limits = np.iinfo(wanted)
        low, high = int(array.min()), int(array.max())
        if low < limits.min or high > limits.max:
            raise InvalidInput(
                f"input {name!r} is {dtype}, which holds {limits.min} to {limits.max}; {low} to {high} are given"
            )
    with np.errstate(over="ignore"):  # 1e300 is infinite as float32
        cast = array.astype(wanted)
    return to_bfloat16_bits(cast) if dtype == "bfloat16" else cast


def _strings(value: Any, name: str) -> npt.NDArray[Any]:
    shape: list[int] = []
    level = value
    while isinstance(level, list):
        shape.append(len(level))
        if not level:
            break
        level = level[0]
    items = list(_leaves(value, shape, name))
    array = np.empty(len(items), dtype=object)
    array[:] = items
    return array.reshape(shape)


def _leaves(value: Any, shape: list[int], name: str) -> list[bytes]:
    if not shape:
        return [to_bytes(value, name)]
    if not isinstance(value, list) or len(value) != shape[0]:
        raise InvalidInput(f"input {name!r}: rows are of unequal length")
    return [leaf for entry in value for leaf in _leaves(entry, shape[1:], name)]


def to_bytes(value: Any, name: str) -> bytes:
    """Return the bytes of one string: text as UTF-8, or what `{"b64": ...}` holds."""
    if isinstance(value, str):
        return value.encode()
    if is_bytes(value) and isinstance(value[_B64], str):
        try:
            return base64.b64decode(value[_B64], validate=True)
        except (binascii.Error, ValueError) as error:
            raise InvalidInput(f"input {name!r}: b64 is no base64: {error}") from error
    raise InvalidInput(f"input {name!r} is string: {value!r:.80} is neither a string nor an object with b64")


def from_array(array: npt.NDArray[Any], dtype: str, as_bytes: bool = False) -> Any:
    """Return nested lists; float32 with as many digits as it has.

    Args:
        as_bytes: Whether strings become `{"b64": ...}`; else text, of which other bytes than UTF-8 are replaced.
    """
    if dtype == "bfloat16":
        array = from_bfloat16_bits(array).astype(np.float32)
    if array.dtype == object:
        return _text_of(array.tolist(), as_bytes)
    if array.dtype in (np.float16, np.float32):
        # Its own shortest text, and not that of the float64 beside it: 0.1 instead of 0.10000000149011612.
        array = array.astype(str).astype(np.float64)
    return array.tolist()


def _text_of(value: Any, as_bytes: bool) -> Any:
    if isinstance(value, list):
        return [_text_of(entry, as_bytes) for entry in value]
    data = value if isinstance(value, bytes) else str(value).encode()
    return {_B64: base64.b64encode(data).decode()} if as_bytes else data.decode(errors="replace")
