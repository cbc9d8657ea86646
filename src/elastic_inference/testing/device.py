"""A device that computes nothing, for tests and benchmarks: it is used by sleeping, in pieces, by one at a time.

It is a file. Whoever uses it while another process does gets an error, so it proves that a lease holds; switching
between two processes takes the time that a GPU takes for it; and it counts the seconds for which each process used it
and those that went into switching, by its own clock and not by that of the lease.
"""

from __future__ import annotations

import fcntl
import os
import struct
import time
from pathlib import Path

from elastic_inference.engines.preemption import checkpoint
from elastic_inference.errors import ModelError

_PID = struct.Struct("=q")
_SECONDS = struct.Struct("=dd")  # used, of it switching


class FakeDevice:
    """One process's use of the device.

    Args:
        path: The device; made where it is not there.
        switch_seconds: What it takes longer when another process used it last.
        is_exclusive: Whether two users at once are an error; no device of hardware finds that out.
    """

    def __init__(self, path: Path, switch_seconds: float = 0.0, is_exclusive: bool = True) -> None:
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        self._used_fd = os.open(used_path(path, os.getpid()), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        self._switch_seconds = switch_seconds
        self._is_exclusive = is_exclusive
        self._used_seconds = self._switching_seconds = 0.0

    def close(self) -> None:
        """Let go of it; twice is fine."""
        for fd in (self._fd, self._used_fd):
            if fd >= 0:
                os.close(fd)
        self._fd = self._used_fd = -1

    def run(self, seconds: float, piece_seconds: float | None = None) -> None:
        """Use the device for so long, in pieces between which another process may come first.

        Raises:
            ModelError: Another process used it at the same time.
        """
        left_seconds = seconds
        while left_seconds > 0:
            piece = min(left_seconds, piece_seconds or left_seconds)
            left_seconds -= piece
            self._run_piece(piece)
            if left_seconds > 0:
                checkpoint()

    def _run_piece(self, seconds: float) -> None:
        started = time.monotonic()
        self._lock()
        last = os.pread(self._fd, _PID.size, 0)
        if last != _PID.pack(os.getpid()):
            seconds += self._switch_seconds
            self._switching_seconds += self._switch_seconds
        time.sleep(seconds)
        os.pwrite(self._fd, _PID.pack(os.getpid()), 0)
        if self._is_exclusive:
            fcntl.lockf(self._fd, fcntl.LOCK_UN)
        self._used_seconds += time.monotonic() - started
        os.pwrite(self._used_fd, _SECONDS.pack(self._used_seconds, self._switching_seconds), 0)

    def _lock(self) -> None:
        if not self._is_exclusive:
            return
        try:
            fcntl.lockf(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ModelError("another process uses the fake device at this moment") from None


def used_path(path: Path, pid: int) -> Path:
    """Where a process's use of a device is counted."""
    return path.with_name(f"{path.name}.{pid}")


def used_seconds(path: Path, pid: int) -> tuple[float, float]:
    """For how long a process has used a device, and how much of that was switching; zeros for one that never did."""
    try:
        used, switching = _SECONDS.unpack(used_path(path, pid).read_bytes())
    except (FileNotFoundError, struct.error):
        return 0.0, 0.0
    return used, switching
