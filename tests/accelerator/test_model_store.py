"""Uploaded files: by their hash, in parts, from several clients at once, within limits, and never outside the store."""

from __future__ import annotations

import errno
import hashlib
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from elastic_inference.accelerator import model_store
from elastic_inference.errors import CapacityExceeded, ConnectionLost, InvalidInput, ModelNotFound
from elastic_inference.models.artifacts.store import ArtifactStore

CONTENT = bytes(range(256)) * 40
SHA256 = hashlib.sha256(CONTENT).hexdigest()


def ModelStore(directory: Path, limit_bytes: int | None = None) -> model_store.ModelStore:  # noqa: N802
    """A store as an accelerator has it."""
    return model_store.ModelStore(ArtifactStore.at(directory, limit_bytes))


def chunks_of(content: bytes, size: int = 1000) -> Callable[[int], memoryview]:
    """What the store reads from: a connection that brings `content`."""
    left = memoryview(content)

    def take(wanted: int) -> memoryview:
        nonlocal left
        view, left = left[: min(wanted, size)], left[min(wanted, size) :]
        return view

    return take


def put(
    store: model_store.ModelStore, content: bytes, offset: int = 0, total: int | None = None
) -> tuple[int, bool]:
    sha256 = SHA256 if total is not None else hashlib.sha256(content).hexdigest()
    total = len(content) if total is None else total
    return store.append(sha256, offset, total, chunks_of(content), len(content))


def describe(*files: tuple[str, bytes]) -> dict[str, Any]:
    entries = [{"path": p, "size_bytes": len(c), "sha256": hashlib.sha256(c).hexdigest()} for p, c in files]
    return {"format": "saved_model", "files": entries}


def test_a_file_comes_in_parts(tmp_path: Path) -> None:
    store = ModelStore(tmp_path)
    assert store.num_bytes(SHA256) == (0, False)
    assert put(store, CONTENT[:5000], 0, len(CONTENT)) == (5000, False)
    assert store.num_bytes(SHA256) == (5000, False)
    assert put(ModelStore(tmp_path), CONTENT[5000:], 5000, len(CONTENT)) == (len(CONTENT), True)
    assert store.num_bytes(SHA256) == (len(CONTENT), True)


def test_an_empty_file_is_a_file(tmp_path: Path) -> None:
    assert put(ModelStore(tmp_path), b"") == (0, True)


@pytest.mark.parametrize("offset", [0, 2500, 4999, 5000])
def test_bytes_that_are_here_already_are_skipped(tmp_path: Path, offset: int) -> None:
    store = ModelStore(tmp_path)
    put(store, CONTENT[:5000], 0, len(CONTENT))
    assert put(store, CONTENT[offset:], offset, len(CONTENT)) == (len(CONTENT), True)


def test_a_gap_is_refused(tmp_path: Path) -> None:
    store = ModelStore(tmp_path)
    with pytest.raises(InvalidInput, match="stands at byte 0, not 10"):
        put(store, CONTENT[10:], 10, len(CONTENT))


def test_more_than_the_whole_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="exceed its size 100"):
        put(ModelStore(tmp_path), CONTENT, 0, 100)


def test_a_wrong_hash_drops_the_file_and_another_try_succeeds(tmp_path: Path) -> None:
    store = ModelStore(tmp_path)
    with pytest.raises(InvalidInput, match="SHA-256"):
        put(store, b"x" + CONTENT[1:], 0, len(CONTENT))
    assert store.num_bytes(SHA256) == (0, False)
    assert put(store, CONTENT) == (len(CONTENT), True)


def test_a_connection_that_breaks_leaves_what_has_come(tmp_path: Path) -> None:
    store = ModelStore(tmp_path)
    take = chunks_of(CONTENT)

    def break_off(wanted: int) -> memoryview:
        if wanted <= len(CONTENT) - 3000:
            raise ConnectionLost("gone")
        return take(wanted)

    with pytest.raises(ConnectionLost):
        store.append(SHA256, 0, len(CONTENT), break_off, len(CONTENT))
    assert store.num_bytes(SHA256) == (3000, False)
    assert put(store, CONTENT[3000:], 3000, len(CONTENT)) == (len(CONTENT), True)


def test_clients_that_send_the_same_file_at_once_all_succeed(tmp_path: Path) -> None:
    store = ModelStore(tmp_path)

    def send(step: int) -> bool:
        position = 0
        for _ in range(1000):
            part = CONTENT[position : position + step]
            position, is_whole = put(store, part, position, len(CONTENT))
            if is_whole:
                return True
        return False

    with ThreadPoolExecutor(8) as threads:
        assert all(threads.map(send, [300, 700, 1100, 250, 999, 4096, 10_000, 512]))


