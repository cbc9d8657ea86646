"""The edge to the kernel: files of control groups, and the processes in them. No decisions live here."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import time
from collections.abc import Iterable
from pathlib import Path

from elastic_inference.errors import LimitError

_POLL_SECONDS = 0.005


class CgroupFiles:
    """Reads and writes of control group files; a class, so that tests can stand a temporary directory in its
    place."""

    def make(self, directory: Path) -> None:
        """Make a group; one that exists is fine."""
        try:
            directory.mkdir(exist_ok=True)
        except OSError as error:
            raise LimitError(f"control group {directory} cannot be made: {error.strerror}") from error

    def remove(self, directory: Path) -> bool:
        """Remove a group that holds no process and no group; False where it still does."""
        try:
            directory.rmdir()
        except OSError:
            return not directory.exists()  # a read-only mount gives one error for those that are absent too
        return True

    def read(self, path: Path) -> str:
        """Return the text of a file."""
        try:
            return path.read_text()
        except OSError as error:
            raise LimitError(f"{path} cannot be read: {error.strerror}") from error

    def write(self, path: Path, value: str | int) -> None:
        """Write a value in one call, as the kernel wants it."""
        try:
            # Not write_text: it would make a file that is absent in a plain directory.
            descriptor = os.open(path, os.O_WRONLY)
            try:
                os.write(descriptor, str(value).encode())
            finally:
                os.close(descriptor)
        except OSError as error:
            raise LimitError(f"{path} did not take {value}: {error.strerror}") from error

    def exists(self, path: Path) -> bool:
        """Whether the kernel offers this file."""
        return path.exists()

    def groups(self, directory: Path) -> tuple[Path, ...]:
        """Return the groups in a group, by name."""
        try:
            return tuple(sorted(entry for entry in directory.iterdir() if entry.is_dir()))
        except OSError:
            return ()

    def find(self, root: Path, name: str) -> tuple[Path, ...]:
        """Every group of this name below `root`; those inside such a group are not looked at."""
        found = []
        for directory, children, _ in os.walk(root):
            if name in children:
                found.append(Path(directory, name))
                children.remove(name)
        return tuple(sorted(found))

    def processes(self, directory: Path) -> tuple[int, ...]:
        """Process ids in a group; empty for a group that is gone."""
        try:
            return tuple(int(line) for line in (directory / "cgroup.procs").read_text().split())
        except OSError:
            return ()

    def table(self, path: Path) -> dict[str, int]:
        """Return a file of `name value` lines, such as `cpu.stat`."""
        pairs = (line.split() for line in self.read(path).splitlines())
        return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2}


def kill_all(files: CgroupFiles, directories: Iterable[Path], wait_seconds: float = 5.0) -> None:
    """Kill every process of these groups until none is left, those that they start meanwhile included.

    Raises:
        LimitError: Some did not end in time (a process in an uninterruptible wait).
    """
    deadline = time.monotonic() + wait_seconds
    while True:
        left = {pid for directory in directories for pid in files.processes(directory)}
        left.discard(os.getpid())
        if not left:
            return
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if time.monotonic() > deadline:
            raise LimitError(f"processes {sorted(left)} did not end {wait_seconds} s after SIGKILL")
        time.sleep(_POLL_SECONDS)


def remove_groups(files: CgroupFiles, directories: Iterable[Path], wait_seconds: float = 5.0) -> None:
    """Remove groups without processes; the kernel may need a moment until it has let go of the last one."""
    deadline = time.monotonic() + wait_seconds
    for directory in directories:
        while not files.remove(directory):
            if time.monotonic() > deadline:
                raise LimitError(f"control group {directory} cannot be removed: it is still in use")
            time.sleep(_POLL_SECONDS)


def set_data_limit(pids: Iterable[int], limit_bytes: int) -> None:
    """Set the soft RLIMIT_DATA of processes; one that has ended is fine.

    The hard limit stays, so that a host without rights can raise it again when the accelerator is resized.
    """
    for pid in pids:
        try:
            _, hard = resource.prlimit(pid, resource.RLIMIT_DATA)
            soft = limit_bytes if hard == resource.RLIM_INFINITY else min(limit_bytes, hard)
            resource.prlimit(pid, resource.RLIMIT_DATA, (soft, hard))
        except ProcessLookupError:
            continue
        except PermissionError:
            # Another user's process, and no CAP_SYS_RESOURCE here: the accelerator sets its own, as it was
            # told.
            continue
        except (OSError, ValueError) as error:
            raise LimitError(f"RLIMIT_DATA of process {pid} cannot be set to {limit_bytes} bytes") from error
