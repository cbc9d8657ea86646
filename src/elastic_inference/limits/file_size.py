"""Lets running processes make files no larger, and lets them again: RLIMIT_FSIZE from outside."""

from __future__ import annotations

import resource

from elastic_inference.limits.helper import run_as
from elastic_inference.limits.processes import process_uid


def let_files_grow(pid: int, may_grow: bool) -> None:
    """Change the soft limit of a process; one that has ended is fine.

    Python ignores the signal that a write beyond it brings, so the write fails with an error that says so.

    Raises:
        LimitError: The kernel refused.
    """
    try:
        _, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (hard if may_grow else 0, hard))
    except ProcessLookupError:
        return
    except PermissionError:
        _as_its_user(pid, may_grow)


def _as_its_user(pid: int, may_grow: bool) -> None:
    """By a helper with the user of the process: root in a container lacks the right to another's (CAP_SYS_RESOURCE)."""
    uid = process_uid(pid)
    if uid is not None:
        soft = "unlimited" if may_grow else "0"
        arguments = ["prlimit", "--pid", str(pid), f"--fsize={soft}:"]
        run_as(uid, arguments, pid, f"RLIMIT_FSIZE of process {pid} cannot be changed")
