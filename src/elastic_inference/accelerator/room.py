"""How much a store of blobs holds and may hold: its own limit, and what must stay free on the disk."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Mapping
from pathlib import Path

from elastic_inference.errors import CapacityExceeded
from elastic_inference.units import format_bytes


class Room:
    """Bytes held and promised, by blob. Safe for several threads.

    A blob is counted whole from its first byte on, so that several that arrive at once cannot together pass the limit.

    Args:
        directory: Any on the disk in question.
        limit_bytes: What all blobs together may hold; None: no limit.
        reserve_bytes: What stays free on the disk.
        held: Sizes of the blobs that are there already.
    """

    def __init__(
        self, directory: Path, limit_bytes: int | None, reserve_bytes: int, held: Mapping[str, int]
    ) -> None:
        self._directory = directory
        self._limit_bytes = limit_bytes
        self._reserve_bytes = reserve_bytes
        self._held = dict(held)
        self._arriving: dict[str, int] = {}  # bytes that are promised and not on the disk yet
        self._num_bytes = sum(held.values())
        self._lock = threading.Lock()

    @property
    def num_bytes(self) -> int:
        """What all blobs hold, those that arrive counted whole."""
        return self._num_bytes

    def take(self, sha256: str, total: int, present: int) -> None:
        """Promise a blob room, before each part of it.

        Args:
            total: Bytes of the whole blob.
            present: How many of them are on the disk.

        Raises:
            CapacityExceeded: The store's limit, or the disk without its reserve, does not allow that much.
        """
        with self._lock:
            others = self._num_bytes - self._held.get(sha256, 0)
            if self._limit_bytes is not None and others + total > self._limit_bytes:
                raise CapacityExceeded(
                    f"the model store holds {format_bytes(others)} and may hold "
                    f"{format_bytes(self._limit_bytes)}; {format_bytes(total)} more do not fit",
                    requested=format_bytes(total),
                    available=format_bytes(max(self._limit_bytes - others, 0)),
                )
            self._arriving.pop(sha256, None)
            self._check_disk(total - present)
            self._arriving[sha256] = total - present
            self._held[sha256] = total
            self._num_bytes = others + total

    def _check_disk(self, wanted: int) -> None:
        free = shutil.disk_usage(self._directory).free - self._reserve_bytes - sum(self._arriving.values())
        if wanted > free:
            raise CapacityExceeded(
                f"the disk has {format_bytes(max(free, 0))} left for models, {format_bytes(self._reserve_bytes)} are "
                f"kept free; {format_bytes(wanted)} more do not fit",
                requested=format_bytes(wanted),
                available=format_bytes(max(free, 0)),
            )

    def arrived(self, sha256: str) -> None:
        """Note that a blob is whole on the disk."""
        with self._lock:
            self._arriving.pop(sha256, None)

    def give_back(self, sha256: str) -> None:
        """Forget a blob that was removed; an unknown one is fine."""
        with self._lock:
            self._arriving.pop(sha256, None)
            self._num_bytes -= self._held.pop(sha256, 0)