def test_a_stalled_upload_stops_no_other(tmp_path: Path) -> None:
    store = ModelStore(tmp_path)
    is_waiting, go_on = threading.Event(), threading.Event()

    def stall(wanted: int) -> memoryview:  # noqa: ARG001
        is_waiting.set()
        go_on.wait(30)
        raise ConnectionLost("gone")

    with ThreadPoolExecutor(1) as threads:
        stalled = threads.submit(store.append, SHA256, 0, len(CONTENT), stall, len(CONTENT))
        is_waiting.wait(30)
        assert put(store, b"another") == (7, True)
        assert store.package(describe(("saved_model.pb", b"another"))).main_path.is_dir()
        assert store.num_bytes(SHA256) == (0, False)
        go_on.set()
        with pytest.raises(ConnectionLost):
            stalled.result(30)


def test_the_limit_counts_all_files_and_what_is_under_way(tmp_path: Path) -> None:
    store = ModelStore(tmp_path, limit_bytes=len(CONTENT) + 10)
    put(store, CONTENT[:100], 0, len(CONTENT))
    put(store, CONTENT[100:], 100, len(CONTENT))
    put(store, b"0123456789")
    with pytest.raises(CapacityExceeded, match="do not fit") as refused:
        put(store, b"x")
    assert (refused.value.requested, refused.value.available) == ("1 B", "0 B")


def test_a_full_disk_is_told_with_what_is_left(tmp_path: Path) -> None:
    def full(wanted: int) -> memoryview:  # noqa: ARG001
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(CapacityExceeded, match="No space left") as refused:
        ModelStore(tmp_path).append(SHA256, 0, 10, full, 10)
    assert refused.value.available


@pytest.mark.parametrize(
    "sha256", ["", "../../etc/passwd", "A" * 64, "0" * 63, "0" * 65, "0" * 63 + "\n", "/" * 64]
)
def test_what_is_no_hash_never_becomes_a_path(tmp_path: Path, sha256: str) -> None:
    store = ModelStore(tmp_path)
    with pytest.raises(InvalidInput, match="SHA-256"):
        store.num_bytes(sha256)
    with pytest.raises(InvalidInput, match="SHA-256"):
        store.append(sha256, 0, 1, chunks_of(b"x"), 1)


@pytest.mark.parametrize(
    "path",
    [
        "../x",
        "/etc/x",
        "a/../x",
        "",
        ".",
        "./x",
        "a//b",
        "a/",
        "a\\b",
        "a\nb",
        "a\0b",
        "\u202ex",
        "a" * 501,
        "a" * 300,
    ],
)
def test_a_path_that_leads_out_of_the_model_is_refused(tmp_path: Path, path: str) -> None:
    store = ModelStore(tmp_path / "store")
    put(store, b"x")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(InvalidInput):
        store.package(describe((path, b"x")))
    assert [p for p in sorted(tmp_path.rglob("*")) if p.is_file() and p not in before] == []


def test_a_file_where_a_folder_must_be_is_refused(tmp_path: Path) -> None:
    store = ModelStore(tmp_path)
    put(store, b"x")
    with pytest.raises(InvalidInput, match="laid out"):
        store.package(describe(("a", b"x"), ("a/b", b"x")))


def test_a_model_is_laid_out_as_described(tmp_path: Path) -> None:
    store = ModelStore(tmp_path)
    put(store, b"graph")
    put(store, b"")
    description = describe(("assets/empty.txt", b""), ("saved_model.pb", b"graph"))
    for _ in range(2):  # the second finds it there
        package = store.package(description)
        assert (package.main_path / "saved_model.pb").read_bytes() == b"graph"
        assert (package.main_path / "assets/empty.txt").read_bytes() == b""


def test_a_file_that_was_not_uploaded_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound, match=r"'saved_model\.pb'"):
        ModelStore(tmp_path).package(describe(("saved_model.pb", b"graph")))


@pytest.mark.parametrize(
    "change",
    [
        {"format": "exe"},
        {"files": []},
        {"files": None},
        {"files": [1]},
        {"files": [{"path": "a"}]},
        {"format": []},
    ],
)
def test_a_malformed_description_is_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput):
        ModelStore(tmp_path).package(describe(("a", b"x")) | change)


def test_an_upload_that_is_not_whole_counts_too(tmp_path: Path) -> None:
    store = ModelStore(tmp_path, limit_bytes=len(CONTENT))
    put(store, CONTENT[:100], 0, len(CONTENT))
    with pytest.raises(CapacityExceeded, match=r"holds 10\.0 KiB"):  # whole: the rest of it is promised room
        put(store, bytes(1))
    assert put(store, CONTENT[100:], 100, len(CONTENT))[1]
