"""A lock for each key that somebody holds or waits for, and for no other: the table never grows."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class KeyedLocks:
    """Locks by key. Safe for several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._entries: dict[str, tuple[threading.Lock, int]] = {}  # and how many hold it or wait for it

    @contextmanager
    def hold(self, key: str) -> Iterator[None]:
        """Hold the key's lock for the block."""
        with self._lock:
            lock, num_users = self._entries.get(key, (threading.Lock(), 0))
            self._entries[key] = (lock, num_users + 1)
        try:
            with lock:
                yield
        finally:
            with self._lock:
                _, num_users = self._entries.pop(key)
                if num_users > 1:
                    self._entries[key] = (lock, num_users - 1)

    @contextmanager
    def unless_held(self, key: str) -> Iterator[bool]:
        """Whether nobody holds the key; if so nobody can during the block, which must be short."""
        with self._lock:
            yield key not in self._entries
