"""How many requests a second all accelerators of a tenant take together, counted in memory that they share.

It is one bucket that fills with so many requests a second and holds those of one second, 1 at least. Nothing is locked
between processes, so none waits for another: each counts in a cell of its own, and what is left in the bucket follows
from the sum of all cells, the rate, and what has run over, which is one number that only ever falls. Where two
processes take the last request in the same microsecond, both are counted, and the next one waits for longer: in the
long run no more are taken than the rate allows.

The host writes the rule and says whose a cell is; it reads nothing here that it relies on. A process that would cheat
could as well not count at all; and it reaches the memory of its own tenant alone.
"""

from __future__ import annotations

import math
import mmap
import os
import threading
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from elastic_inference.clock import Clock
from elastic_inference.errors import CapacityExceeded, ComputeQuotaExceeded, InvalidInput
from elastic_inference.limits import memory_file

NUM_SLOTS = 1024
"""Accelerators of one tenant on one host, at most."""

_NAME = "elastic-inference-requests"
# Cells of 8 bytes, each written by one store. A rule is written where none reads yet, then the first cell points to it,
# so that nobody ever sees the half of two rules.
_RULE, _NUM_USED = 0, 1  # which rule is in force; how many of the cells are to be summed up
_RULES, _NUM_RULES = 8, 64
_PER_SECOND, _SINCE, _CEILING, _CELLS_OF_RULE = 0, 1, 2, 4
_COUNTS = _RULES + _NUM_RULES * _CELLS_OF_RULE
_OWNERS = _COUNTS + NUM_SLOTS  # two cells each
_NUM_CELLS = _OWNERS + 2 * NUM_SLOTS


@dataclass(frozen=True)
class RateConfig:
    """Where an accelerator counts its requests.

    Attributes:
        fd: Descriptor of the shared memory in the process that reads this.
        slot: The cell that it alone writes.
    """

    fd: int
    slot: int

    def __post_init__(self) -> None:
        if not 0 <= self.slot < NUM_SLOTS:
            raise InvalidInput(f"slot {self.slot} of requests is not between 0 and {NUM_SLOTS - 1}")


class _Memory:
    """The cells, as whole numbers and as floats."""

    def __init__(self, fd: int) -> None:
        self._map = mmap.mmap(fd, _NUM_CELLS * 8)
        self._view = memoryview(self._map)
        self.whole, self.real = self._view.cast("q"), self._view.cast("d")

    def close(self) -> None:
        for view in (self.whole, self.real, self._view):
            view.release()
        self._map.close()

    def count(self) -> int:
        """How many requests were ever taken."""
        return sum(self.whole[_COUNTS : _COUNTS + self.whole[_NUM_USED]])


class RequestRate:
    """The bucket as one accelerator uses it; any thread may.

    Args:
        config: The descriptor stays open, for by it a host that is started again finds the memory.
        clock: One that all processes of the machine share.
    """

    def __init__(self, config: RateConfig, clock: Clock) -> None:
        self._memory = _Memory(config.fd)
        self._slot = _COUNTS + config.slot
        self._clock = clock
        self._lock = threading.Lock()

    @property
    def per_second(self) -> float | None:
        """The limit in force for all of the tenant's accelerators together; None where there is none."""
        memory = self._memory
        return memory.real[_rule(memory) + _PER_SECOND] or None

    def take(self) -> None:
        """Count one request; raises ComputeQuotaExceeded where it comes too soon, and then does not count it."""
        memory = self._memory
        rule = _rule(memory)
        per_second = memory.real[rule + _PER_SECOND]
        if per_second == 0.0:  # the hot path of those without a limit
            return
        with self._lock:
            filled = _filled(memory, rule, self._clock.now())
            left, most = memory.real[rule + _CEILING] + filled, max(1.0, per_second)
            if left > most:
                memory.real[rule + _CEILING] = most - filled
                left = most
            if left < 1.0:
                raise ComputeQuotaExceeded(
                    f"the quota is {per_second:g} requests a second for all accelerators of this tenant on this host; "
                    f"try again in {(1.0 - left) / per_second:.3f} s"
                )
            memory.whole[self._slot] += 1


