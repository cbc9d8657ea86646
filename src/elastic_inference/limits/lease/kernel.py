"""What the kernel gives processes that share memory: sleep on a word and be woken, locks that end with their holder.

POSIX locks on bytes of the file, because the kernel frees them when a process ends, however it ends, and says who
holds one. They belong to a process: two users of one file within one process would not see each other, and closing
any descriptor of the file frees all. So a process opens a segment once, and threads order themselves before.
"""

from __future__ import annotations

import ctypes
import fcntl
import math
import os
import platform
import struct
import time

from elastic_inference.errors import LimitError

_FUTEX_NUMBERS = {"x86_64": 202, "aarch64": 98}
_FUTEX_WAIT, _FUTEX_WAKE = 0, 1
_ALL = 1 << 30
_POLL_SECONDS = 0.0005  # the kernel's locks know no time-out
_FLOCK = struct.Struct("hhqqi4x")  # struct flock of 64-bit Linux: type, whence, start, length, pid


# Two views of the C library: calls through the first let other threads of the interpreter run meanwhile. Those through
# the second keep them out: a thread that comes back from a call within the critical section would wait for its turn in
# the interpreter (up to 0.5 ms) with the lock of all processes in its hand.
_libc = ctypes.CDLL(None, use_errno=True)
_libc_held = ctypes.PyDLL(None)
_fcntl = _libc_held.fcntl
_fcntl.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_void_p)


class _Timespec(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))


def check_machine() -> None:
    """Raise LimitError where futexes cannot be called."""
    _futex_number()


def _futex_number() -> int:
    number = _FUTEX_NUMBERS.get(platform.machine())
    if number is None or platform.system() != "Linux":
        raise LimitError(
            f"sharing a device by lease needs Linux on x86_64 or aarch64, not "
            f"{platform.system()} on {platform.machine()}"
        )
    return number


class Futex:
    """A 32-bit word of shared memory on which processes sleep.

    Args:
        address: Of the word; its memory stays mapped as long as this object is used.
    """

    def __init__(self, address: int) -> None:
        self._address = ctypes.c_void_p(address)
        self._number = ctypes.c_long(_futex_number())

    def wait(self, expected: int, timeout_seconds: float) -> None:
        """Sleep while the word is `expected`, until woken or so long; it may also return for no reason."""
        seconds = max(0.0, timeout_seconds)
        span = _Timespec(int(seconds), int(seconds % 1 * 1e9))
        value = ctypes.c_uint32(expected)
        _libc.syscall(self._number, self._address, _FUTEX_WAIT, value, ctypes.byref(span), None, 0)

    def wake(self) -> None:
        """Wake all that sleep on it."""
        _libc_held.syscall(self._number, self._address, _FUTEX_WAKE, _ALL, None, None, 0)


class ByteLock:
    """An exclusive lock on one byte of a file, freed by the kernel when this process ends."""

    def __init__(self, fd: int, byte: int) -> None:
        self._fd = fd
        self._byte = byte
        self._lock = ctypes.create_string_buffer(_FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, byte, 1, 0))
        self._unlock = ctypes.create_string_buffer(_FLOCK.pack(fcntl.F_UNLCK, os.SEEK_SET, byte, 1, 0))

    def try_acquire(self) -> bool:
        """Take it where no other process has it."""
        return bool(_fcntl(self._fd, fcntl.F_SETLK, self._lock) == 0)

    def acquire(self, patience_seconds: float = math.inf) -> bool:
        """Take it, after whoever has it; False where that did not happen in time."""
        if self.try_acquire():
            return True
        if math.isinf(patience_seconds):
            fcntl.lockf(self._fd, fcntl.LOCK_EX, 1, self._byte)
            return True
        deadline = time.monotonic() + patience_seconds
        while time.monotonic() < deadline:
            time.sleep(_POLL_SECONDS)
            if self.try_acquire():
                return True
        return False

    def release(self) -> None:
        """Give it back."""
        _fcntl(self._fd, fcntl.F_SETLK, self._unlock)

    def owner(self) -> int | None:
        """Return the process that has it, None for nobody or this process itself."""
        asked = fcntl.fcntl(
            self._fd, fcntl.F_GETLK, _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, self._byte, 1, 0)
        )
        kind, _, _, _, pid = _FLOCK.unpack(asked)
        return None if kind == fcntl.F_UNLCK else pid
