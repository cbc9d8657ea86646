"""Hosts that a pool does not take, such as of another version: they ask again and again, and are no hosts of it."""

from __future__ import annotations

import threading

from elastic_inference.clock import Clock, MonotonicClock

SHOWN_SECONDS = 30.0
"""After a host asked for the last time; it asks every few seconds."""


class Refusals:
    """What was refused lately, by host. Any thread may call."""

    def __init__(self, clock: Clock | None = None) -> None:
        self._clock = clock or MonotonicClock()
        self._lock = threading.Lock()
        self._refused: dict[str, tuple[float, str]] = {}

    def note(self, host_id: str, url: str, why: str) -> None:
        """Note that a host was refused."""
        with self._lock:
            self._drop_old()
            self._refused[host_id] = self._clock.now(), f"host {host_id} ({url}) is not taken: {why}"

    def forget(self, host_id: str) -> None:
        """Note that a host was taken; one that never was refused is fine."""
        with self._lock:
            self._refused.pop(host_id, None)

    def texts(self) -> list[str]:
        """Return a sentence for each host that still asks."""
        with self._lock:
            self._drop_old()
            return [text for _, text in self._refused.values()]

    def _drop_old(self) -> None:
        oldest = self._clock.now() - SHOWN_SECONDS
        self._refused = {key: found for key, found in self._refused.items() if found[0] > oldest}