class RatePage:
    """The same memory as its host sees it: the rule, and whose the cells are. One thread at a time.

    Args:
        fd: From `create` or `find`; becomes this object's.
    """

    def __init__(self, fd: int, clock: Clock) -> None:
        self.fd = fd
        self._memory = _Memory(fd)
        self._clock = clock

    @classmethod
    def create(cls, tenant: str, clock: Clock) -> RatePage:
        """Make one without a limit."""
        return cls(memory_file.create(f"{_NAME}-{tenant}", bytes(_NUM_CELLS * 8)), clock)

    @classmethod
    def find(cls, pid: int, tenant: str, clock: Clock) -> RatePage | None:
        """Open the one that another process has; None where it has none, or another version's."""
        path: Path | None = memory_file.paths(pid).get(f"{_NAME}-{tenant}")
        fd = None if path is None else memory_file.open_again(path)
        if fd is None:
            return None
        if os.fstat(fd).st_size == _NUM_CELLS * 8:
            return cls(fd, clock)
        os.close(fd)
        return None

    def close(self) -> None:
        """Let go of it; processes that have it keep it."""
        self._memory.close()
        os.close(self.fd)

    def put(self, per_second: float | None) -> None:
        """Put a limit in force at once; the limit that is in force already changes nothing.

        A first limit begins with a full bucket. Another one goes on with what is left, for a pool divides a limit anew
        each time when an accelerator comes or goes, and a tenant that attaches often must not get more by that.
        """
        memory, wanted = self._memory, per_second or 0.0
        rule, left = _rule(memory), math.inf
        if memory.real[rule + _PER_SECOND] == wanted:
            return
        if memory.real[rule + _PER_SECOND]:
            left = memory.real[rule + _CEILING] + _filled(memory, rule, self._clock.now())
        number = (memory.whole[_RULE] + 1) % _NUM_RULES
        rule = _RULES + number * _CELLS_OF_RULE
        memory.real[rule + _PER_SECOND] = wanted
        memory.real[rule + _SINCE] = self._clock.now()
        memory.real[rule + _CEILING] = min(left, max(1.0, wanted)) + memory.count()
        memory.whole[_RULE] = number

    def admit(self, owner: bytes) -> int:
        """Return the cell of an accelerator (16 bytes name it): the one that it has, or one that nobody has.

        Raises:
            CapacityExceeded: All are taken.
        """
        owners = self._owners()
        wanted = owner if owner in owners else bytes(16)
        slot = next((slot for slot, each in enumerate(owners) if each == wanted), None)
        if slot is None:
            raise CapacityExceeded(
                f"a tenant has {NUM_SLOTS} accelerators on a host at most",
                requested="1 accelerator",
                available=f"none of {NUM_SLOTS}",
            )
        self._write_owner(slot, owner)
        self._memory.whole[_NUM_USED] = max(self._memory.whole[_NUM_USED], slot + 1)
        return slot

    def keep(self, owners: Collection[bytes]) -> None:
        """Take their cells from all accelerators but these."""
        for slot, each in enumerate(self._owners()):
            if each not in owners:
                self._write_owner(slot, bytes(16))

    def dismiss(self, owner: bytes) -> None:
        """Take its cell from an accelerator whose process has ended; what it counted stays counted."""
        for slot, each in enumerate(self._owners()):
            if each == owner:
                self._write_owner(slot, bytes(16))

    def _owners(self) -> list[bytes]:
        cells = self._memory.whole[_OWNERS:].tobytes()
        return [cells[at : at + 16] for at in range(0, len(cells), 16)]

    def _write_owner(self, slot: int, owner: bytes) -> None:
        at = _OWNERS + 2 * slot
        for cell in (0, 1):
            self._memory.whole[at + cell] = int.from_bytes(
                owner[8 * cell : 8 * cell + 8], "little", signed=True
            )


def _filled(memory: _Memory, rule: int, now: float) -> float:
    """Return what came into the bucket since a rule was put in force, less all that was ever taken."""
    return memory.real[rule + _PER_SECOND] * (now - memory.real[rule + _SINCE]) - memory.count()


def _rule(memory: _Memory) -> int:
    """Return the first cell of the rule in force."""
    return _RULES + memory.whole[_RULE] % _NUM_RULES * _CELLS_OF_RULE
