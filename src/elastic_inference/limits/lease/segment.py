"""A device's lease segment, opened: one lock around each change, and the wake-up of whoever it concerns.

Measured here (2 cores of an AMD EPYC, CPython 3.11, `python -m benchmarks.lease --rows handover`): see
docs/measurements.md. What was weighed: a robust mutex of the C library is 40 bytes whose layout is that library's own;
futexes need atomic operations that Python does not have. A POSIX lock costs two system calls and frees itself.
"""

from __future__ import annotations

import ctypes
import math
import mmap
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from elastic_inference.errors import LimitError
from elastic_inference.limits.lease.kernel import ByteLock, Futex
from elastic_inference.limits.lease.layout import (
    NUM_SLOTS,
    RULES_BYTES,
    TURNS_BYTES,
    WAKE_OFFSET,
    Accounts,
    Rules,
    check_head,
    write_head,
)
from elastic_inference.limits.lease.policy import DeviceTurns

T = TypeVar("T")

RULES_NAME, TURNS_NAME = "rules", "turns"
_FIRST_LIFE_BYTE = 16  # byte 0 is the lock; a tenant's process holds its own byte as long as it lives


def create(folder: Path) -> None:
    """Make the two files of a device in an existing folder that its owner alone may enter; fine where they are.

    The mode lets every user write `turns` who can reach it: only tenants of the device get a way to it.
    """
    for name, size_bytes, mode in ((RULES_NAME, RULES_BYTES, 0o644), (TURNS_NAME, TURNS_BYTES, 0o666)):
        if (folder / name).exists():
            continue
        partial = folder / f".{name}"
        with open(partial, "wb") as file:
            os.fchmod(file.fileno(), mode)
            buffer = bytearray(size_bytes)
            write_head(memoryview(buffer))
            file.write(buffer)
        partial.replace(folder / name)


class Segment:
    """The shared memory of one device. Open it once in a process; `close` unmaps it.

    Args:
        folder: Holds `rules` and `turns`.
        is_host: Whether the rules may be changed.

    Raises:
        InvalidInput: The files are of another version.
        OSError: They are not there, or may not be opened.
    """

    def __init__(self, folder: Path, is_host: bool = False) -> None:
        self._rules_map = _map(folder / RULES_NAME, RULES_BYTES, is_host)
        self._fd = os.open(folder / TURNS_NAME, os.O_RDWR | os.O_CLOEXEC)
        self._turns_map = mmap.mmap(self._fd, TURNS_BYTES)
        self._buffer = memoryview(self._turns_map)
        rules_buffer = memoryview(self._rules_map)
        check_head(rules_buffer, str(folder / RULES_NAME))
        check_head(self._buffer, str(folder / TURNS_NAME))
        self.rules = Rules(rules_buffer)
        self.accounts = Accounts(self._buffer)
        self._threads = threading.Lock()
        self.lock = ByteLock(self._fd, 0)
        self._lives = [ByteLock(self._fd, _FIRST_LIFE_BYTE + slot) for slot in range(NUM_SLOTS)]
        self._words = self._buffer[WAKE_OFFSET : WAKE_OFFSET + 4 * NUM_SLOTS].cast("I")
        self._anchor = ctypes.c_char.from_buffer(self._turns_map)
        start = ctypes.addressof(self._anchor) + WAKE_OFFSET
        self._futexes = [Futex(start + 4 * slot) for slot in range(NUM_SLOTS)]

    def close(self) -> None:
        """Let go of the files; twice is fine. Nothing else may be called afterwards."""
        if self._fd >= 0:
            os.close(self._fd)  # which frees this process's locks
            self._fd = -1

    def change(self, action: Callable[[DeviceTurns, float], T], patience_seconds: float = math.inf) -> T:
        """Change the turns under the lock of all processes, then wake whom it concerns.

        Args:
            action: Gets the turns and the present time; nothing is written where it raises.
            patience_seconds: How long to wait for the lock, which a process that was stopped may hold.

        Raises:
            LimitError: Another process held the lock for so long; nothing was changed.
        """
        if not self._threads.acquire(timeout=-1 if math.isinf(patience_seconds) else patience_seconds):
            raise LimitError("another thread of this process waits for the lock of the lease segment")
        try:
            if not self.lock.acquire(patience_seconds):
                raise LimitError(f"process {self.lock.owner()} holds the lock of the lease segment")
            try:
                now = time.monotonic()
                turns = self.accounts.load(self.rules, now)
                before = turns.holder, turns.epoch, turns.lingers_until
                result = action(turns, now)
                self.accounts.store(turns, self.rules, now)
                woken = _concerned(turns, *before)
                for slot in woken:
                    self._words[slot] = (self._words[slot] + 1) & 0xFFFFFFFF
            finally:
                self.lock.release()
        finally:
            self._threads.release()
        for slot in woken:
            self._futexes[slot].wake()
        return result

    def word(self, slot: int) -> int:
        """What to give `wait`; read it before asking, so that no wake-up is lost."""
        return self._words[slot]

    def wait(self, slot: int, word: int, timeout_seconds: float) -> None:
        """Sleep until this slot is woken after `word` was read, or so long."""
        self._futexes[slot].wait(word, timeout_seconds)

    def wake(self, slot: int) -> None:
        """Make whoever sleeps for this slot look."""
        self._words[slot] = (self._words[slot] + 1) & 0xFFFFFFFF
        self._futexes[slot].wake()

    def begin_life(self, slot: int) -> bool:
        """Say that this process is the slot's, as long as it lives; False where another one is."""
        return self._lives[slot].try_acquire()

    def process(self, slot: int) -> int | None:
        """The process of a slot, None where it has ended (or is this one)."""
        return self._lives[slot].owner()

    def lock_owner(self) -> int | None:
        """The process that is changing the turns at this moment."""
        return self.lock.owner()


def _map(path: Path, size_bytes: int, is_writable: bool) -> mmap.mmap:
    fd = os.open(path, (os.O_RDWR if is_writable else os.O_RDONLY) | os.O_CLOEXEC)
    try:
        access = mmap.ACCESS_WRITE if is_writable else mmap.ACCESS_READ
        return mmap.mmap(fd, size_bytes, access=access)
    finally:
        os.close(fd)


def _concerned(turns: DeviceTurns, holder: int | None, epoch: int, lingers_until: float | None) -> list[int]:
    """Who has to look: the new holder; all that wait, when from now on they have to watch the clock by themselves."""
    if turns.epoch != epoch and turns.holder is not None:
        return [turns.holder]
    became_free = turns.holder is None and holder is not None
    if became_free or turns.lingers_until != lingers_until:
        return [slot for slot, tenant in turns.tenants.items() if tenant.is_waiting]
    return []
