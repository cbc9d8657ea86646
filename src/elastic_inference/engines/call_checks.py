"""Which calls a quick engine would answer otherwise than the model says, told from their inputs before it runs.

Looking for NaN costs one pass over the floats of a call; docs/models.md has the figures.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from elastic_inference.engines.base import Arrays
from elastic_inference.errors import InvalidArgumentError, NotAsWritten

_INT32 = np.iinfo(np.int32)
_HALF_EXPONENT = 0x7C00  # all ones in a float16 that is NaN or infinite


@dataclass(frozen=True)
class CallChecks:
    """What to look for in the inputs of a call.

    Attributes:
        engine: Whose limits these are, for texts.
        reference: The engine that has none; "" where there is none.
        int32_inputs: Aliases of int64 inputs whose values are computed in int32.
        finite_inputs: Aliases of inputs in which NaN or infinities might become other numbers.
        lossy_operations: Names of operations that do that, for texts.
        is_empty_wrong: Whether an input without elements gives other numbers.
        index_limits: Alias -> how many elements its values choose among.
        may_count_backwards: Whether negative values choose from the end.
    """

    engine: str
    reference: str = ""
    int32_inputs: Sequence[str] = ()
    finite_inputs: Sequence[str] = ()
    lossy_operations: Sequence[str] = ()
    is_empty_wrong: bool = False
    index_limits: Mapping[str, int] = field(default_factory=dict)
    may_count_backwards: bool = False

    def check(self, inputs: Arrays) -> None:
        """Look at the inputs of one call.

        Raises:
            NotAsWritten: Names the input, what is in it, and the engine that takes it.
            InvalidArgumentError: An index is out of range, which every engine should refuse.
        """
        for alias in self.finite_inputs:
            array = inputs.get(alias)
            if array is not None and not is_finite(array):
                raise NotAsWritten(
                    f"input {alias!r} holds NaN or infinite values, which engine {self.engine} may lose in "
                    f"{', '.join(self.lossy_operations[:3])}{self._advice()}"
                )
        if self.is_empty_wrong:
            self._check_empty(inputs)
        for alias in self.int32_inputs:
            self._check_int32(alias, inputs)
        for alias, size in self.index_limits.items():
            _check_index(alias, inputs, -size if self.may_count_backwards else 0, size)

    def _check_empty(self, inputs: Arrays) -> None:
        for alias, array in inputs.items():
            if not array.size:
                raise NotAsWritten(
                    f"input {alias!r} of shape {list(array.shape)} has no elements, for which engine {self.engine} "
                    f"gives other values{self._advice()}"
                )

    def _check_int32(self, alias: str, inputs: Arrays) -> None:
        array = inputs.get(alias)
        if array is None or not array.size:
            return
        low, high = array.min(), array.max()
        if low < _INT32.min or high > _INT32.max:
            raise NotAsWritten(
                f"input {alias!r} has values from {low} to {high}, but engine {self.engine} computes int64 in "
                f"int32{self._advice()}"
            )

    def _advice(self) -> str:
        return f"; engine {self.reference} takes them" if self.reference else ""


def _check_index(alias: str, inputs: Arrays, first: int, size: int) -> None:
    array = inputs.get(alias)
    if array is None or not array.size:
        return
    low, high = array.min(), array.max()
    if low < first or high >= size:
        raise InvalidArgumentError(
            f"indices from {low} to {high} in input {alias!r} are not all in [{first}, {size})"
        )


def is_finite(array: npt.NDArray[Any]) -> bool:
    """Whether no value is NaN or infinite; float arrays only."""
    if array.dtype == np.float16:
        return not ((array.view(np.uint16) & _HALF_EXPONENT) == _HALF_EXPONENT).any()
    # One pass and no memory; `vdot` says nothing of an overflow, where `dot` warns, and to silence it takes longer than
    # the product of few numbers. It is also infinite for finite values above 1e19: then each is looked at.
    return math.isfinite(np.vdot(array, array)) or bool(np.isfinite(array).all())
