"""Heads of inference requests and responses: what is written is read, and anything else is refused by name."""

from __future__ import annotations

import contextlib
import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from elastic_inference.errors import InvalidInput
from elastic_inference.protocol.heads import (
    ALIGNMENT,
    RegionRange,
    encode_head,
    encode_range,
    encode_tensor,
    parse_request_head,
    parse_response_head,
)
from elastic_inference.tensors import NUMPY_DTYPES

NAMES = st.text(max_size=8)
SHAPES = st.lists(st.integers(0, 9), max_size=5)
NUMERIC = st.sampled_from([name for name in NUMPY_DTYPES if name != "string"])
TENSORS = st.lists(st.tuples(NAMES, NUMERIC, SHAPES), max_size=4, unique_by=lambda t: t[0])


@given(TENSORS, st.none() | st.text(), st.integers(1, 10**9))
def test_a_request_is_read_as_it_was_written(
    tensors: list[tuple[str, str, list[int]]], request_id: str | None, timeout: int
) -> None:
    sizes = [math.prod(shape) * NUMPY_DTYPES[dtype].itemsize for _, dtype, shape in tensors]
    entries = [encode_tensor(*tensor, size) for tensor, size in zip(tensors, sizes, strict=True)]
    value = {
        "inputs": entries,
        "id": request_id,
        "parameters": {"binary_data_output": True, "timeout": timeout},
    }
    text = encode_head(value)
    head = parse_request_head(text)
    assert len(text) % ALIGNMENT == 0
    assert [(p.name, p.dtype, list(p.shape)) for p in head.inputs] == tensors
    assert [(p.offset, p.size_bytes) for p in head.inputs] == [
        (sum(sizes[:i]), n) for i, n in enumerate(sizes)
    ]
    assert (head.id, head.timeout_seconds, head.is_binary_default) == (request_id, timeout / 1e6, True)
    assert head.num_binary_bytes == sum(sizes)


def test_parts_in_shared_memory_do_not_count_as_following_bytes() -> None:
    where = RegionRange("mine", 64, 8)
    entries = [encode_tensor("a", "int32", (2,), 8, where), encode_tensor("b", "uint8", (3,), 3)]
    wanted = [{"name": "y", "parameters": encode_range(where)}, {"name": "z"}]
    head = parse_request_head(encode_head({"inputs": entries, "outputs": wanted}))
    assert [(p.range, p.offset) for p in head.inputs] == [(where, 0), (None, 0)]
    assert head.num_binary_bytes == 3
    assert head.outputs is not None
    assert [(o.name, o.range, o.is_binary) for o in head.outputs] == [("y", where, False), ("z", None, False)]


@pytest.mark.parametrize("binary", [True, False])
def test_an_output_may_differ_from_the_default(binary: bool) -> None:
    wanted = [{"name": "y", "parameters": {"binary_data": not binary}}, {"name": "z"}]
    head = parse_request_head(
        encode_head({"inputs": [], "outputs": wanted, "parameters": {"binary_data_output": binary}})
    )
    assert head.outputs is not None
    assert [o.is_binary for o in head.outputs] == [not binary, binary]


SCALARS = st.sampled_from(
    [None, True, -1, 0, 3, 12, 1 << 70, 1.5, float("nan"), "x", "INT32", "BYTES", "\ud800"]
)
VALUES = SCALARS | st.lists(SCALARS, max_size=3)
PARAMETERS = VALUES | st.dictionaries(
    st.sampled_from(
        ["binary_data_size", "shared_memory_region", "shared_memory_byte_size", "binary_data", "timeout"]
    ),
    VALUES,
    max_size=3,
)
ENTRIES = VALUES | st.dictionaries(
    st.sampled_from(["name", "datatype", "shape", "data", "parameters"]), PARAMETERS, max_size=5
)
HEADS = st.dictionaries(
    st.sampled_from(["inputs", "outputs", "parameters", "id"]),
    PARAMETERS | st.lists(ENTRIES, max_size=3),
    max_size=4,
)


@given(HEADS)
@pytest.mark.parametrize("parse", [parse_request_head, parse_response_head])
def test_any_object_is_a_head_or_refused(parse: object, value: dict[str, object]) -> None:
    with contextlib.suppress(InvalidInput):
        parse(json.dumps(value).encode())  # type: ignore[operator]


@given(st.binary())
@pytest.mark.parametrize("parse", [parse_request_head, parse_response_head])
def test_any_bytes_are_a_head_or_refused(parse: object, data: bytes) -> None:
    with contextlib.suppress(InvalidInput):
        parse(data)  # type: ignore[operator]


@pytest.mark.parametrize(
    "parameters", [{"sequence_id": 7}, {"sequence_id": "a"}, {"sequence_end": True}, {"priority": 3}]
)
def test_what_is_not_honoured_is_refused_by_name(parameters: dict[str, object]) -> None:
    text = json.dumps({"inputs": [], "parameters": parameters}).encode()
    with pytest.raises(InvalidInput, match=f"parameter {next(iter(parameters))} is"):
        parse_request_head(text)


def test_fields_that_ask_for_nothing_are_fine() -> None:
    nothing = {"sequence_id": 0, "sequence_start": False, "priority": 0}
    assert parse_request_head(json.dumps({"inputs": [], "parameters": nothing}).encode()).inputs == ()


def test_an_output_says_how_many_classes_it_is_to_be() -> None:
    def head(wanted: object) -> bytes:
        outputs = [{"name": "y", "parameters": {"classification": wanted}}]
        return encode_head({"inputs": [encode_tensor("x", "uint8", (1,), 1)], "outputs": outputs})

    for wanted in (0, 3):
        (output,) = parse_request_head(head(wanted)).outputs or ()
        assert output.num_classes == wanted
    for wrong in (-1, "3", 1 << 40, True):
        with pytest.raises(InvalidInput, match="classification of output 'y'"):
            parse_request_head(head(wrong))
