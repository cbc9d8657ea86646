"""Uploads and loads that lie, stop half-way, come twice at once or try to leave the store."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from elastic_inference import EIPredictor
from elastic_inference.testing import write_model
from tests.integration.hostile_support import Answer, Target, start_target

CONTENT = b"some bytes of a model" * 1000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    with start_target(tmp_path_factory.mktemp("hostile")) as started:
        yield started


def _put(target: Target, sha256: str, body: bytes, content_range: str | None = None) -> bytes:
    headers = {"Content-Length": len(body), "Content-Range": content_range}
    return target.head("PUT", f"/v2/blobs/{sha256}", headers) + body


def _load(target: Target, fields: Any, name: str = "hostile") -> bytes:
    body = json.dumps(fields).encode()
    return target.head("POST", f"/v2/repository/models/{name}/load", {"Content-Length": len(body)}) + body


def _state(target: Target, sha256: str) -> dict[str, Any]:
    answer = target.ask(target.head("GET", f"/v2/blobs/{sha256}"))
    assert answer is not None
    return dict(answer.json())


def _ok(answer: Answer | None) -> Any:
    assert answer is not None
    assert answer.status in (200, 201), answer
    return answer.json()


@pytest.mark.parametrize(
    "content_range",
    [
        "bytes 0-9", "bytes 0-9/5", "bytes 9-0/10", "bytes -5-4/10", "bytes 0-10/11", "bytes 5-14/15", "items 0-9/10",
        "bytes 0-9/*", "bytes 0-" + "9" * 30 + "/10", "bytes 0-9/" + "9" * 30, "",
    ],
)  # fmt: skip
def test_a_range_that_lies_is_refused_and_nothing_is_kept(target: Target, content_range: str) -> None:
    sha256 = hashlib.sha256(content_range.encode()).hexdigest()
    target.assert_refuses(_put(target, sha256, bytes(10), content_range), 400, 416)
    assert _state(target, sha256) == {"num_bytes": 0, "is_whole": False}


def test_content_that_is_not_its_hash_is_dropped(target: Target) -> None:
    text = target.assert_refuses(_put(target, SHA256, b"other" + CONTENT[5:]), 400)
    assert "SHA-256" in text
    assert _state(target, SHA256) == {"num_bytes": 0, "is_whole": False}


def test_an_upload_goes_on_where_it_was_cut_and_may_come_twice(target: Target) -> None:
    half = len(CONTENT) // 2
    size = len(CONTENT)
    first = _put(target, SHA256, CONTENT[:half], f"bytes 0-{half - 1}/{size}")
    assert target.ask(first[:-100], end_sending=True) is None
    present = _state(target, SHA256)["num_bytes"]
    assert present <= half - 100
    _ok(target.ask(_put(target, SHA256, CONTENT[present:half], f"bytes {present}-{half - 1}/{size}")))
    assert _state(target, SHA256) == {"num_bytes": half, "is_whole": False}
    rest = _put(target, SHA256, CONTENT[half:], f"bytes {half}-{size - 1}/{size}")
    assert _ok(target.ask(rest))["is_whole"]
    assert _ok(target.ask(rest))["is_whole"]


def test_an_empty_file_is_a_file(target: Target) -> None:
    assert _ok(target.ask(_put(target, hashlib.sha256(b"").hexdigest(), b"")))["is_whole"]


def test_an_upload_that_stops_holds_up_no_other(target: Target, tmp_path: Path) -> None:
    other = b"another model"
    sha256 = hashlib.sha256(other).hexdigest()
    with target.connect() as connection:
        connection.send(_put(target, "0" * 64, bytes(1000))[:-500])
        assert _ok(target.ask(_put(target, sha256, other)))["is_whole"]
        graph = write_model(tmp_path / "fresh.testing", wait_seconds=0.0)
        with EIPredictor(str(graph), address=target.address, token=target.token) as predictor:
            predictor({"inputs": np.zeros((1, 2, 2, 3), np.uint8)})


def test_many_clients_may_bring_the_same_model_at_once(target: Target, tmp_path: Path) -> None:
    wide = {f"input_{i}": ("float32", (None,)) for i in range(2000)}  # a file of more than one network packet
    path = write_model(tmp_path / "same.testing", wide, {"input_7": ("float32", (None,))})
    path.write_text(path.read_text() + " " * (9 << 20))  # and of more than one chunk

    def bring(number: int) -> str:
        with EIPredictor(str(path), address=target.address, token=target.token, warm_up=False) as predictor:
            return f"{number}: {predictor.report.engine}"

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(bring, range(8))) == [f"{number}: testing" for number in range(8)]


def _package(path: str = "model.testing", **changes: Any) -> dict[str, Any]:
    file = {"path": path, "size_bytes": len(CONTENT), "sha256": SHA256} | changes
    return {"package": {"format": "testing", "files": [file]}, "signature": {}}


@pytest.mark.parametrize(
    "path",
    ["../out", "/etc/passwd", "a/../../out", "", ".", "..", "a//b", "a\0b", "a\\b", "a\nb", "a/./b", "x" * 5000, 5],
)  # fmt: skip
def test_a_path_that_leaves_the_model_is_refused(target: Target, path: Any) -> None:
    _ok(target.ask(_put(target, SHA256, CONTENT)))
    target.assert_refuses(_load(target, {"parameters": _package(path)}), 400)


@pytest.mark.parametrize(
    "fields",
    [
        {"parameters": []},
        {"parameters": {"package": []}},
        {"parameters": {"package": {}}},
        {"parameters": {"package": {"format": "testing", "files": []}, "signature": {}}},
        {"parameters": {"package": {"format": ["testing"], "files": []}, "signature": {}}},
        {"parameters": {"package": {"format": "testing", "files": [1]}, "signature": {}}},
        {"parameters": {"package": {"format": "testing", "files": {}}, "signature": {}}},
        {"parameters": _package(size_bytes=-1)},
        {"parameters": _package(size_bytes=1 << 70)},
        {"parameters": _package(size_bytes=5)},
        {"parameters": _package(sha256="../../etc/passwd")},
        {"parameters": _package(sha256=5)},
        {"parameters": _package(sha256="f" * 64)},
        {"parameters": _package() | {"signature": []}},
        {"parameters": _package() | {"signature": {"input_names": 5, "output_names": 6}}},
        {"parameters": _package() | {"engine": ["testing"]}},
        {"parameters": _package() | {"engine": "nothing"}},
        {"parameters": _package() | {"precision": "fp7"}},
        {"parameters": _package() | {"precision": ["fp32"]}},
        {"parameters": _package() | {"warm_up": 5}},
        {"parameters": _package() | {"warm_up": {"nothing": [1]}}},
        {"parameters": _package()},
    ],
)
def test_a_load_that_lies_is_refused(target: Target, fields: dict[str, Any]) -> None:
    _ok(target.ask(_put(target, SHA256, CONTENT)))
    target.assert_refuses(_load(target, fields), 400, 404)


@pytest.mark.parametrize("shape", [[-1], ["a"], 5, [1 << 40], [1] * 100, {"a": 1}, [None], [1.5]])
def test_a_warm_up_shape_that_cannot_be_is_refused_or_noted(
    target: Target, tmp_path: Path, shape: Any
) -> None:
    content = write_model(tmp_path / "warm.testing").read_bytes()
    sha256 = hashlib.sha256(content).hexdigest()
    _ok(target.ask(_put(target, sha256, content)))
    file = {"path": "warm.testing", "size_bytes": len(content), "sha256": sha256}
    package = {"format": "testing", "files": [file]}
    fields = {"parameters": {"package": package, "signature": {}, "warm_up": {"inputs": shape}}}
    answer = target.ask(_load(target, fields, name=f"warm-{hashlib.sha256(str(shape).encode()).hexdigest()}"))
    assert answer is not None
    assert answer.status in (200, 400, 413), answer
    target.assert_works()


@pytest.mark.parametrize("name", ["%2e%2e%2fx", "a%00", "-x", "%20", "a" * 300, "%e4"])
def test_a_model_name_that_is_no_name_is_refused(target: Target, name: str) -> None:
    _ok(target.ask(_put(target, SHA256, CONTENT)))
    target.assert_refuses(_load(target, {"parameters": _package()}, name=name), 400, 404)
