"""Keeps the host able to write down what it does while the disk of its state directory fills up.

Two means. A ballast file holds some room, and is given up when all else is gone. And whoever fills the disk is held:
the kernel refuses its processes to make any file larger (RLIMIT_FSIZE), so that what was given up stays the host's.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from collections.abc import Iterable
from enum import Enum
from pathlib import Path

from elastic_inference.errors import ElasticInferenceError, LimitError
from elastic_inference.host.processes.folders import HostFolder
from elastic_inference.limits.base import Limits
from elastic_inference.limits.file_size import let_files_grow
from elastic_inference.limits.processes import start_ticks
from elastic_inference.units import format_bytes

logger = logging.getLogger(__name__)

RESERVE_BYTES = 64 << 20  # the database, logs and folders of some hundred accelerators
RESERVE_SHARE = 0.05  # of a small disk


class Level(Enum):
    """How much of the disk is left."""

    ENOUGH = "enough"
    LOW = "low"  # accelerators that hold much may write no more
    FULL = "full"  # none may, and the ballast is given up


def level_of(free_bytes: int, reserve_bytes: int, before: Level) -> Level:
    """Return the level at this many free bytes beside a whole ballast; it takes twice the reserve to leave `LOW`."""
    if free_bytes < reserve_bytes // 4:
        return Level.FULL
    if free_bytes < reserve_bytes or (before is not Level.ENOUGH and free_bytes < 2 * reserve_bytes):
        return Level.LOW
    return Level.ENOUGH


class DiskGuard:
    """Watches one disk.

    Args:
        folder: The host's; what accelerators hold is looked for in it.
        limits: Knows the processes of accelerators.
    """

    def __init__(self, folder: HostFolder, limits: Limits) -> None:
        self._folder = folder
        self._limits = limits
        self._ballast = folder.path / "ballast"
        self._held: dict[tuple[int, int | None], str] = {}  # accelerators by process and its start
        self._lock = threading.Lock()
        total_bytes = _statvfs(folder.path)[1]
        self.reserve_bytes = min(RESERVE_BYTES, int(total_bytes * RESERVE_SHARE))
        self.level = Level.ENOUGH

    @property
    def free_bytes(self) -> int:
        """What is free now, the ballast not counted."""
        return _statvfs(self._folder.path)[0]

    def warning(self) -> str | None:
        """Return a sentence for who looks after the host; None where there is enough."""
        if self.level is Level.ENOUGH:
            return None
        held = "all accelerators" if self.level is Level.FULL else "accelerators that hold much"
        return (
            f"the disk of the state directory is {self.level.value}: {format_bytes(self.free_bytes)} are free; "
            f"{held} may write no more to it"
        )

    def check(self) -> None:
        """Look, and do what cannot wait. Costs two system calls where there is enough."""
        with self._lock:
            before = self.level
            missing_bytes = self.reserve_bytes - _size(self._ballast)
            self.level = level_of(self.free_bytes - max(0, missing_bytes), self.reserve_bytes, before)
            if self.level is Level.FULL:
                self._hold(self._accelerators())  # first, so that nobody else takes what the ballast gives up
                self._ballast.unlink(missing_ok=True)
            elif self.level is Level.ENOUGH:
                if before is not Level.ENOUGH:
                    self._let_go()
                if missing_bytes > 0:
                    self._make_ballast()
            if self.level is not before:
                logger.warning("disk", extra={"level": self.level.value, "free_bytes": self.free_bytes})

    def watch(self) -> None:
        """Look, and hold who fills the disk while there is still some room; for a thread that has the time."""
        self.check()
        if self.level is Level.LOW:
            large = [name for name in self._accelerators() if self._size_of(name) > self.reserve_bytes]
            with self._lock:
                if self.level is Level.LOW:
                    self._hold(large)

    def close(self) -> None:
        """Let accelerators write again, as they are left running; twice is fine."""
        with self._lock:
            self._let_go()

    def _accelerators(self) -> list[str]:
        return [path.name for path in self._folder.accelerators.iterdir()]

    def _size_of(self, accelerator_id: str) -> int:
        return sum(_size(path) for path in self._folder.accelerator(accelerator_id).path.rglob("*"))

    def _hold(self, accelerator_ids: Iterable[str]) -> None:
        for accelerator_id in accelerator_ids:
            with contextlib.suppress(ElasticInferenceError):
                for pid in self._limits.processes(accelerator_id):
                    self._hold_process(pid, accelerator_id)

    def _hold_process(self, pid: int, accelerator_id: str) -> None:
        key = (pid, start_ticks(pid))
        if key not in self._held:
            self._held[key] = accelerator_id
            self._let_grow(key, may_grow=False)

    def _let_go(self) -> None:
        while self._held:
            self._let_grow(self._held.popitem()[0], may_grow=True)

    @staticmethod
    def _let_grow(key: tuple[int, int | None], may_grow: bool) -> None:
        pid, ticks = key
        if start_ticks(pid) != ticks or ticks is None:
            return  # it has ended
        try:
            let_files_grow(pid, may_grow)
        except LimitError as error:
            logger.error("file growth is not changed", extra={"pid": pid, "why": str(error)})

    def _make_ballast(self) -> None:
        try:
            with open(os.open(self._ballast, os.O_CREAT | os.O_WRONLY, 0o600), "wb") as file:
                os.posix_fallocate(file.fileno(), 0, self.reserve_bytes)
        except OSError:  # somebody was quicker; the next look tells
            self._ballast.unlink(missing_ok=True)


def _statvfs(path: Path) -> tuple[int, int]:
    """Bytes that are free for everybody, and all bytes of the disk."""
    found = os.statvfs(path)
    return found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize


def _size(path: Path) -> int:
    """Bytes on the disk; 0 for what is not there."""
    try:
        return path.lstat().st_blocks * 512
    except OSError:
        return 0
