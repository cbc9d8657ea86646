"""What was made of models: found again by its key, never trusted blindly, and never in the way of anything."""

from __future__ import annotations

import contextlib
import os
import shutil
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from elastic_inference.models.artifacts.blobs import BlobFolder, WrittenFile
from elastic_inference.models.artifacts.store import MAX_ENTRIES, Artifact, ArtifactStore, Kind
from tests.models.artifacts.disks import make_read_only, small_disk

KEY = {"model": "0" * 64, "engine": "openvino 1", "num_threads": 2}
CONTENT = bytes(range(256)) * 400


def writer(content: bytes) -> Callable[[WrittenFile], object]:
    return lambda file: file.write(content)


def put(store: ArtifactStore, content: bytes = CONTENT, **changes: Any) -> str:
    return store.put(Kind.COMPILED, KEY | changes, {"seconds": 1.5}, writer(content))


def found(store: ArtifactStore, **changes: Any) -> Artifact | None:
    return store.get(Kind.COMPILED, KEY | changes)


def content_of(artifact: Artifact | None) -> bytes:
    assert artifact is not None
    assert artifact.path is not None
    return artifact.path.read_bytes()


def blob_of(store: ArtifactStore) -> Path:
    (path,) = (store.blobs.directory / "blobs").iterdir()
    os.chmod(path, 0o600)
    return path


def test_what_was_put_is_found_by_all_of_its_key_and_of_another_store(tmp_path: Path) -> None:
    store = ArtifactStore.at(tmp_path)
    assert found(store) is None
    assert put(store) == ""
    again = found(ArtifactStore.at(tmp_path))
    assert content_of(again) == CONTENT
    assert again is not None
    assert (again.about, again.key, again.size_bytes) == ({"seconds": 1.5}, KEY, len(CONTENT))
    assert found(store, num_threads=3) is None
    assert found(store, engine="openvino 2") is None
    assert store.get(Kind.PROOF, KEY) is None


def test_a_description_needs_no_content(tmp_path: Path) -> None:
    store = ArtifactStore.at(tmp_path)
    assert store.put(Kind.DECISION, KEY, {"engine": "openvino"}) == ""
    decision = store.get(Kind.DECISION, KEY)
    assert decision is not None
    assert (decision.about, decision.path) == ({"engine": "openvino"}, None)


def test_the_last_one_put_counts(tmp_path: Path) -> None:
    store = ArtifactStore.at(tmp_path)
    put(store, b"old")
    put(store, b"new")
    assert content_of(found(store)) == b"new"


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(CONTENT[:-1]),
        lambda path: path.write_bytes(CONTENT[:-1] + b"x"),
        lambda path: path.unlink(),
        lambda path: (path.unlink(), path.mkdir()),
    ],
)
def test_damaged_content_is_a_miss_and_is_made_anew(tmp_path: Path, damage: Callable[[Path], object]) -> None:
    store = ArtifactStore.at(tmp_path)
    put(store)
    damage(blob_of(store))
    assert found(store) is None
    if not (tmp_path / "blobs" / next(iter(os.listdir(tmp_path / "blobs")), "none")).is_dir():
        assert put(store) == ""
        assert content_of(found(store)) == CONTENT


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "null", "{}", '{"key": 1}', "\ud800".encode("utf-8", "surrogatepass"), "[" * 100_000],
)
def test_a_damaged_entry_is_a_miss(tmp_path: Path, text: str | bytes) -> None:
    store = ArtifactStore.at(tmp_path)
    put(store)
    (entry,) = (tmp_path / "entries" / "compiled").iterdir()
    entry.write_bytes(text if isinstance(text, bytes) else text.encode())
    assert found(store) is None
    assert store.artifacts() == []
    assert put(store) == ""
    assert content_of(found(store)) == CONTENT


def test_an_entry_under_a_wrong_name_is_a_miss(tmp_path: Path) -> None:
    store = ArtifactStore.at(tmp_path)
    put(store, num_threads=3)
    (entry,) = (tmp_path / "entries" / "compiled").iterdir()
    put(store, b"two threads")
    (right,) = set((tmp_path / "entries" / "compiled").iterdir()) - {entry}
    shutil.copy(entry, right)
    assert found(store) is None


def test_what_is_in_use_stays_and_the_least_recently_used_goes(tmp_path: Path) -> None:
    now = [1e9]
    blobs = BlobFolder(tmp_path, 350_000, 0, lambda: now[0])
    store = ArtifactStore(blobs)
    for number in range(3):
        now[0] += 100
        put(store, bytes([number]) * 100_000, number=number)
    now[0] += 100
    used = found(store, number=1)
    now[0] += 100
    released = found(store, number=0)
    assert released is not None
    released.release()
    assert put(store, b"3" * 100_000, number=3) == ""
    assert [found(store, number=n) is not None for n in range(4)] == [True, True, False, True]
    store.blobs.close()
    assert used is not None
    assert put(store, b"4" * 200_000, number=4) == ""


