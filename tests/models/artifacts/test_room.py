"""What a store may hold: counted once, promised whole, and never the disk's last bytes."""

from __future__ import annotations

import hashlib
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from elastic_inference.accelerator import model_store
from elastic_inference.errors import CapacityExceeded, InvalidInput
from elastic_inference.models.artifacts.blobs import DISK_RESERVE_BYTES, UPLOAD_EXPIRY_SECONDS, BlobFolder
from elastic_inference.models.artifacts.room import Room
from elastic_inference.models.artifacts.store import ArtifactStore

MIB = 1 << 20


def ModelStore(  # noqa: N802
    directory: Path,
    limit_bytes: int | None,
    reserve_bytes: int = DISK_RESERVE_BYTES,
    wall_clock: Callable[[], float] = time.time,
) -> model_store.ModelStore:
    """A store as an accelerator has it."""
    blobs = BlobFolder(directory, limit_bytes, reserve_bytes, wall_clock)
    return model_store.ModelStore(ArtifactStore(blobs))


def sha256_of(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def chunks(content: bytes) -> Iterator[memoryview]:
    yield memoryview(content)


def test_uploads_at_once_do_not_together_pass_the_limit(tmp_path: Path) -> None:
    """Five of 900 KiB into 1 MiB: each looked only at what was on the disk, and all went in."""
    store = ModelStore(tmp_path, MIB)
    contents = [bytes([number]) * (900 << 10) for number in range(5)]
    all_began = threading.Barrier(5, timeout=30.0)

    def send(content: bytes) -> bool:
        def take(wanted: int) -> memoryview:
            all_began.wait(30)
            return memoryview(content)[:wanted]

        try:
            return store.append(sha256_of(content), 0, len(content), take, len(content))[1]
        except CapacityExceeded:
            all_began.wait(30)
            return False

    with ThreadPoolExecutor(5) as pool:
        assert sorted(pool.map(send, contents)) == [False] * 4 + [True]


def test_what_is_there_already_counts_after_a_restart_and_goes_when_room_is_needed(tmp_path: Path) -> None:
    content = b"x" * 700
    first = ModelStore(tmp_path, 1000)
    first.append(sha256_of(content), 0, 700, lambda n: memoryview(content)[:n], 700)
    other = b"y" * 400
    second = ModelStore(tmp_path, 1000)
    with pytest.raises(CapacityExceeded, match="holds 700 B that is in use and may hold 1000 B; 400 B more"):
        second.append(sha256_of(other), 0, 400, lambda n: memoryview(other)[:n], 400)
    first.artifacts.close()  # as the end of its process does
    assert second.append(sha256_of(other), 0, 400, lambda n: memoryview(other)[:n], 400) == (400, True)
    assert second.num_bytes(sha256_of(content)) == (0, False)


def test_the_disk_keeps_its_reserve(tmp_path: Path) -> None:
    free = shutil.disk_usage(tmp_path).free
    store = ModelStore(tmp_path, None, reserve_bytes=free - 10 * MIB)
    with pytest.raises(CapacityExceeded, match=r"the disk has .* left for models, .* are kept free"):
        store.append("0" * 64, 0, 100 * MIB, lambda n: memoryview(bytes(n)), 1000)


def test_an_upload_that_nobody_goes_on_with_expires(tmp_path: Path) -> None:
    now = [0.0]
    store = ModelStore(tmp_path, 1000, wall_clock=lambda: now[0])
    half = b"x" * 300
    store.append("0" * 64, 0, 900, lambda n: memoryview(half)[:n], 300)
    now[0] = (tmp_path / "arriving" / ("0" * 64)).stat().st_mtime + UPLOAD_EXPIRY_SECONDS - 1
    other = b"y" * 400
    with pytest.raises(CapacityExceeded):
        store.append(sha256_of(other), 0, 400, lambda n: memoryview(other)[:n], 400)
    now[0] += 2
    assert store.append(sha256_of(other), 0, 400, lambda n: memoryview(other)[:n], 400) == (400, True)
    assert store.num_bytes("0" * 64) == (0, False)


def test_a_blob_with_a_wrong_hash_gives_its_room_back(tmp_path: Path) -> None:
    store = ModelStore(tmp_path, 1000)
    for _ in range(3):
        with pytest.raises(InvalidInput, match="have SHA-256"):
            store.append("0" * 64, 0, 800, lambda n: memoryview(b"z" * 800)[:n], 800)


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 50), st.booleans())))
def test_the_sum_is_that_of_the_blobs(steps: list[tuple[str, int, bool]]) -> None:
    room, held = Room(Path("/"), 100, 0, clock=lambda: 0.0), dict[str, int]()
    for key, size, is_taken in steps:
        if not is_taken:
            room.give_back(key)
            held.pop(key, None)
            continue
        try:
            room.take(key, size, 0)
        except CapacityExceeded:
            assert sum(v for k, v in held.items() if k != key) + size > 100
        else:
            held[key] = size
        assert room.num_bytes == sum(held.values()) <= 100
