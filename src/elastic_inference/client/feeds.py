"""From the caller's dictionary to arrays that can be sent, checked and cast as TensorFlow's session did."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from elastic_inference.errors import InvalidArgumentError, InvalidInput
from elastic_inference.models.signature import Signature
from elastic_inference.tensors import TensorSpec, as_array

log = logging.getLogger(__name__)
# TensorFlow's C++ side names some dtypes otherwise than its Python side.
_CPP_NAMES = {"float16": "half", "float32": "float", "float64": "double"}


class Feeds:
    """Checks and casts the inputs of one signature.

    Args:
        is_strict: Whether a cast that loses information is an error; otherwise it is logged once an input.
    """

    def __init__(self, signature: Signature, is_strict: bool = False) -> None:
        self._specs = dict(signature.inputs)
        self._required = sorted(signature.required_inputs, reverse=True)
        self._unfed = signature.unfed_placeholders
        self._is_strict = is_strict
        self._has_logged: set[str] = set()

    def arrays(self, inputs: Mapping[str, Any]) -> dict[str, npt.NDArray[Any]]:
        """Arrays by alias; those that already fit are the caller's own, without a copy.

        Raises:
            InvalidInput: An alias is unknown, or a value cannot be cast or has a wrong shape.
            InvalidArgumentError: A value is missing that the outputs need.
        """
        if not inputs.keys() <= self._specs.keys():
            unexpected = set(inputs.keys()) - self._specs.keys()
            raise InvalidInput(
                f"Got unexpected keys in input_dict: {unexpected}\nexpected: {set(self._specs.keys())}"
            )
        arrays = {}
        for alias, value in inputs.items():
            if value is not None:
                spec = self._specs[alias]
                array = arrays[alias] = as_array(value, spec)
                if array is not value:
                    self._check_cast(alias, value, array)
        for alias in self._required:
            if alias not in arrays:
                raise _missing(self._specs[alias])
        if self._unfed:
            raise _missing(self._unfed[0])
        return arrays

    def _check_cast(self, alias: str, value: Any, array: npt.NDArray[Any]) -> None:
        if array.dtype == object or (alias in self._has_logged and not self._is_strict):
            return
        source = np.asarray(value)
        if source.dtype == array.dtype or source.dtype.kind not in "iufb":
            return
        # Python's own numbers are float64 or int64 only by numpy's choice: rounding 0.1 to float32 is no loss.
        if source.dtype == np.float64 and array.dtype.kind == "f" and not isinstance(value, np.ndarray):
            return
        with np.errstate(all="ignore"):
            is_exact = np.array_equal(array.astype(source.dtype), source, equal_nan=source.dtype.kind == "f")
        if is_exact:
            return
        text = f"input {alias!r}: casting {source.dtype} to {array.dtype} changes values"
        if self._is_strict:
            raise InvalidInput(f"{text}, and strict=True forbids that")
        self._has_logged.add(alias)
        log.warning("%s (TensorFlow did this silently; strict=True makes it an error)", text)


def _missing(spec: TensorSpec) -> InvalidArgumentError:
    name = spec.name.rpartition(":")[0] or spec.name
    dtype = _CPP_NAMES.get(spec.base_dtype, spec.base_dtype)
    sizes = "<unknown>" if spec.shape is None else str([s if s is not None else "?" for s in spec.shape])
    shape = sizes.replace("'", "").replace(", ", ",")
    text = f"You must feed a value for placeholder tensor '{name}' with dtype {dtype}"
    # TensorFlow leaves the shape out where nothing is known of it.
    return InvalidArgumentError(text if spec.shape is None else f"{text} and shape {shape}")
