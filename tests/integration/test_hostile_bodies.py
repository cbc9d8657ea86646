"""Inference bodies that lie: about the head's length, shapes, dtypes, element lengths, shared memory."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.integration.hostile_support import Target, start_target


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    with start_target(tmp_path_factory.mktemp("hostile")) as started:
        yield started


def _tensor(**changes: Any) -> dict[str, Any]:
    """The right input tensor of three int32, with fields replaced; None takes one away."""
    entry = {
        "name": "x",
        "datatype": "INT32",
        "shape": [3],
        "parameters": {"binary_data_size": 12},
    } | changes
    return {key: value for key, value in entry.items() if value is not None}


def _infer(target: Target, head: Any, binary: bytes = bytes(12)) -> bytes:
    text = json.dumps(head).encode()
    return target.infer(text + binary, len(text))


def _inputs(*entries: Any, **more: Any) -> dict[str, Any]:
    return {"inputs": list(entries), **more}


@pytest.mark.parametrize("size", ["-1", "abc", "1.5", "", "9" * 23, "9" * 5000, "0x10"])
def test_a_json_length_that_is_no_number_is_refused(target: Target, size: str) -> None:
    text = json.dumps(_inputs(_tensor())).encode()
    target.assert_refuses(target.infer(text + bytes(12), size), 400)


@pytest.mark.parametrize("excess", [1, 12, 13, 1 << 20, 1 << 40])
def test_a_json_length_beyond_the_body_is_refused(target: Target, excess: int) -> None:
    text = json.dumps(_inputs(_tensor())).encode()
    target.assert_refuses(target.infer(text + bytes(12), len(text) + 12 + excess), 400)


@pytest.mark.parametrize("size", [0, 1, 10, 40])
def test_a_json_length_that_cuts_the_json_is_refused(target: Target, size: int) -> None:
    text = json.dumps(_inputs(_tensor())).encode()
    target.assert_refuses(target.infer(text + bytes(12), size), 400)


NOT_JSON = {
    "nothing": b"",
    "text": b"hello",
    "half an object": b'{"inputs": [',
    "invalid UTF-8": b'{"inputs": "\xff\xfe"}',
    "NaN alone": b"NaN",
    "a list": b"[1, 2]",
    "null": b"null",
    "a number of 100,000 digits": b'{"inputs": ' + b"9" * 100_000 + b"}",
    "100,000 open brackets": b'{"inputs": ' + b"[" * 100_000,
    "100,000 nested objects": b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    "two objects": b"{}{}",
    "UTF-16": '{"inputs": []}'.encode("utf-16"),
}


@pytest.mark.parametrize("body", NOT_JSON.values(), ids=NOT_JSON)
@pytest.mark.parametrize("has_size", [True, False])
def test_what_is_no_json_object_is_refused(target: Target, body: bytes, has_size: bool) -> None:
    target.assert_refuses(target.infer(body, len(body) if has_size else None), 400)


WRONG_TENSORS: dict[str, dict[str, Any]] = {
    "no name": _tensor(name=None),
    "a number as name": _tensor(name=7),
    "a list as name": _tensor(name=["x"]),
    "an unknown name": _tensor(name="nothing"),
    "no datatype": _tensor(datatype=None),
    "an unknown datatype": _tensor(datatype="INT33"),
    "a list as datatype": _tensor(datatype=["INT32"]),
    "an object as datatype": _tensor(datatype={"a": 1}),
    "another datatype": _tensor(datatype="FP32"),
    "another datatype of other size": _tensor(datatype="INT64"),
    "no shape": _tensor(shape=None),
    "text as shape": _tensor(shape="3"),
    "text in the shape": _tensor(shape=["3"]),
    "a fraction in the shape": _tensor(shape=[3.5]),
    "true in the shape": _tensor(shape=[True]),
    "null in the shape": _tensor(shape=[None]),
    "a list in the shape": _tensor(shape=[[3]]),
    "a negative size": _tensor(shape=[-1]),
    "two negative sizes": _tensor(shape=[-1, -3]),
    "a huge size": _tensor(shape=[1 << 62]),
    "sizes whose product overflows 64 bits to 3": _tensor(shape=[3, (1 << 64) // 3 + 1]),
    "sizes whose product overflows to 0": _tensor(shape=[1 << 32, 1 << 32]),
    "a hundred axes": _tensor(shape=[1] * 99 + [3]),
    "a size of 400 digits": _tensor(shape=[10**400]),
    "another rank": _tensor(shape=[1, 3]),
    "too few elements": _tensor(shape=[2]),
    "too many elements": _tensor(shape=[4]),
    "a zero size with bytes": _tensor(shape=[0]),
    "a negative binary size": _tensor(parameters={"binary_data_size": -12}),
    "text as binary size": _tensor(parameters={"binary_data_size": "12"}),
    "a huge binary size": _tensor(parameters={"binary_data_size": 1 << 60}),
    "true as binary size": _tensor(parameters={"binary_data_size": True}),
    "parameters as list": _tensor(parameters=[12]),
    "data and binary both": _tensor(data=[1, 2, 3]),
    "no data at all": _tensor(parameters={}),
}


@pytest.mark.parametrize("tensor", WRONG_TENSORS.values(), ids=WRONG_TENSORS)
def test_a_tensor_that_lies_is_refused(target: Target, tensor: dict[str, Any]) -> None:
    target.assert_refuses(_infer(target, _inputs(tensor)), 400)


WRONG_DATA: dict[str, Any] = {
    "too few": [1, 2], "too many": [1, 2, 3, 4], "text": ["a", "b", "c"], "null": [None, 1, 2],
    "an object": {"a": 1}, "ragged": [[1, 2], [3]], "nested deep": [[[[[[1]]]]], 2, 3], "one text": "abc",
    "beyond int32": [1 << 40, 0, 0], "400 digits": [10**400, 1, 2], "infinity": [float("inf"), 1, 2],
    "not a number": [float("nan"), 1, 2],
}  # fmt: skip


@pytest.mark.parametrize("data", WRONG_DATA.values(), ids=WRONG_DATA)
def test_json_data_that_does_not_fit_is_refused(target: Target, data: Any) -> None:
    target.assert_refuses(_infer(target, _inputs(_tensor(data=data, parameters=None)), b""), 400)


WRONG_HEADS: dict[str, Any] = {
    "no inputs": {},
    "null inputs": {"inputs": None},
    "inputs as object": {"inputs": {"x": 1}},
    "inputs as text": {"inputs": "x"},
    "inputs of numbers": {"inputs": [1, 2]},
    "an empty list": {"inputs": []},
    "the same input twice": _inputs(_tensor(), _tensor()),
    "outputs as text": _inputs(_tensor(), outputs="y"),
    "outputs of numbers": _inputs(_tensor(), outputs=[1]),
    "an unknown output": _inputs(_tensor(), outputs=[{"name": "nothing"}]),
    "a list as output name": _inputs(_tensor(), outputs=[{"name": ["y"]}]),
    "parameters as list": _inputs(_tensor(), parameters=[1]),
    "a negative timeout": _inputs(_tensor(), parameters={"timeout": -5}),
    "a timeout of 400 digits": _inputs(_tensor(), parameters={"timeout": 10**400}),
    "a number as id": _inputs(_tensor(), id=5),
}


@pytest.mark.parametrize("head", WRONG_HEADS.values(), ids=WRONG_HEADS)
def test_a_head_that_is_malformed_is_refused(target: Target, head: Any) -> None:
    binary = bytes(24) if "twice" in str(head) else bytes(12)
    target.assert_refuses(_infer(target, head, binary if head.get("inputs") else b""), 400)


@pytest.mark.parametrize("extra", [-12, -1, 1, 100_000])
def test_a_body_of_other_size_than_its_tensors_is_refused(target: Target, extra: int) -> None:
    target.assert_refuses(_infer(target, _inputs(_tensor()), bytes(12 + extra)), 400)


@pytest.mark.parametrize("sent", [0, 10, 60, 90])
def test_a_body_that_ends_early_is_closed(target: Target, sent: int) -> None:
    head, _, body = target.valid().partition(b"\r\n\r\n")
    answer = target.ask(head + b"\r\n\r\n" + body[:sent], end_sending=True)
    assert answer is None or answer.status == 400
    target.assert_works()


RANGES: dict[str, dict[str, Any]] = {
    "a region that nobody registered": {"shared_memory_region": "none", "shared_memory_byte_size": 12},
    "no size": {"shared_memory_region": "mine"},
    "a negative offset": {
        "shared_memory_region": "mine",
        "shared_memory_offset": -12,
        "shared_memory_byte_size": 12,
    },
    "an offset past the end": {
        "shared_memory_region": "mine",
        "shared_memory_offset": 4096,
        "shared_memory_byte_size": 12,
    },
    "a range past the end": {
        "shared_memory_region": "mine",
        "shared_memory_offset": 4090,
        "shared_memory_byte_size": 12,
    },
    "an offset that overflows": {
        "shared_memory_region": "mine",
        "shared_memory_offset": (1 << 64) - 6,
        "shared_memory_byte_size": 12,
    },
    "a list as region": {"shared_memory_region": ["mine"], "shared_memory_byte_size": 12},
    "another size than the tensor": {"shared_memory_region": "mine", "shared_memory_byte_size": 8},
}


@pytest.fixture
def region(target: Target) -> Iterator[Path]:
    """A region of 4096 bytes, registered as `mine`."""
    path = Path("/dev/shm") / f"hostile-{secrets.token_hex(8)}"
    path.write_bytes(bytes(4096))
    path.chmod(0o600)
    body = json.dumps({"key": f"/{path.name}", "offset": 0, "byte_size": 4096}).encode()
    url = "/v2/systemsharedmemory/region/mine"
    answer = target.ask(target.head("POST", f"{url}/register", {"Content-Length": len(body)}) + body)
    assert answer is not None
    assert answer.status == 200, answer
    try:
        yield path
        target.ask(target.head("POST", f"{url}/unregister", {"Content-Length": 0}))
    finally:
        path.unlink(missing_ok=True)


@pytest.mark.usefixtures("region")
@pytest.mark.parametrize("parameters", RANGES.values(), ids=RANGES)
@pytest.mark.parametrize("side", ["inputs", "outputs"])
def test_a_shared_memory_range_that_lies_is_refused(
    target: Target, parameters: dict[str, Any], side: str
) -> None:
    if side == "inputs":
        request = _infer(target, _inputs(_tensor(parameters=parameters)), b"")
    else:
        request = _infer(target, _inputs(_tensor(), outputs=[{"name": "y", "parameters": parameters}]))
    target.assert_refuses(request, 400)


def test_a_region_that_its_client_made_smaller_is_refused(target: Target, region: Path) -> None:
    """Touching mapped pages behind the end of the file would end the process with SIGBUS."""
    os.truncate(region, 0)
    parameters = {"shared_memory_region": "mine", "shared_memory_byte_size": 12}
    target.assert_refuses(_infer(target, _inputs(_tensor(parameters=parameters)), b""), 400)
    outputs = [{"name": "y", "parameters": parameters}]
    target.assert_refuses(_infer(target, _inputs(_tensor(), outputs=outputs)), 400)


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"key": "/nothing-of-this-name", "byte_size": 10},
        {"key": "/../../etc/passwd", "byte_size": 10},
        {"key": "/etc/passwd", "byte_size": 10},
        {"key": "", "byte_size": 10},
        {"key": "/", "byte_size": 10},
        {"key": "/a\0b", "byte_size": 10},
        {"key": "/" + "a" * 5000, "byte_size": 10},
        {"key": 5, "byte_size": 10},
        {"key": "/x", "byte_size": -1},
        {"key": "/x", "byte_size": "10"},
        {"key": "/x", "byte_size": 1 << 70},
        {"key": "/x", "offset": -1, "byte_size": 10},
    ],
)
def test_a_region_that_cannot_be_registered_is_refused(target: Target, fields: dict[str, Any]) -> None:
    body = json.dumps(fields).encode()
    head = target.head("POST", "/v2/systemsharedmemory/region/other/register", {"Content-Length": len(body)})
    target.assert_refuses(head + body, 400, 404)


def test_right_values_still_come_back_rightly(target: Target) -> None:
    values = np.array([7, -8, 9], np.int32)
    answer = target.ask(_infer(target, _inputs(_tensor()), values.tobytes()))
    assert answer is not None
    assert answer.json()["outputs"][0]["data"] == [14, -16, 18]
