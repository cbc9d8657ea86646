"""The two memory files of a device's lease segment: made, and found again in a process that has them."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path

from elastic_inference.limits import memory_file
from elastic_inference.limits.lease.layout import RULES_BYTES, TURNS_BYTES, write_head

_NAME = "elastic-inference-lease"


@dataclass(frozen=True)
class LeaseFiles:
    """Descriptors of one device's segment.

    Attributes:
        rules: Weights; a tenant's is open for reading alone, and no other user may open it otherwise.
        turns: Accounts.
    """

    rules: int
    turns: int

    def for_tenant(self) -> LeaseFiles:
        """Return the same with rules that cannot be written; the new descriptor is the caller's."""
        return LeaseFiles(os.open(f"/proc/self/fd/{self.rules}", os.O_RDONLY | os.O_CLOEXEC), self.turns)

    @property
    def identity(self) -> int:
        """Which segment it is, among all of this machine."""
        return os.fstat(self.turns).st_ino


def create(device: str) -> LeaseFiles:
    """Make the files of a device."""
    return LeaseFiles(
        _create(f"{_NAME}-rules-{device}", RULES_BYTES), _create(f"{_NAME}-turns-{device}", TURNS_BYTES)
    )


def find(pid: int, device: str) -> LeaseFiles | None:
    """Open the files that another process has of a device; None where it has none, or may not be asked."""
    paths = _paths(pid, device)
    if len(paths) < 2:
        return None
    rules, turns = (memory_file.open_again(paths[kind]) for kind in ("rules", "turns"))
    if rules is not None and turns is not None:
        return LeaseFiles(rules, turns)
    for fd in (rules, turns):
        if fd is not None:
            os.close(fd)
    return None


def identity(pid: int, device: str) -> int | None:
    """Which segment of a device another process has; None for none.

    Nothing is opened: to close it again would free all locks that this process has on the segment.
    """
    path = _paths(pid, device).get("turns")
    with contextlib.suppress(OSError):
        return None if path is None else os.stat(path).st_ino
    return None


def _paths(pid: int, device: str) -> dict[str, Path]:
    """Where a process's files lie in /proc, by kind."""
    found = memory_file.paths(pid)
    names = {kind: f"{_NAME}-{kind}-{device}" for kind in ("rules", "turns")}
    return {kind: found[name] for kind, name in names.items() if name in found}


def _create(name: str, size_bytes: int) -> int:
    head = bytearray(size_bytes)
    write_head(memoryview(head))
    return memory_file.create(name, head)
