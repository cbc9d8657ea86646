"""Lets running processes make files no larger, and lets them again: RLIMIT_FSIZE from outside."""

from __future__ import annotations

import resource
import subprocess

from elastic_inference.errors import LimitError
from elastic_inference.limits.processes import process_uid

_HELPER_SECONDS = 10.0


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
    """By a helper with the user of the process: root in a container lacks the right to another's (CAP_SYS_RESOURCE).

    Not by a thread that changes its own user for the moment: the other one could send it a signal then.
    """
    uid = process_uid(pid)
    if uid is None:
        return
    soft = "unlimited" if may_grow else "0"
    try:
        finished = subprocess.run(
            ["prlimit", "--pid", str(pid), f"--fsize={soft}:"],
            user=uid,
            group=uid,
            extra_groups=[],
            cwd="/",
            capture_output=True,
            text=True,
            timeout=_HELPER_SECONDS,
            check=False,
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise LimitError(f"RLIMIT_FSIZE of process {pid} cannot be changed: {error}") from error
    if finished.returncode and process_uid(pid) is not None:
        raise LimitError(f"RLIMIT_FSIZE of process {pid} cannot be changed: {finished.stderr.strip()}")
