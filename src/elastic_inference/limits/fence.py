"""Until when the accelerators of a host may answer: one moment in a file, written by the host and read by each of them.

A host of a pool that is cut off from it must have stopped its accelerators before the pool starts them elsewhere, also
where the host itself was stopped, killed or kept from running. So they hold the limit themselves: a moment on the
machine's boot clock, which every process of it sees alike and which counts time asleep too.
"""

from __future__ import annotations

import mmap
import os
import time
from pathlib import Path

# "q": nanoseconds on the boot clock: eight aligned bytes, which are written and read as one
_NUM_BYTES = 8


def boot_seconds() -> float:
    """Seconds on the machine's boot clock."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class FenceKeeper:
    """The host's end: closed as long as nothing else was said."""

    def __init__(self, path: Path) -> None:
        self.path = path
        fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            os.fchmod(fd, 0o644)  # accelerators run as other users
            os.ftruncate(fd, _NUM_BYTES)
            self._view: memoryview[int] = memoryview(mmap.mmap(fd, _NUM_BYTES)).cast("q")
        finally:
            os.close(fd)
        self.close_now()

    def open_until(self, seconds: float) -> None:
        """Let accelerators answer until this moment of the boot clock, and never less long than was said before."""
        self._view[0] = max(self._view[0], int(seconds * 1e9))

    def close_now(self) -> None:
        """Let no accelerator answer from now on."""
        self._view[0] = 0

    def left_seconds(self) -> float:
        """Seconds until accelerators may no longer answer; 0 or less: they may not now."""
        return self._view[0] / 1e9 - boot_seconds()


class Fence:
    """An accelerator's end.

    Raises:
        OSError: The file is not there or cannot be read.
    """

    def __init__(self, path: str) -> None:
        fd = os.open(path, os.O_RDONLY)
        try:
            self._view: memoryview[int] = memoryview(mmap.mmap(fd, _NUM_BYTES, prot=mmap.PROT_READ)).cast("q")
        finally:
            os.close(fd)

    def is_open(self) -> bool:
        """Whether answers may go out now."""
        return time.clock_gettime_ns(time.CLOCK_BOOTTIME) < self._view[0]

    def wait_closed(self) -> None:
        """Return when answers may no longer go out."""
        while (left := self._view[0] - time.clock_gettime_ns(time.CLOCK_BOOTTIME)) > 0:
            time.sleep(left / 1e9)
