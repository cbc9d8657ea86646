"""Arrays to bytes and back, for every dtype and shape."""

from __future__ import annotations

import contextlib
import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from elastic_inference.errors import InvalidInput
from elastic_inference.protocol import arrays
from elastic_inference.tensors import NUMPY_DTYPES, from_bfloat16_bits

NUMERIC = [name for name in NUMPY_DTYPES if name != "string"]
SHAPES = hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4)


@given(st.data(), st.sampled_from(NUMERIC), SHAPES)
def test_numbers_come_back_bit_by_bit(data: st.DataObject, dtype: str, shape: tuple[int, ...]) -> None:
    array = data.draw(hnp.arrays(NUMPY_DTYPES[dtype], shape))
    back = arrays.view_of(arrays.to_bytes(array), dtype, shape, "x")
    assert back.shape == shape
    assert back.dtype == array.dtype
    assert back.tobytes() == array.tobytes()


@given(st.data(), SHAPES)
def test_strings_come_back(data: st.DataObject, shape: tuple[int, ...]) -> None:
    size = int(np.prod(shape))
    items = data.draw(st.lists(st.binary(), min_size=size, max_size=size))
    array = np.empty(size, object)
    array[:] = items
    back = arrays.view_of(arrays.to_bytes(array.reshape(shape)), "string", shape, "x")
    assert back.shape == shape
    assert back.ravel().tolist() == items


def test_a_contiguous_array_is_not_copied() -> None:
    array = np.arange(12, dtype=np.int32).reshape(3, 4)
    view = arrays.to_bytes(array)
    array[0, 0] = 77
    assert view[:4] == struct.pack("<i", 77)


def test_a_strided_array_is_sent_row_by_row() -> None:
    array = np.arange(12, dtype=np.uint8).reshape(3, 4)[:, ::2]
    assert bytes(arrays.to_bytes(array)) == bytes([0, 2, 4, 6, 8, 10])


def test_a_view_looks_at_the_bytes_given() -> None:
    memory = bytearray(16)
    view = arrays.view_of(memoryview(memory), "int32", (4,), "x")
    memory[0] = 5
    assert view[0] == 5


def test_bytes_that_are_not_aligned_are_copied() -> None:
    array = arrays.view_of(memoryview(bytearray(range(9)))[1:], "int32", (2,), "x")
    assert array.flags.aligned
    assert array.tobytes() == bytes(range(1, 9))


@given(st.binary(max_size=40), SHAPES)
def test_any_bytes_are_strings_or_refused(data: bytes, shape: tuple[int, ...]) -> None:
    try:
        array = arrays.decode_strings(memoryview(data), shape, "x")
    except InvalidInput:
        return
    assert arrays.encode_strings(array) == data


@given(st.data(), st.sampled_from([*NUMERIC]), SHAPES)
def test_inline_json_comes_back(data: st.DataObject, dtype: str, shape: tuple[int, ...]) -> None:
    elements = {"allow_nan": False, "allow_infinity": False} if dtype.startswith("float") else None
    array = data.draw(hnp.arrays(NUMPY_DTYPES[dtype], shape, elements=elements))
    if dtype == "bfloat16":  # drawn as bits
        array[~np.isfinite(from_bfloat16_bits(array).astype(np.float32))] = 0
    back = arrays.from_json(arrays.to_json(array, dtype, "x"), dtype, shape, "x")
    np.testing.assert_array_equal(back, array)


@pytest.mark.parametrize("value", [[["a"], "b"], ["a", "b"]])
def test_inline_strings_may_be_nested(value: list[Any]) -> None:
    assert arrays.from_json(value, "string", (2, 1), "x").tolist() == [[b"a"], [b"b"]]


def test_inline_strings_nested_without_end_are_refused() -> None:
    value: list[Any] = ["a"]
    for _ in range(100_000):
        value = [value]
    with pytest.raises(InvalidInput):
        arrays.from_json(value, "string", (1,), "x")


@given(
    st.recursive(st.none() | st.booleans() | st.floats() | st.text(), st.lists),
    st.sampled_from(list(NUMPY_DTYPES)),
)
def test_any_json_is_a_tensor_or_refused(value: object, dtype: str) -> None:
    with contextlib.suppress(InvalidInput):
        assert arrays.from_json(value, dtype, (2,), "x").shape == (2,)
