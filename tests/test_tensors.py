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
    from_bfloat16_bits,
    shape_text,
    to_bfloat16_bits,
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


@pytest.mark.parametrize(
    ("text", "dtype", "shape"),
    [("float32:3,-1,-1", "float32", (3, None, None)), ("int64:", "int64", ()), ("uint8", "uint8", None)],
)
def test_spec_from_text(text: str, dtype: str, shape: tuple[int | None, ...] | None) -> None:
    assert TensorSpec.parse("x", text) == TensorSpec("x", dtype, shape)


@pytest.mark.parametrize("text", ["float32:3,a", "float32:-2", "floats:1", "float32:1,,2"])
def test_text_that_is_no_spec(text: str) -> None:
    with pytest.raises(InvalidInput, match="x"):
        TensorSpec.parse("x", text)


def test_bfloat16_rounds_to_nearest_with_ties_to_even() -> None:
    values = np.array([1.0, 1 + 2**-8, 1 + 3 * 2**-8, 1 + 2**-7, -2.5, np.inf, np.nan, 3.4e38], np.float32)
    back = from_bfloat16_bits(to_bfloat16_bits(values)).astype(np.float32)
    np.testing.assert_array_equal(
        back, np.array([1.0, 1.0, 1 + 2**-6, 1 + 2**-7, -2.5, np.inf, np.nan, np.inf], np.float32)
    )


def test_every_bfloat16_comes_back() -> None:
    bits = np.arange(1 << 16).astype(np.uint16)
    numbers = from_bfloat16_bits(bits)
    is_number = ~np.isnan(numbers.astype(np.float32))
    np.testing.assert_array_equal(to_bfloat16_bits(numbers.astype(np.float32))[is_number], bits[is_number])
    np.testing.assert_array_equal(to_bfloat16_bits(numbers)[is_number], bits[is_number])
