"""Tensors by name, dtype and shape."""

from __future__ import annotations

import numpy as np
import pytest

from elastic_inference.errors import InvalidInput
from elastic_inference.tensors import (
    DTYPE_OF_WIRE_NAME,
    NUMPY_DTYPES,
    WIRE_NAMES,
    TensorSpec,
    shape_text,
)


def spec(dtype: str, *shape: int | None) -> TensorSpec:
    return TensorSpec("t:0", dtype, shape)


def anything(dtype: str) -> TensorSpec:
    return TensorSpec("t:0", dtype, None)


@pytest.mark.parametrize(
    ("wanted", "shape", "fits"),
    [
        ((None,), (0,), True),
        ((None,), (1, 1), False),
        ((None, 3), (7, 3), True),
        ((None, 3), (7, 4), False),
        ((3,), (2,), False),
        ((), (), True),
        ((), (1,), False),
        (None, (1, 2, 3), True),
    ],
)
def test_shapes_that_may_be_fed(
    wanted: tuple[int | None, ...] | None, shape: tuple[int, ...], fits: bool
) -> None:
    assert TensorSpec("t:0", "float32", wanted).is_compatible(shape) == fits


@pytest.mark.parametrize(
    ("shape", "text"), [((), "()"), ((None,), "(?,)"), ((2, None), "(2, ?)"), (None, "<unknown>")]
)
def test_shape_text(shape: tuple[int | None, ...] | None, text: str) -> None:
    assert shape_text(shape) == text


def test_names_of_dtypes_map_both_ways() -> None:
    assert {DTYPE_OF_WIRE_NAME[wire]: wire for wire in WIRE_NAMES.values()} == WIRE_NAMES
    assert NUMPY_DTYPES.keys() == WIRE_NAMES.keys()
    assert TensorSpec("w:0", "float32_ref", ()).numpy_dtype == np.float32
    with pytest.raises(InvalidInput, match="complex64"):
        anything("complex64")


def test_spec_from_json() -> None:
    assert TensorSpec.from_json({"name": "t:0", "dtype": "uint8", "shape": [None, 3]}) == spec(
        "uint8", None, 3
    )
    assert TensorSpec.from_json({"name": "t:0", "dtype": "uint8", "shape": None}) == anything("uint8")
