"""How fast counters of accelerators rise: differences over some seconds, since between two looks there is little."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping

from elastic_inference.host.accounts.usage import Sample

WINDOW_SECONDS = 5.0
_MAX_KEPT = 16  # looks of an accelerator; more come only where many ask at once


class Rates:
    """Remembers the counters of the last seconds by accelerator; used by one thread at a time."""

    def __init__(self) -> None:
        self._kept: dict[str, deque[tuple[float, Sample]]] = {}

    def of(self, samples: Mapping[str, tuple[float, Sample]]) -> dict[str, tuple[float, float]]:
        """Return inferences a second, and throttled seconds a second, of each accelerator; 0 for the first look.

        Args:
            samples: When each was read and its counters then; one that is not named is forgotten.
        """
        self._kept = {key: kept for key, kept in self._kept.items() if key in samples}
        return {key: self._rate(key, at, sample) for key, (at, sample) in samples.items()}

    def _rate(self, key: str, at: float, sample: Sample) -> tuple[float, float]:
        kept = self._kept.setdefault(key, deque(maxlen=_MAX_KEPT))
        if kept and (at < kept[-1][0] or sample.inferences < kept[-1][1].inferences):
            kept.clear()  # another clock, or another process
        if not kept or at > kept[-1][0]:
            kept.append((at, sample))
        # The youngest look that is old enough; what lies before it is not needed any more.
        while len(kept) > 2 and kept[1][0] <= at - WINDOW_SECONDS:
            kept.popleft()
        first_at, first = kept[0]
        seconds = at - first_at
        if seconds <= 0:
            return 0.0, 0.0
        added = sample.since(first)
        return added.inferences / seconds, added.throttled_seconds / seconds
