"""A disk that a tenant, or anybody, fills: detach, tokens, usage and restarts of others go on."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from elastic_inference.client.host_session import Attachment
from elastic_inference.host.disk import Level, level_of
from elastic_inference.host.host import Host
from tests.host.conftest import HostProcess, _starter
from tests.host.support import wait_until
from tests.host.test_attacks import is_served, pid_of

OpenHost = Callable[..., Host]
# Writes until it may not, and exits with the number of the error. On the last 6 MiB it takes its time, so that whoever
# has to see it coming sees it on a busy machine too.
FILLER = """
import os, sys, time
try:
    with open(sys.argv[1], "wb", buffering=0) as file:
        while True:
            file.write(bytes(1 << 18))
            disk = os.fstatvfs(file.fileno())
            if disk.f_bavail * disk.f_frsize < 6 << 20:
                time.sleep(float(sys.argv[2]))
except OSError as error:
    sys.exit(error.errno)
"""


def fill(
    path: Path, pause_seconds: float = 0.0, python: str = sys.executable, uid: int | None = None
) -> subprocess.Popen[bytes]:
    user: dict[str, Any] = {} if uid is None else {"user": uid, "group": uid, "extra_groups": []}
    return subprocess.Popen([python, "-c", FILLER, str(path), str(pause_seconds)], cwd="/", **user)


@pytest.fixture
def small_disk() -> Iterator[Path]:
    """A disk of 64 MiB."""
    if os.geteuid() != 0:
        pytest.skip("needs root, who may mount a small disk")
    folder = Path(tempfile.mkdtemp(prefix="ei-disk-"))
    command = ["mount", "-t", "tmpfs", "-o", "size=64m,mode=755", "tmpfs", str(folder)]
    if subprocess.run(command, capture_output=True, check=False, timeout=120).returncode:
        folder.rmdir()
        pytest.skip("needs the right to mount a small disk")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True, timeout=120)
        folder.rmdir()


@pytest.mark.parametrize(
    ("free", "before", "level"),
    [
        (100, Level.ENOUGH, Level.ENOUGH),
        (99, Level.ENOUGH, Level.LOW),
        (25, Level.ENOUGH, Level.LOW),
        (24, Level.ENOUGH, Level.FULL),
        (-50, Level.LOW, Level.FULL),
        (199, Level.FULL, Level.LOW),
        (199, Level.LOW, Level.LOW),
        (200, Level.FULL, Level.ENOUGH),
    ],
)
def test_it_takes_more_to_leave_a_level_than_to_enter_it(free: int, before: Level, level: Level) -> None:
    assert level_of(free, 100, before) is level


def test_on_a_full_disk_everything_goes_on(small_disk: Path) -> None:
    state_dir = small_disk / "state"
    with _starter(state_dir) as start:
        host = start()
        operator = host.session()
        first, second = operator.attach("cpu.quarter"), operator.attach("cpu.quarter")
        assert fill(small_disk / "filler").wait(60) == errno.ENOSPC
        check_goes_on(host, first, second)
        (small_disk / "filler").unlink()
        wait_until(
            lambda: operator.request("GET", "/v1/health")["warnings"] == [], "the disk to be enough again"
        )
        wait_until((state_dir / "ballast").exists, "the reserve to be made again")


def check_goes_on(host: HostProcess, first: Attachment, second: Attachment) -> None:
    operator, tenant = host.session(), host.session(first.token)
    token = tenant.request("POST", f"/v1/accelerators/{first.accelerator_id}/token")["token"]
    assert is_served(first, token)
    assert operator.request("POST", "/v1/host/token")["token"] == host.operator_token
    operator = host.session()
    assert len(operator.request("GET", "/v1/usage")) == 2
    os.kill(pid_of(host, first), signal.SIGKILL)

    def is_back() -> bool:
        shown = operator.request("GET", f"/v1/accelerators/{first.accelerator_id}")
        return bool(shown["num_restarts"] == 1 and shown["state"] == "ready")

    wait_until(is_back, "the accelerator that was killed")
    operator.detach(second.accelerator_id)
    third = operator.attach("cpu.quarter")
    assert is_served(third, third.token)
    (warning,) = operator.request("GET", "/v1/health")["warnings"]
    assert warning.startswith("the disk of the state directory is ")
    assert "elastic_inference_host_disk_low 1.0" in operator.request("GET", "/metrics")
    assert operator.request("GET", "/v1/host")["disk"]["level"] in ("low", "full")


def test_who_fills_the_disk_is_held_before_it_is_full(small_disk: Path, open_host: OpenHost) -> None:
    host = open_host(state_dir=small_disk / "state")
    record, _ = host.service.attach("cpu.quarter")
    store = host.folder.accelerator(record.accelerator_id).store
    with fill(store / "blob", 2.0, host.launcher.isolation.python, record.uid) as tenant:
        host.limits.add_process(record.accelerator_id, tenant.pid)
        assert tenant.wait(120) == errno.EFBIG
    assert host.disk.level is not Level.ENOUGH
    assert host.disk.warning() is not None
    other, _ = host.service.attach("cpu.quarter")
    assert other.process is not None
    shutil.rmtree(store)
    wait_until(lambda: host.disk.level is Level.ENOUGH, "the disk to be enough again")
    assert record.process is not None
    limits = Path(f"/proc/{record.process.pid}/limits")
    wait_until(lambda: "Max file size             unlimited" in limits.read_text(), "files that may grow")
