"""The input shapes that a model was called with, remembered beside it so that its next load warms them up."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from typing import Any

import numpy.typing as npt

from elastic_inference.engines.warm_up import SeenShape
from elastic_inference.models.artifacts.store import ArtifactStore, Kind

log = logging.getLogger(__name__)
MAX_SHAPES = 8
_Shapes = tuple[tuple[str, tuple[int, ...]], ...]


class SeenShapes:
    """Those of one signature of a model. Safe for several threads.

    Args:
        store: Where they are kept; None: nowhere.
        key: Of the signature, as the store has keys.
    """

    def __init__(self, store: ArtifactStore | None = None, key: Mapping[str, Any] | None = None) -> None:
        self._store = store
        self._key = dict(key or {})
        self._seconds: dict[
            _Shapes, float
        ] = {}  # the quickest call; the shape that was called last stands last
        self._last: _Shapes | None = None  # a model without inputs has ()
        self._is_kept = True
        self._lock = threading.Lock()
        self._keeping = threading.Lock()

    def recall(self) -> list[SeenShape]:
        """Return what earlier processes saw, the last called first."""
        found = None if self._store is None else self._store.get(Kind.SHAPES, self._key)
        if found is None:
            return []
        try:
            seen = [SeenShape.from_json(value) for value in found.about["shapes"]]
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            log.warning("shapes seen before cannot be read", extra={"error": str(error)})
            return []
        with self._lock:
            self._seconds = {
                tuple(each.shapes.items()): each.seconds for each in reversed(seen)
            } | self._seconds
        return seen

    def latest(self) -> dict[str, tuple[int, ...]]:
        """Return the shapes of the last call, of this process or an earlier one; {} where none is known."""
        with self._lock:
            return dict(next(reversed(self._seconds), ()))

    def saw(self, inputs: Mapping[str, npt.NDArray[Any]], seconds: float) -> None:
        """Note a call and how long it took. The hot path: a known shape costs a microsecond."""
        shapes = tuple([(alias, array.shape) for alias, array in inputs.items()])
        if shapes == self._last:
            if seconds < self._seconds.get(
                shapes, 0.0
            ):  # forgotten meanwhile: another thread saw many others
                self._seconds[shapes] = seconds
            return
        with self._lock:
            known = self._seconds.pop(shapes, None)
            self._seconds[shapes] = seconds if known is None else min(known, seconds)
            self._last = shapes
            self._is_kept = False
            num_seen = len(self._seconds)
            if num_seen > MAX_SHAPES:
                del self._seconds[next(iter(self._seconds))]
        if known is None and num_seen <= MAX_SHAPES and self._store is not None:
            # So that a killed process has remembered too; who changes shapes all the time is not to pay each time.
            threading.Thread(target=self.keep, name="seen-shapes", daemon=True).start()

    def keep(self) -> None:
        """Write them down; twice is fine."""
        with self._keeping:  # whoever comes second returns when it is written
            with self._lock:
                if self._is_kept or self._store is None:
                    return
                self._is_kept = True
                seen = [
                    SeenShape(dict(shapes), seconds) for shapes, seconds in reversed(self._seconds.items())
                ]
            about = {"shapes": [each.to_json() for each in seen]}
            why_not = self._store.put(Kind.SHAPES, self._key, about)
        if why_not:
            log.warning("the next load will not know the shapes", extra={"why": why_not})
