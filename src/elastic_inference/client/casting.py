"""Python values to arrays of a tensor's dtype, as TensorFlow 1.15's `session.run` made them.

That was `numpy.asarray(value, dtype)` of numpy 1.18: arrays are cast as C casts, silently; the elements of lists one by
one, by `int(...)` or `float(...)`. Newer numpy differs on lists of integers out of range, so the rules stand here.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from elastic_inference.errors import InternalError, InvalidInput, InvalidRange, InvalidType

Array = npt.NDArray[Any]
RAGGED = "setting an array element with a sequence."
TOO_LARGE = "Python int too large to convert to C long"
_INT64 = np.iinfo(np.int64)


def cast(value: Any, dtype: np.dtype[Any]) -> Array:
    """Make `value` a C-contiguous array of `dtype`; object stands for strings, as bytes.

    Args:
        value: An array, number, string or nested sequence; anything that `numpy.asarray` takes.

    Raises:
        InvalidInput: The value cannot be cast; one of its classes that is also Python's, with TensorFlow's text.
    """
    try:
        if isinstance(value, int):
            _check_python_int(value, dtype)
        with np.errstate(all="ignore"), warnings.catch_warnings():
            # Numpy warns where a cast drops an imaginary part or a float's range; the feeds tell of all losses.
            warnings.simplefilter("ignore")
            array = _cast(value, dtype)
    except OverflowError as error:
        raise InvalidRange(str(error)) from error
    except TypeError as error:
        raise InvalidType(_old_text(error)) from error
    except InvalidInput:
        raise
    except ValueError as error:
        raise InvalidInput(_old_text(error)) from error
    return array if array.flags.c_contiguous else np.ascontiguousarray(array)


def _cast(value: Any, dtype: np.dtype[Any]) -> Array:
    if dtype.kind == "O":
        return _strings(np.asarray(value, dtype=object))
    if is_array(value):
        return _cast_array(np.asarray(value), dtype)
    if dtype.kind in "iu":
        return _cast_elements(value, dtype)
    return np.asarray(value, dtype=dtype)


def is_array(value: Any) -> bool:
    """Whether numpy takes `value` as an array or scalar of its own dtype, rather than element by element."""
    return isinstance(value, np.ndarray | np.generic) or hasattr(value, "__array__")


def _cast_array(array: Array, dtype: np.dtype[Any]) -> Array:
    if array.dtype.kind in "USO" and dtype.kind in "iub":
        if dtype.kind == "b" and array.dtype.kind == "O":
            return array.astype(dtype)
        return _integers([_to_int(item) for item in array.ravel().tolist()], dtype).reshape(array.shape)
    if array.dtype.kind == "f" and dtype == np.uint32:
        return array.astype(np.int64).astype(dtype)  # as one machine instruction does it, whatever the numpy
    return array.astype(dtype)


def _cast_elements(value: Any, dtype: np.dtype[Any]) -> Array:
    """Cast a nested sequence to integers, as `int(...)` takes each element; arrays within it are cast as arrays."""
    array = np.asarray(value)
    kind = array.dtype.kind
    if kind in "bi" or (kind == "u" and array.dtype.itemsize < 8) or isinstance(_leaf(value), np.ndarray):
        return _cast_array(array, dtype)
    elements = np.asarray(value, dtype=object)
    return _integers([_to_int(item) for item in elements.ravel().tolist()], dtype).reshape(elements.shape)


def _leaf(value: Any) -> Any:
    while isinstance(value, Sequence) and not isinstance(value, str | bytes) and len(value):
        value = value[0]
    return value


def _to_int(item: Any) -> int:
    if isinstance(item, list | tuple | np.ndarray):
        raise ValueError(RAGGED)
    return int(item)


def _integers(numbers: list[int], dtype: np.dtype[Any]) -> Array:
    """Integers by way of C's long, or its unsigned long where the dtype is one of the two that use it."""
    most = 2 * _INT64.max + 1 if dtype in (np.uint32, np.uint64) else _INT64.max
    if not all(_INT64.min <= number <= most for number in numbers):
        raise OverflowError(TOO_LARGE)
    array = np.array([number % (1 << 64) for number in numbers], dtype=np.uint64)
    return array.astype(dtype)


def _check_python_int(value: int, dtype: np.dtype[Any]) -> None:
    """TensorFlow's one check of values: a Python integer by itself must be kept by the dtype."""
    if dtype.kind == "O":
        is_kept = False
    elif dtype.kind == "f":
        # The number is compared as a double, as numpy did.
        with np.errstate(all="ignore"):
            is_kept = float(np.asarray(float(value)).astype(dtype)) == float(value)
    elif dtype.kind == "b":
        is_kept = bool(value) == value
    else:
        is_kept = int(_integers([value], dtype)[0]) == value
    if not is_kept:
        name = object if dtype.kind == "O" else dtype.type
        raise TypeError(
            f"Type of feed value {value} with type {type(value)} is not compatible with Tensor type {name}. "
            "Try explicitly setting the type of the feed tensor to a larger type (e.g. int64)."
        )


def _strings(array: Array) -> Array:
    flat = [_to_bytes(item) for item in array.ravel().tolist()]
    result = np.empty(len(flat), dtype=object)
    result[:] = flat
    return result.reshape(array.shape)


def _to_bytes(item: Any) -> bytes:
    if isinstance(item, bytes):
        return item[:]  # the same object, but Python's own class where it was numpy's
    if not isinstance(item, str):
        raise InternalError("Unable to get element as bytes.")
    try:
        return item.encode()
    except UnicodeEncodeError as error:
        raise InternalError("Unable to get element as UTF-8.") from error


def _old_text(error: Exception) -> str:
    """Return the words that numpy 1.18 and Python 3.7 had for it."""
    text = str(error)
    if text.startswith(RAGGED):
        return RAGGED
    text = re.sub(r"np\.(?:str_|bytes_)\((.*)\)", r"\1", text).replace("a real number", "a number")
    return re.sub(
        r"^(int|float)\(\) argument must be .*, not 'complex'$", r"can't convert complex to \1", text
    )
