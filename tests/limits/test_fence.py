"""The fence: accelerators answer until the moment that their host wrote, and no longer."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from elastic_inference.errors import InvalidInput
from elastic_inference.limits.fence import LOCK_AGE_SECONDS, Fence, FenceKeeper, boot_seconds


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


def test_two_hosts_do_not_keep_one_fence(tmp_path: Path) -> None:
    first = FenceKeeper(tmp_path / "fence")
    first.open_until(boot_seconds() + 3600)
    with pytest.raises(InvalidInput, match="kept by another process"):
        FenceKeeper(tmp_path / "fence")
    assert Fence(str(first.path)).is_open()


KEEP = """
import subprocess, sys, time
from pathlib import Path
from elastic_inference.limits.fence import FenceKeeper, boot_seconds
keeper = FenceKeeper(Path(sys.argv[1]))
keeper.open_until(boot_seconds() + 3600)
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print(child.pid, flush=True)
time.sleep(600)
"""


def test_it_closes_with_the_hosts_process_and_is_closed_when_that_is_started_again(tmp_path: Path) -> None:
    path = tmp_path / "fence"
    with subprocess.Popen([sys.executable, "-c", KEEP, str(path)], stdout=subprocess.PIPE, text=True) as host:
        assert host.stdout is not None
        child = int(host.stdout.readline())  # what a host starts does not keep it
        try:
            reader = Fence(str(path))
            assert reader.is_open()
            host.send_signal(signal.SIGSTOP)
            assert reader.is_open()  # a host that is only slow goes on
            host.kill()
            reader.wait_closed()
            assert not reader.is_open()
            next_run = FenceKeeper(path)
            assert not Fence(str(path)).is_open()
            assert next_run.left_seconds() < 0
        finally:
            host.kill()
            os.kill(child, signal.SIGKILL)


def test_a_look_at_the_lock_counts_for_a_millisecond_and_no_longer(tmp_path: Path) -> None:
    path = tmp_path / "fence"
    with subprocess.Popen([sys.executable, "-c", KEEP, str(path)], stdout=subprocess.PIPE, text=True) as host:
        assert host.stdout is not None
        child = int(host.stdout.readline())
        try:
            reader = Fence(str(path))
            while reader.is_open() and host.poll() is None:
                host.kill()  # with looks before and after it
            until = boot_seconds() + LOCK_AGE_SECONDS
            while boot_seconds() < until:
                pass
            assert not reader.is_open()
        finally:
            host.kill()
            os.kill(child, signal.SIGKILL)


def test_accelerators_may_read_it_and_not_write_it(tmp_path: Path) -> None:
    keeper = FenceKeeper(tmp_path / "fence")
    assert keeper.path.stat().st_mode & 0o777 == 0o644
    with pytest.raises(TypeError):
        Fence(str(keeper.path))._view[0] = 1
