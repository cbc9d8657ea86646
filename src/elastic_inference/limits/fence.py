"""Until when the accelerators of a host may answer: one moment in a file, written by the host and read by each of them.

A host of a pool that is cut off from it must have stopped its accelerators before the pool starts them elsewhere, also
where the host itself was stopped, killed or kept from running. So they hold the limit themselves: a moment on the
machine's boot clock, which every process of it sees alike and which counts time asleep too.

They also see by a lock on that file whether the host lives, since the kernel frees it with the host's process, however
that ends. So who knows that the process has ended, knows that a millisecond later none of its accelerators begins an
answer.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import struct
import time
from pathlib import Path

from elastic_inference.errors import InvalidInput

# "q": nanoseconds on the boot clock: eight aligned bytes, which are written and read as one
_NUM_BYTES = 8
_LOOK_SECONDS = 0.1
LOCK_AGE_SECONDS = 0.001
"""For how long a look at the lock counts. Asking the kernel takes 0.8 us where all caches are warm; without it the
fence takes 0.13. Between a look and its answer there is time anyway, which whoever places the accelerator elsewhere
waits for (`pool.failover`, the margin); this is a part of it. The moment in the file is read each time."""
# `struct flock` of 64 bits: kind, whence, start, length (0: all), process (0, as locks of an open file want it)
_LOCK = struct.Struct("@hhqqi0q")
_READ, _WRITE = (_LOCK.pack(kind, os.SEEK_SET, 0, 0, 0) for kind in (fcntl.F_RDLCK, fcntl.F_WRLCK))
_LOCK_AGE_NS = int(LOCK_AGE_SECONDS * 1e9)
_HELD = _WRITE[:2]  # what stands in the way of reading: the answer begins with its kind


def boot_seconds() -> float:
    """Seconds on the machine's boot clock."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class FenceKeeper:
    """The host's end: closed as long as nothing else was said, and as soon as its process has ended.

    Raises:
        InvalidInput: Another process keeps this fence.
        OSError: The file cannot be written or locked.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        # Kept, since the lock is the open file's, and closed in whatever the host starts.
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            os.fchmod(self._fd, 0o644)  # accelerators run as other users
            self._lock()
            os.ftruncate(self._fd, _NUM_BYTES)
            self._view: memoryview[int] = memoryview(mmap.mmap(self._fd, _NUM_BYTES)).cast("q")
        except BaseException:
            os.close(self._fd)
            raise
        self.close_now()

    def _lock(self) -> None:
        try:
            fcntl.fcntl(self._fd, fcntl.F_OFD_SETLK, _WRITE)
        except BlockingIOError as error:
            raise InvalidInput(
                f"{self.path} is kept by another process: a host of a pool runs there"
            ) from error

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
        self._fd = os.open(path, os.O_RDONLY)
        self._view: memoryview[int] = memoryview(mmap.mmap(self._fd, _NUM_BYTES, prot=mmap.PROT_READ)).cast(
            "q"
        )
        self._kept_until = 0  # on the boot clock, nanoseconds: until when the last look at the lock counts

    def is_open(self) -> bool:
        """Whether answers may go out now: the moment has not passed, and the host lived a millisecond ago."""
        now = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        if now >= self._view[0]:
            return False
        if now >= self._kept_until:
            if not self._is_kept():
                return False
            self._kept_until = now + _LOCK_AGE_NS  # counted from before the look
        return True

    def wait_closed(self) -> None:
        """Return when answers may no longer go out, or a tenth of a second later."""
        while self.is_open():
            left = self._view[0] - time.clock_gettime_ns(time.CLOCK_BOOTTIME)
            time.sleep(min(max(0.0, left / 1e9), _LOOK_SECONDS))

    def _is_kept(self) -> bool:
        return fcntl.fcntl(self._fd, fcntl.F_OFD_GETLK, _READ)[:2] == _HELD
