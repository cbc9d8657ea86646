"""A host that may open no more files for a while: what it cannot remove then it removes later."""

from __future__ import annotations

import os
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from elastic_inference.errors import ElasticInferenceError
from elastic_inference.host.processes.folders import HostFolder
from elastic_inference.host.processes.users import CLAIMS
from tests.host.conftest import HostProcess
from tests.host.support import wait_until

UIDS = range(63150, 63156)


@contextmanager
def descriptors(pid: int, num_free: int) -> Iterator[None]:
    """Let a process open only so many files more, for the block."""
    listed = os.listdir(f"/proc/{pid}/fd")
    taken = {
        int(name) for name in listed if os.path.lexists(f"/proc/{pid}/fd/{name}")
    }  # not the listing's own
    free = (number for number in range(1 << 20) if number not in taken)
    lowest = [next(free) for _ in range(num_free + 1)]
    soft, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (lowest[-1], hard))
    try:
        yield
    finally:
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: others cannot give processes users of their own")
def test_of_an_attach_without_descriptors_nothing_is_left(
    start_host: Callable[..., HostProcess], state_dir: Path
) -> None:
    host = start_host("--uids", f"{UIDS[0]}-{UIDS[-1]}", "--spares", "0")
    folder = HostFolder(state_dir)

    def left_over() -> list[str]:
        found = [path for parent in (folder.accelerators, folder.homes) for path in parent.iterdir()]
        users = [path for uid in UIDS if (path := CLAIMS / str(uid)).exists()]
        return [*map(str, (*found, *users)), *map(str, host.session().request("GET", "/v1/accelerators"))]

    for num_free in range(2, 16):
        with descriptors(host.process.pid, num_free), suppress(ElasticInferenceError):
            attached = host.session().attach("cpu.quarter")
            host.session().detach(attached.accelerator_id)
        # Where the answer was lost on its way, nobody has it.
        for view in host.session().request("GET", "/v1/accelerators"):
            with suppress(ElasticInferenceError):
                host.session().detach(view["accelerator_id"])
        wait_until(lambda: not left_over(), "all of it to be gone")


def test_a_folder_that_cannot_be_removed_is_removed_later(tmp_path: Path) -> None:
    folder = HostFolder(tmp_path)
    (tmp_path / "a").mkdir()
    removed: list[str] = []
    with descriptors(os.getpid(), 0):
        folder.remove_tree(tmp_path / "a", lambda: removed.append("a"))
    assert removed == []
    folder.remove_again()
    folder.remove_again()
    assert removed == ["a"]
    assert not (tmp_path / "a").exists()
