"""The shape of a model's input as commands take it: `[ALIAS=][DTYPE:]SIZES`, such as `uint8:1,720,1280,3`."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from elastic_inference.errors import InvalidInput
from elastic_inference.tensors import NUMPY_DTYPES

FORM = "[ALIAS=][DTYPE:]SIZES"
MAX_INPUT_BYTES = 1 << 31
_SIZES = re.compile(r"-?\d+(,-?\d+)*")


@dataclass(frozen=True)
class InputShape:
    """One input's shape, as it was given.

    Attributes:
        alias: "" for the only input of a model.
        dtype: A name of NUMPY_DTYPES; "" takes the model's own.
        sizes: Of all axes, the batch's first; none for a scalar.
    """

    alias: str
    dtype: str
    sizes: tuple[int, ...]

    @classmethod
    def parse(cls, text: str) -> InputShape:
        """Read `1,720,1280,3`, `uint8:1,720,1280,3`, `image=uint8:1,720,1280,3` or, of a scalar, `float32:`.

        Raises:
            InvalidInput: It is something else, no numbers, or more than `MAX_INPUT_BYTES`.
        """
        alias, _, shape = text.rpartition("=")
        dtype, colon, sizes = shape.rpartition(":")
        if (colon and dtype not in NUMPY_DTYPES) or not (_SIZES.fullmatch(sizes) or (colon and not sizes)):
            raise InvalidInput(
                f"shape {text!r} is not sizes such as 1,720,1280,3 or uint8:1,720,1280,3, nor ALIAS= before these"
            )
        found = cls(alias, dtype, tuple(int(size) for size in sizes.split(",")) if sizes else ())
        if (dtype and NUMPY_DTYPES[dtype].hasobject) or any(size < 1 for size in found.sizes):
            raise InvalidInput(f"shape {text!r} needs numbers and sizes of 1 or more")
        itemsize = NUMPY_DTYPES[dtype].itemsize if dtype else 1
        if np.prod(found.sizes, dtype=float) * itemsize > MAX_INPUT_BYTES:
            raise InvalidInput(f"shape {text!r} is more than {MAX_INPUT_BYTES} bytes")
        return found

    def __str__(self) -> str:
        """Write what `parse` reads."""
        alias, dtype = self.alias and f"{self.alias}=", self.dtype and f"{self.dtype}:"
        return f"{alias}{dtype}{','.join(map(str, self.sizes))}"


def is_shape(text: str) -> bool:
    """Whether a text means a shape, right or wrong, and no file's path."""
    shape = text.rpartition("=")[2]
    dtype, colon, _ = shape.partition(":")
    return (bool(colon) and dtype in NUMPY_DTYPES) or _SIZES.fullmatch(shape) is not None


def by_alias(shapes: Sequence[InputShape], dtypes: Mapping[str, str]) -> dict[str, InputShape]:
    """Return shapes by alias, each with its dtype; the one without an alias is of the only input.

    Args:
        dtypes: Of each input that the model takes, by alias.

    Raises:
        InvalidInput: An alias is not among the inputs, or is given twice, or its input takes another dtype.
    """
    known = sorted(dtypes)
    named: dict[str, InputShape] = {}
    for shape in shapes:
        alias = known[0] if not shape.alias and len(known) == 1 else shape.alias
        if alias not in dtypes:
            raise InvalidInput(
                f"--shape names {alias or 'a shape without alias'}, and the inputs are {', '.join(known)}"
            )
        if alias in named:
            raise InvalidInput(f"--shape is given twice for input {alias}")
        if shape.dtype and shape.dtype != dtypes[alias]:
            raise InvalidInput(f"shape '{shape}' is {shape.dtype}, and input {alias!r} takes {dtypes[alias]}")
        named[alias] = InputShape.parse(str(replace(shape, alias=alias, dtype=dtypes[alias])))
    return named
