"""From the caller's dictionary to arrays that can be sent, checked and cast as TensorFlow's session did."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from elastic_inference.client.casting import cast, is_array
from elastic_inference.errors import InvalidArgumentError, InvalidInput, InvalidType
from elastic_inference.models.signature import Signature, unfed_text
from elastic_inference.tensors import TensorSpec, shape_text, to_bfloat16_bits

log = logging.getLogger(__name__)
Array = npt.NDArray[Any]


class _Feed:
    """One input, with what each call looks at."""

    def __init__(self, spec: TensorSpec) -> None:
        self.spec = spec
        self.dtype = spec.numpy_dtype
        self.is_string = self.dtype == object
        self.is_bfloat16 = spec.base_dtype == "bfloat16"

    def array(self, value: Any) -> Array:
        """Return the value itself where it fits already, else a cast copy; InvalidInput where neither is possible."""
        if type(value) is np.ndarray and value.dtype == self.dtype and not self.is_string:
            array = value if value.flags.c_contiguous else np.ascontiguousarray(value)
        elif self.is_bfloat16:
            array = np.ascontiguousarray(_bfloat16_bits(value, self.spec.name))
        else:
            array = cast(value, self.dtype)
        if not self.spec.is_compatible(array.shape):
            raise InvalidInput(
                f"Cannot feed value of shape {array.shape} for Tensor '{self.spec.name}', "
                f"which has shape '{shape_text(self.spec.shape)}'"
            )
        return array


class Feeds:
    """Checks and casts the inputs of one signature.

    Args:
        is_strict: Whether a cast that loses information is an error; otherwise it is logged once an input.
    """

    def __init__(self, signature: Signature, is_strict: bool = False) -> None:
        self._feeds = {alias: _Feed(spec) for alias, spec in signature.inputs.items()}
        self._required = frozenset(signature.required_inputs)
        self._unfed = signature.unfed_placeholders
        self._is_strict = is_strict
        self._has_logged: set[str] = set()

    def arrays(self, inputs: Mapping[str, Any]) -> dict[str, Array]:
        """Arrays by alias; those that already fit are the caller's own, without a copy.

        Raises:
            InvalidInput: An alias is unknown, or a value cannot be cast or has a wrong shape.
            InvalidArgumentError: A value is missing that the outputs need.
        """
        feeds = self._feeds
        if type(inputs) is not dict:
            # TensorFlow asked for `keys` and `get` alone, which a table or an archive has too.
            inputs = {key: inputs.get(key) for key in inputs.keys()}  # noqa: SIM118
        if not inputs.keys() <= feeds.keys():
            unexpected = set(inputs.keys()) - feeds.keys()
            raise InvalidInput(
                f"Got unexpected keys in input_dict: {unexpected}\nexpected: {set(feeds.keys())}"
            )
        arrays = {}
        for alias, value in inputs.items():
            if value is not None:
                array = arrays[alias] = feeds[alias].array(value)
                if array is not value and not feeds[alias].is_bfloat16:
                    self._check_cast(alias, value, array)
        if not self._required <= arrays.keys():
            missing = (feeds[alias].spec for alias in self._required - arrays.keys())
            # Of several, TensorFlow names the one that stands last in the graph, which most often has the last name.
            raise InvalidArgumentError(unfed_text(max(missing, key=lambda spec: spec.name)))
        if self._unfed:
            raise InvalidArgumentError(unfed_text(self._unfed[0]))
        return arrays

    def _check_cast(self, alias: str, value: Any, array: Array) -> None:
        if array.dtype == object or (alias in self._has_logged and not self._is_strict):
            return
        loss = _loss(value, array)
        if not loss:
            return
        text = f"input {alias!r}: {loss}"
        if self._is_strict:
            raise InvalidInput(f"{text}, and strict=True forbids that")
        self._has_logged.add(alias)
        log.warning("%s (TensorFlow did this silently; strict=True makes it an error)", text)


def _bfloat16_bits(value: Any, name: str) -> Array:
    try:
        return to_bfloat16_bits(value)
    except (TypeError, ValueError) as error:
        raise InvalidType(
            f"a value of type {type(value)} cannot be made bfloat16 for {name!r}: {error}"
        ) from error


def _loss(value: Any, array: Array) -> str:
    """Return what a cast changed, "" for nothing that the caller can have meant to keep."""
    source = np.asarray(value)
    if source.dtype == array.dtype or source.dtype.kind not in "iufbc":
        return ""
    # Python's own floats are float64 only by numpy's choice, so rounding 0.1 to float32 is no loss; inf is one.
    if source.dtype == np.float64 and array.dtype.kind == "f" and not is_array(value):
        is_exact = np.array_equal(np.isfinite(array), np.isfinite(source))
    else:
        with np.errstate(all="ignore"):
            back = array.astype(source.dtype)
            # Between integers of one width the way back undoes the loss, but not in the sign.
            is_exact = np.array_equal(back, source, equal_nan=source.dtype.kind in "fc") and np.array_equal(
                array < 0, source.real < 0
            )
    return "" if is_exact else f"casting {source.dtype} to {array.dtype} changes values"
