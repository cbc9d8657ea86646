"""The fence: accelerators answer until the moment that their host wrote, and no longer."""

from __future__ import annotations

from pathlib import Path

import pytest

from elastic_inference.limits.fence import Fence, FenceKeeper, boot_seconds


def test_a_new_fence_is_closed(tmp_path: Path) -> None:
    keeper = FenceKeeper(tmp_path / "fence")
    assert not Fence(str(keeper.path)).is_open()
    assert keeper.left_seconds() < 0


def test_it_is_open_until_its_moment_for_all_that_read_it(tmp_path: Path) -> None:
    keeper = FenceKeeper(tmp_path / "fence")
    readers = [Fence(str(keeper.path)) for _ in range(2)]
    keeper.open_until(boot_seconds() + 3600)
    assert all(reader.is_open() for reader in readers)
    assert 3500 < keeper.left_seconds() <= 3600
    keeper.open_until(boot_seconds() + 60)  # an answer that came late says less than is known
    assert keeper.left_seconds() > 3500
    keeper.close_now()
    assert not any(reader.is_open() for reader in readers)
    for reader in readers:
        reader.wait_closed()


def test_it_closes_by_itself(tmp_path: Path) -> None:
    keeper = FenceKeeper(tmp_path / "fence")
    reader = Fence(str(keeper.path))
    keeper.open_until(boot_seconds() + 0.05)
    reader.wait_closed()
    assert not reader.is_open()


def test_the_next_run_of_a_host_begins_with_it_closed(tmp_path: Path) -> None:
    first = FenceKeeper(tmp_path / "fence")
    first.open_until(boot_seconds() + 3600)
    left_over = Fence(str(first.path))
    FenceKeeper(tmp_path / "fence")
    assert not left_over.is_open()


def test_accelerators_may_read_it_and_not_write_it(tmp_path: Path) -> None:
    keeper = FenceKeeper(tmp_path / "fence")
    assert keeper.path.stat().st_mode & 0o777 == 0o644
    with pytest.raises(TypeError):
        Fence(str(keeper.path))._view[0] = 1
