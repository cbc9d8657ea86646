"""Keeping the threads of running processes to cores, one by one; what needs no control group."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from elastic_inference.errors import LimitError
from elastic_inference.limits.helper import run_as
from elastic_inference.limits.processes import process_uid

MEANS = "affinity of threads"


def keep_to_cores(pids: Iterable[int], cores: frozenset[int]) -> None:
    """Move all threads of these processes to `cores`; those that end meanwhile are fine.

    New threads inherit from the thread that makes them, so it looks again until it has seen no new one.

    Raises:
        LimitError: The kernel refused.
    """
    for pid in pids:
        seen: set[int] = set()
        while new := _threads(pid) - seen:
            for thread in new:
                _set_affinity(thread, cores)
            seen |= new


def _set_affinity(thread: int, cores: frozenset[int]) -> None:
    try:
        os.sched_setaffinity(thread, cores)
    except ProcessLookupError:
        return
    except PermissionError:  # root in a container lacks the right to another user's (CAP_SYS_NICE)
        _as_its_user(thread, cores)
    except OSError as error:
        raise LimitError(
            f"thread {thread} cannot be kept to cores {sorted(cores)}: {error.strerror}"
        ) from error


def _as_its_user(thread: int, cores: frozenset[int]) -> None:
    uid = process_uid(thread)
    if uid is not None:
        arguments = ["taskset", "--cpu-list", "--pid", ",".join(map(str, sorted(cores))), str(thread)]
        run_as(uid, arguments, thread, f"thread {thread} cannot be kept to cores {sorted(cores)}")


def _threads(pid: int) -> set[int]:
    try:
        return {int(entry.name) for entry in Path(f"/proc/{pid}/task").iterdir()}
    except (FileNotFoundError, ProcessLookupError):
        return set()
