"""Tensors by name, dtype and shape. How Python values become arrays of that dtype is `client.casting`.

Names of dtypes are TensorFlow's (`float32`, `string`); `WIRE_NAMES` gives the Open Inference Protocol's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from elastic_inference.errors import InvalidInput

# Complex and quantized dtypes are left out: the protocol has no name for them.
WIRE_NAMES: Mapping[str, str] = {
    "bool": "BOOL", "int8": "INT8", "int16": "INT16", "int32": "INT32", "int64": "INT64",
    "uint8": "UINT8", "uint16": "UINT16", "uint32": "UINT32", "uint64": "UINT64",
    "float16": "FP16", "float32": "FP32", "float64": "FP64", "bfloat16": "BF16", "string": "BYTES",
}  # fmt: skip
DTYPE_OF_WIRE_NAME: Mapping[str, str] = {wire: name for name, wire in WIRE_NAMES.items()}
# Numpy has no bfloat16: its bits travel as uint16 inside this package, and callers see what `from_bfloat16_bits` makes.
_STAND_INS = {"string": "object", "bfloat16": "uint16"}
NUMPY_DTYPES: Mapping[str, np.dtype[Any]] = {
    name: np.dtype(_STAND_INS.get(name, name)) for name in WIRE_NAMES
}


@dataclass(frozen=True)
class TensorSpec:
    """One tensor of a model.

    Attributes:
        name: The tensor's name in the graph (`image_tensor:0`), or its only name where the format has no graph names.
        dtype: TensorFlow's name; a variable's own tensor ends in `_ref`, as in TensorFlow.
        shape: One entry an axis, None where the size is open; None as a whole where the rank is open.
    """

    name: str
    dtype: str
    shape: tuple[int | None, ...] | None

    def __post_init__(self) -> None:
        if self.base_dtype not in WIRE_NAMES:
            raise InvalidInput(
                f"tensor {self.name!r} has dtype {self.dtype!r}; supported are {', '.join(WIRE_NAMES)}"
            )

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> TensorSpec:
        """Read `{"name", "dtype", "shape"}`, shape null or a list with null for open sizes."""
        shape = value["shape"]
        return cls(value["name"], value["dtype"], None if shape is None else tuple(shape))

    @classmethod
    def parse(cls, name: str, text: str) -> TensorSpec:
        """Read `float32:3,-1,-1`, with -1 for an open size; `float32:` has rank 0, `float32` any rank.

        Raises:
            InvalidInput: The text is no dtype and sizes.
        """
        dtype, colon, sizes = text.partition(":")
        try:
            numbers = [int(size) for size in sizes.split(",")] if sizes else []
        except ValueError as error:
            raise InvalidInput(
                f"spec {text!r} of {name!r} is not a dtype and sizes such as float32:3,-1,-1"
            ) from error
        if any(number < -1 for number in numbers):
            raise InvalidInput(f"spec {text!r} of {name!r} has a size below -1; -1 is an open size")
        shape = tuple(None if number == -1 else number for number in numbers)
        return cls(name, dtype, shape if colon else None)

    @cached_property
    def base_dtype(self) -> str:
        """The dtype without `_ref`."""
        return self.dtype.removesuffix("_ref")

    @property
    def numpy_dtype(self) -> np.dtype[Any]:
        """The numpy dtype; strings are object arrays of bytes, bfloat16 is its bits as uint16."""
        return NUMPY_DTYPES[self.base_dtype]

    def is_compatible(self, shape: Sequence[int]) -> bool:
        """Whether a value of this shape may be fed."""
        if self.shape is None:
            return True
        if len(shape) != len(self.shape):
            return False
        for wanted, size in zip(self.shape, shape, strict=True):  # noqa: SIM110  # on each call's way, thrice as quick
            if wanted is not None and wanted != size:
                return False
        return True


def to_bfloat16_bits(value: Any) -> npt.NDArray[np.uint16]:
    """Return the bits of bfloat16 numbers, rounded to nearest, ties to even.

    Args:
        value: Numbers, or an array of ml_dtypes' bfloat16; an array of uint16 holds bits already.
    """
    array = np.asarray(value)
    if array.dtype.name == "bfloat16" or array.dtype == np.uint16:
        return array.view(np.uint16)
    with np.errstate(over="ignore"):
        bits = array.astype(np.float32).view(np.uint32)
    rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
    return np.where(np.isnan(bits.view(np.float32)), 0x7FC0, rounded).astype(np.uint16)


def from_bfloat16_bits(bits: npt.NDArray[np.uint16]) -> npt.NDArray[Any]:
    """Return the numbers as ml_dtypes' bfloat16 where that is installed, else as float32, which holds each exactly."""
    try:
        import ml_dtypes
    except ImportError:
        return (bits.astype(np.uint32) << 16).view(np.float32)
    return bits.view(ml_dtypes.bfloat16)


def shape_text(shape: tuple[int | None, ...] | None) -> str:
    """Return a shape as TensorFlow 1.15 prints it: `(?, 3)`, `(?,)`, `()`, `<unknown>`."""
    if shape is None:
        return "<unknown>"
    sizes = ["?" if size is None else str(size) for size in shape]
    return f"({sizes[0]},)" if len(sizes) == 1 else f"({', '.join(sizes)})"
