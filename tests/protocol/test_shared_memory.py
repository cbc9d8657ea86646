"""Regions by key: written by one side and seen by the other, never anyone else's, never beyond their end."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from elastic_inference.errors import InvalidInput
from elastic_inference.protocol.shared_memory import Region


@pytest.fixture
def region() -> Iterator[Region]:
    value = Region.create(10_000)
    yield value
    value.unlink()
    value.unlink()
    value.close()
    value.close()


def file_of(region: Region) -> Path:
    return Path("/dev/shm") / region.key[1:]


def test_both_sides_see_the_same_bytes_after_the_name_is_gone(region: Region) -> None:
    other = Region.open(region.key, 5000, offset=4096)
    region.unlink()
    assert not file_of(region).exists()
    region.view[4096:4100] = b"seen"
    assert (bytes(other.view[:4]), other.size_bytes) == (b"seen", 5000)
    other.close()


def test_a_region_is_for_its_owner_alone(region: Region) -> None:
    assert file_of(region).stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("size", "offset"), [(10_001, 0), (1, 10_000), (0, 0), (-1, 0), (10, -1), (1 << 70, 0)]
)
def test_a_part_that_is_not_within_is_refused(region: Region, size: int, offset: int) -> None:
    with pytest.raises(InvalidInput, match="exceeds"):
        Region.open(region.key, size, offset)


@pytest.mark.parametrize(
    "key", ["", "/", "/../../etc/passwd", "/.hidden", "/a\0b", "/" + "a" * 300, "/\ud800", "/nothing"]
)
def test_a_key_that_is_no_region_is_refused(key: str) -> None:
    with pytest.raises(InvalidInput, match="shared memory"):
        Region.open(key, 1)


def test_what_is_no_file_is_refused() -> None:
    name = f"elastic-inference-test-{secrets.token_hex(8)}"
    (Path("/dev/shm") / name).symlink_to("/etc/hostname")
    try:
        with pytest.raises(InvalidInput, match="unable to open"):
            Region.open(f"/{name}", 1)
    finally:
        (Path("/dev/shm") / name).unlink()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, which may open the regions of others")
def test_another_users_region_is_refused(region: Region) -> None:
    os.chown(file_of(region), 12345, 12345)
    with pytest.raises(InvalidInput, match="not owned"):
        Region.open(region.key, 1)


def test_a_region_that_shrank_is_known(region: Region) -> None:
    other = Region.open(region.key, 10_000)
    assert other.is_whole()
    os.truncate(file_of(region), 100)
    assert not other.is_whole()
    other.close()


def test_a_region_that_is_looked_at_stays_mapped_until_nobody_does(region: Region) -> None:
    other = Region.open(region.key, 10_000)
    array = np.frombuffer(other.view, np.uint8)
    other.close()
    region.view[0] = 7
    assert array[0] == 7


def test_a_full_memory_is_an_error_and_leaves_nothing() -> None:
    with pytest.raises(OSError):  # noqa: PT011  # ENOSPC or EFBIG, as the system has it
        Region.create(1 << 55)
    assert not list(Path("/dev/shm").glob(f"elastic-inference-{os.getpid()}-*"))


def test_what_a_killed_client_left_goes_with_the_next_region() -> None:
    program = (
        "from elastic_inference.protocol.shared_memory import Region\nprint(Region.create(1000).key[1:])"
    )
    made = [subprocess.check_output([sys.executable, "-c", program], text=True, timeout=60) for _ in range(2)]
    left = [Path("/dev/shm") / name.strip() for name in made]
    mine = Region.create(1000)
    of_somebody_else = Path("/dev/shm") / f"of-somebody-else-{secrets.token_hex(8)}"
    of_somebody_else.touch()
    try:
        for old in (left[0], file_of(mine), of_somebody_else):
            os.utime(old, (0, 0))
        Region.create(1000).unlink()
        assert [path.exists() for path in (*left, file_of(mine), of_somebody_else)] == [
            False,
            True,
            True,
            True,
        ]
    finally:
        for path in (left[1], file_of(mine), of_somebody_else):
            path.unlink()
