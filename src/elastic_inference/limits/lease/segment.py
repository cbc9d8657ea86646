"""A device's lease segment, opened: one lock around each change, and the wake-up of whoever it concerns.

Measured (2 cores of an AMD EPYC, CPython 3.11): a lock and its release 2.8 us, a change without waiting 13 us, a turn
of two processes that do nothing but hand over 34 us; from caches that went cold in 2 ms of other work about 100 us, 40
of them in the process that gives back. What was weighed: a robust mutex of the C library is 40 bytes whose layout is
that library's own; futexes alone need atomic operations, which Python does not have; a socket is no slower for the
wake-up, but holds no accounts. A GPU itself takes 140 us to change from one process to another.
"""

from __future__ import annotations

import ctypes
import math
import mmap
import os
import threading
import time
from collections.abc import Callable
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
)
from elastic_inference.limits.lease.memory import LeaseFiles
from elastic_inference.limits.lease.policy import DeviceTurns

T = TypeVar("T")

_FIRST_LIFE_BYTE = 16  # byte 0 is the lock; a tenant's process holds its own byte as long as it lives


class Segment:
    """The shared memory of one device. Open it once in a process; `close` unmaps it.

    Args:
        files: Its memory; `close` closes `turns`, and whoever opened `rules` closes it.
        is_host: Whether the rules may be changed.

    Raises:
        InvalidInput: The files are of another version.
    """

    def __init__(self, files: LeaseFiles, is_host: bool = False) -> None:
        rules_access = mmap.ACCESS_WRITE if is_host else mmap.ACCESS_READ
        self._rules_map = mmap.mmap(files.rules, RULES_BYTES, access=rules_access)
        self._fd = files.turns
        self._turns_map = mmap.mmap(self._fd, TURNS_BYTES)
        self._buffer = memoryview(self._turns_map)
        rules_buffer = memoryview(self._rules_map)
        check_head(rules_buffer)
        check_head(self._buffer)
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
        """Return what to give `wait`; read it before asking, so that no wake-up is lost."""
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
        """Return the process of a slot, None where it has ended (or is this one)."""
        return self._lives[slot].owner()

    def lock_owner(self) -> int | None:
        """Return the process that is changing the turns at this moment."""
        return self.lock.owner()


def _concerned(turns: DeviceTurns, holder: int | None, epoch: int, lingers_until: float | None) -> list[int]:
    """Who has to look: the new holder; all that wait, when from now on they have to watch the clock by themselves."""
    if turns.epoch != epoch and turns.holder is not None:
        return [turns.holder]
    became_free = turns.holder is None and holder is not None
    if became_free or turns.lingers_until != lingers_until:
        return [slot for slot, tenant in turns.tenants.items() if tenant.is_waiting]
    return []