def test_a_store_that_is_full_of_what_is_in_use_says_so_and_keeps_what_it_has(tmp_path: Path) -> None:
    store = ArtifactStore(BlobFolder(tmp_path, 150_000, 0))
    put(store, b"1" * 100_000, number=1)
    assert found(store, number=1) is not None
    why = put(store, b"2" * 100_000, number=2)
    assert "may hold 146.5 KiB" in why
    assert "do not fit" in why
    assert found(store, number=2) is None
    assert content_of(found(store, number=1)) == b"1" * 100_000
    assert list((tmp_path / "arriving").iterdir()) == []


def test_the_reserve_of_the_disk_is_never_given_away(tmp_path: Path) -> None:
    free = shutil.disk_usage(tmp_path).free
    store = ArtifactStore(BlobFolder(tmp_path, None, free))
    assert "are kept free" in put(store)


def test_a_disk_that_is_full_costs_the_next_load_its_time_alone() -> None:
    with small_disk(4) as disk:
        store = ArtifactStore(BlobFolder(disk, None, 0))
        put(store, b"kept", number=1)
        with open(disk / "filler", "wb", buffering=0) as filler, contextlib.suppress(OSError):
            while True:
                filler.write(bytes(4096))
        assert shutil.disk_usage(disk).free == 0
        why = put(store)
        assert "No space left" in why or "do not fit" in why
        assert found(store) is None
        assert [path.name for path in (disk / "arriving").iterdir()] == []


def test_a_disk_that_lies_about_its_room_is_told_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    """Between looking and writing somebody else may have taken it."""
    with small_disk(4) as disk:
        store = ArtifactStore(BlobFolder(disk, None, 0))
        monkeypatch.setattr(store.blobs.room, "take", lambda *_: None)
        assert "No space left on device" in put(store, bytes(5 << 20))
        assert put(store) == ""


def test_a_store_that_may_only_be_read_is_read(tmp_path: Path) -> None:
    with small_disk() as disk:
        put(ArtifactStore(BlobFolder(disk, None, 0)))
        make_read_only(disk)
        store = ArtifactStore.at(disk)
        assert content_of(found(store)) == CONTENT
        assert "Read-only file system" in put(store, number=2)
        assert "cannot be written" in store.why_unusable()
    assert ArtifactStore.at(tmp_path).why_unusable() == ""


def test_a_store_that_others_may_write_is_not_trusted(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    os.chmod(tmp_path / "store", 0o777)
    assert "can be written by other users" in ArtifactStore.at(tmp_path / "store").why_unusable()


def test_a_store_that_is_removed_while_it_is_used_is_made_again(tmp_path: Path) -> None:
    store = ArtifactStore.at(tmp_path / "store")
    put(store)
    assert found(store) is not None
    shutil.rmtree(tmp_path / "store")
    assert found(store) is None
    assert put(store) == ""
    assert content_of(found(store)) == CONTENT


def test_an_operators_store_is_read_and_never_written(tmp_path: Path) -> None:
    put(ArtifactStore.at(tmp_path / "published"))
    before = sorted(path for path in (tmp_path / "published").rglob("*") if path.is_file())
    store = ArtifactStore.at(tmp_path / "own", published=tmp_path / "published")
    shared = found(store)
    assert content_of(shared) == CONTENT
    assert shared is not None
    assert shared.is_published
    assert store.published is not None
    assert "read only" in put(store.published, number=2)
    put(store, b"own")
    assert content_of(found(store)) == b"own"
    assert sorted(path for path in (tmp_path / "published").rglob("*") if path.is_file()) == before
    damaged = blob_of(store.published)
    damaged.write_bytes(b"")
    assert found(store.published) is None
    assert damaged.exists()


def test_one_store_is_never_seen_in_another(tmp_path: Path) -> None:
    put(ArtifactStore.at(tmp_path / "one"))
    assert found(ArtifactStore.at(tmp_path / "other")) is None


def test_removing_spares_content_that_something_else_needs(tmp_path: Path) -> None:
    store = ArtifactStore.at(tmp_path)
    put(store, CONTENT, number=1)
    put(store, CONTENT, number=2)
    first, second = store.artifacts()
    assert store.remove([first]) == 0
    assert store.remove([second]) == len(CONTENT)
    assert list((tmp_path / "blobs").iterdir()) == []


def test_entries_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("elastic_inference.models.artifacts.store.MAX_ENTRIES", 20)
    assert MAX_ENTRIES > 20
    store = ArtifactStore.at(tmp_path)
    for number in range(50):
        store.put(Kind.PROOF, KEY | {"number": number}, {})
    assert len(store.artifacts()) <= 20
    assert store.get(Kind.PROOF, KEY | {"number": 49}) is not None


def test_of_those_who_want_the_same_at_once_one_makes_it(tmp_path: Path) -> None:
    num_made = 0
    all_here = threading.Barrier(8, timeout=60)

    def load() -> bytes:
        nonlocal num_made
        store = ArtifactStore.at(tmp_path)
        all_here.wait(60)
        with store.making(Kind.COMPILED, KEY):
            if found(store) is None:
                num_made += 1
                assert put(store) == ""
            return content_of(found(store))

    with ThreadPoolExecutor(8) as threads:
        contents = [future.result(60) for future in [threads.submit(load) for _ in range(8)]]
    assert contents == [CONTENT] * 8
    assert num_made == 1
