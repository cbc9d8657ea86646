"""What a host that has ended may leave behind, looked for on the machine itself."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Collection, Mapping
from pathlib import Path

from benchmarks.isolation.hosts import RunningHost
from elastic_inference.host.processes.folders import GROUP_PREFIX
from elastic_inference.host.processes.users import CLAIMS
from elastic_inference.limits.processes import list_processes, process_uid

_END_SECONDS = 90.0  # a lease of an attach whose answer was lost, and some


def wait_for_only(host: RunningHost, wanted: set[str]) -> list[str]:
    """Wait until the host has only these accelerators, ready; what is otherwise by then."""
    deadline = time.monotonic() + _END_SECONDS
    while True:
        views = host.session.request("GET", "/v1/accelerators")
        others = [f"accelerator {v['accelerator_id']}" for v in views if v["accelerator_id"] not in wanted]
        others += [f"{v['accelerator_id']} is {v['state']}" for v in views if v["state"] != "ready"]
        others += [f"{one} is gone" for one in wanted - {v["accelerator_id"] for v in views}]
        if not others or time.monotonic() > deadline:
            return others
        threading.Event().wait(0.2)


def left_of(state_dir: Path, uids: range, clients: Collection[int]) -> Mapping[str, list[str]]:
    """By kind: processes, control groups, claimed users, folders and shared memory of a host that has ended.

    Args:
        clients: The processes that called it, which have ended too.
    """
    host_id = (state_dir / "host.id").read_text().strip()
    return {
        "processes": [f"{pid}: {_command(pid)}" for pid in list_processes() if _is_of(pid, state_dir, uids)],
        "groups": [str(path) for path in _groups(host_id)],
        "users": [path.name for path in CLAIMS.glob("*") if path.name.isdigit() and int(path.name) in uids],
        "folders": [
            str(path) for folder in ("accelerators", "homes") for path in (state_dir / folder).glob("*")
        ],
        "shared memory": [
            path.name for path in Path("/dev/shm").iterdir() if _is_orphan(path, uids, clients)
        ],
    }


def _is_of(pid: int, state_dir: Path, uids: range) -> bool:
    if process_uid(pid) in uids:
        return True
    with contextlib.suppress(OSError):
        return os.readlink(f"/proc/{pid}/cwd").startswith(str(state_dir))
    return False


def _command(pid: int) -> str:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")[:200]
    return "has ended"


def _groups(host_id: str) -> list[Path]:
    root = Path("/sys/fs/cgroup")
    return [*root.glob(f"**/{GROUP_PREFIX}{host_id}")]


def _is_orphan(path: Path, uids: range, clients: Collection[int]) -> bool:
    """Whether a region is of our accelerators or of our clients: its name says which process made it."""
    with contextlib.suppress(OSError):
        if path.lstat().st_uid in uids:
            return True
        return any(path.name.startswith(f"elastic-inference-{pid}-") for pid in clients)
    return False
