"""How much a store holds and may hold: its own limit, and what must stay free on the disk."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from elastic_inference.errors import CapacityExceeded
from elastic_inference.units import format_bytes

COUNT_SECONDS = 1.0
"""For how long a count of the files holds: to look at each at every upload is quadratic in their number."""


class Room:
    """Bytes held and promised, by name. Safe for several threads.

    A file is counted whole from its first byte on, so that several that arrive at once cannot together pass the limit.
    What other processes put into the same folder is seen within `COUNT_SECONDS`.

    Args:
        directory: Any on the disk in question.
        limit_bytes: What all files together may hold; None: no limit.
        reserve_bytes: What stays free on the disk.
        count: Returns the sizes of the files that are there.
        make_room: Removes files that nobody uses, of that many bytes in all if it can.
        clock: Seconds that never go back.
    """

    def __init__(
        self,
        directory: Path,
        limit_bytes: int | None,
        reserve_bytes: int,
        count: Callable[[], Mapping[str, int]] = dict,
        make_room: Callable[[int], None] = lambda _: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._directory = directory
        self.limit_bytes = limit_bytes
        self._reserve_bytes = reserve_bytes
        self._count = count
        self._make_room = make_room
        self._clock = clock
        self._held: dict[str, int] = {}
        self._promised: dict[str, tuple[int, int]] = {}  # whole size, and what of it is not on the disk yet
        self._num_bytes = 0
        self._counted_at: float | None = None
        self._lock = threading.RLock()  # `make_room` gives back what it removes

    @property
    def num_bytes(self) -> int:
        """What all files hold, those that arrive counted whole."""
        with self._lock:
            self._look()
            return self._num_bytes

    def take(self, name: str, total: int, present: int) -> None:
        """Promise a file room, before each part of it.

        Args:
            total: Bytes of the whole file.
            present: How many of them are on the disk.

        Raises:
            CapacityExceeded: The store's limit, or the disk without its reserve, does not allow that much, with
                everything removed that nobody uses.
        """
        with self._lock:
            self._look()
            lacking = self._lacking(name, total, present)
            if lacking > 0:
                self._make_room(lacking)
                self._counted_at = None
                self._look()
                self._check(name, total, present)
            self._promised[name] = (total, total - present)
            self._hold(name, total)

    def _others(self, name: str) -> int:
        return self._num_bytes - self._held.get(name, 0)

    def _free(self, name: str) -> int:
        arriving = sum(left for other, (_, left) in self._promised.items() if other != name)
        folder = self._directory
        while (
            not folder.exists()
        ):  # removed by somebody; it is made again when there is something to put into it
            folder = folder.parent
        return shutil.disk_usage(folder).free - self._reserve_bytes - arriving

    def _lacking(self, name: str, total: int, present: int) -> int:
        beyond_limit = 0 if self.limit_bytes is None else self._others(name) + total - self.limit_bytes
        return max(beyond_limit, total - present - self._free(name))

    def _check(self, name: str, total: int, present: int) -> None:
        others, free = self._others(name), self._free(name)
        if self.limit_bytes is not None and others + total > self.limit_bytes:
            raise CapacityExceeded(
                f"the model store holds {format_bytes(others)} that is in use and may hold "
                f"{format_bytes(self.limit_bytes)}; {format_bytes(total)} more do not fit",
                requested=format_bytes(total),
                available=format_bytes(max(self.limit_bytes - others, 0)),
            )
        if total - present > free:
            raise CapacityExceeded(
                f"the disk has {format_bytes(max(free, 0))} left for models, {format_bytes(self._reserve_bytes)} are "
                f"kept free; {format_bytes(total - present)} more do not fit",
                requested=format_bytes(total - present),
                available=format_bytes(max(free, 0)),
            )

    def arrived(self, name: str, final_name: str | None = None, size: int = 0) -> None:
        """Note that a file is whole on the disk, of this size under another name where one is given."""
        with self._lock:
            self._promised.pop(name, None)
            if final_name is not None:
                self._forget(name)
                self._hold(final_name, size)

    def give_back(self, name: str) -> None:
        """Forget a file that was removed; an unknown one is fine."""
        with self._lock:
            self._promised.pop(name, None)
            self._forget(name)

    def forget_promises(self, is_gone: Callable[[str], bool]) -> None:
        """Give back what was promised to files that nobody will go on with."""
        for name in list(self._promised):
            if is_gone(name):
                self.give_back(name)

    def _hold(self, name: str, size: int) -> None:
        self._forget(name)
        self._held[name] = size
        self._num_bytes += size

    def _forget(self, name: str) -> None:
        self._num_bytes -= self._held.pop(name, 0)

    def _look(self) -> None:
        now = self._clock()
        if self._counted_at is not None and now - self._counted_at < COUNT_SECONDS:
            return
        self._counted_at = now
        self._held = {**self._count(), **{name: total for name, (total, _) in self._promised.items()}}
        self._num_bytes = sum(self._held.values())
