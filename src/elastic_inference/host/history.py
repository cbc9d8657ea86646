"""The last hour of each accelerator, point by point, in bounded memory."""

from __future__ import annotations

import math
import threading
from array import array
from collections.abc import Mapping

STEP_SECONDS = 10.0
NUM_POINTS = 360  # an hour
COLUMNS = ("requests_per_second", "p99_seconds", "utilisation_share", "memory_bytes", "num_waiting")
_NAMES = ("at", *COLUMNS)
_MAX_FIGURES = NUM_POINTS * len(_NAMES)  # 17 KB an accelerator


class History:
    """Points of figures by accelerator, one each `STEP_SECONDS`."""

    def __init__(self) -> None:
        self._points: dict[str, array[float]] = {}
        self._noted_at = -math.inf
        self._lock = threading.Lock()

    def is_due(self, at: float) -> bool:
        """Whether the next point may be noted; a clock that was set back does not stop the history."""
        return not 0 <= at - self._noted_at < STEP_SECONDS

    def note(self, at: float, figures: Mapping[str, tuple[float | None, ...]]) -> None:
        """Note a point of every accelerator; one that is not named is forgotten.

        Args:
            at: Seconds since 1970.
            figures: In the order of `COLUMNS`, by accelerator; None: not known.
        """
        with self._lock:
            self._noted_at = at
            for accelerator_id in self._points.keys() - figures.keys():
                del self._points[accelerator_id]
            for accelerator_id, values in figures.items():
                points = self._points.setdefault(accelerator_id, array("d"))
                points.extend((at, *(math.nan if value is None else value for value in values)))
                del points[:-_MAX_FIGURES]

    def of(self, accelerator_id: str) -> dict[str, list[float | None]]:
        """Return the points of one accelerator column by column, oldest first; `at` is the first column."""
        with self._lock:
            points = self._points.get(accelerator_id, array("d"))[:]
        width = len(_NAMES)
        return {
            name: [None if math.isnan(value) else value for value in points[place::width]]
            for place, name in enumerate(_NAMES)
        }
