"""The shared memory regions that clients have registered, and arrays that look at them."""

from __future__ import annotations

import threading
from dataclasses import dataclass

from elastic_inference.errors import InvalidInput
from elastic_inference.protocol.heads import RegionRange
from elastic_inference.protocol.shared_memory import Region

MAX_REGIONS = 1024


@dataclass(frozen=True)
class RegionStatus:
    """A registered region, as the protocol's status call tells it."""

    name: str
    key: str
    offset: int
    byte_size: int


class RegionTable:
    """Regions by the name that their client gave them. Safe for several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._regions: dict[str, tuple[Region, RegionStatus]] = {}
        self._bound: set[str] = set()

    def register(
        self,
        name: str,
        key: str,
        offset: int,
        size_bytes: int,
        peer_uid: int | None = None,
        is_bound: bool = False,
    ) -> None:
        """Map a region; raises InvalidInput where the name is taken or the region cannot be had.

        Args:
            peer_uid: The user who asks, where the kernel tells; see Region.open.
            is_bound: It lives as long as a connection, which unregisters it by name.
        """
        with self._lock:
            if name in self._regions:
                raise InvalidInput(f"shared memory region {name!r} already in manager")
            if len(self._regions) >= MAX_REGIONS:
                raise InvalidInput(f"no more than {MAX_REGIONS} shared memory regions can be registered")
            region = Region.open(key, size_bytes, offset, peer_uid)
            self._regions[name] = (region, RegionStatus(name, key, offset, size_bytes))
            if is_bound:
                self._bound.add(name)

    def unregister(self, name: str) -> None:
        """Unmap a region; fine when there is none of that name."""
        with self._lock:
            entry = self._regions.pop(name, None)
            self._bound.discard(name)
        if entry is not None:
            entry[0].close()

    def unregister_all(self) -> None:
        """Unmap all regions but those bound to connections, which other clients use."""
        for status in self.statuses():
            if status.name not in self._bound:
                self.unregister(status.name)

    def statuses(self, name: str | None = None) -> list[RegionStatus]:
        """All regions, or the one of that name; InvalidInput where it is not registered."""
        with self._lock:
            if name is None:
                return [status for _, status in self._regions.values()]
            if name not in self._regions:
                raise InvalidInput(f"unable to find system shared memory region {name!r}")
            return [self._regions[name][1]]

    def view(self, where: RegionRange) -> memoryview:
        """Return the bytes of a part of a region; InvalidInput where it is not registered or too small."""
        entry = self._regions.get(where.region)
        if entry is None:
            raise InvalidInput(f"unable to find shared memory region {where.region!r}")
        region, status = entry
        if where.offset + where.size_bytes > status.byte_size:
            raise InvalidInput(
                f"shared memory region {where.region!r}: offset {where.offset} + byte_size {where.size_bytes} "
                f"exceeds its {status.byte_size} bytes"
            )
        if not region.is_whole():
            raise InvalidInput(
                f"shared memory region {where.region!r} shrank below its {status.byte_size} bytes"
            )
        return region.view[where.offset : where.offset + where.size_bytes]
