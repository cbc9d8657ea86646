"""Inputs of requests, kept where the operator allows it: a fair sample of each model's, to calibrate and to judge by.

They lie in the accelerator's own folder, which no other tenant can enter, in files that only its user can read. They
are gone with the last model that they were recorded for, and with the accelerator.
"""

from __future__ import annotations

import logging
import os
import random
import shutil
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy.typing as npt

from elastic_inference.accelerator.config import MAX_RECORDED_BYTES, MAX_RECORDED_MODEL_BYTES
from elastic_inference.engines.candidate import read_sample, write_sample
from elastic_inference.engines.choosing import Sample
from elastic_inference.models.package import ModelPackage
from elastic_inference.models.signature import SignatureRequest

log = logging.getLogger(__name__)
_FOLDER = "recorded"
_NUMBERS = "biufc"  # kinds of dtypes that a file gives back as they were


class Reservoir:
    """Which of any number of things are kept: each has the same chance (Vitter, 1985, algorithm R).

    Args:
        most: How many are kept.
        draw: Returns a whole number from 0 to below its argument, each with the same chance.
    """

    def __init__(self, most: int, draw: Callable[[int], int]) -> None:
        self._most = most
        self._draw = draw
        self._num_seen = 0

    def place(self) -> int | None:
        """Return where the next one is kept, in place of what is there; None: it is not."""
        self._num_seen += 1
        place = self._num_seen - 1 if self._num_seen <= self._most else self._draw(self._num_seen)
        return place if place < self._most else None


class Recording:
    """Inputs of one model's requests. Safe for several threads.

    Args:
        folder: Its own; made with the first sample.
        room_bytes: Returns what the recordings of other models leave to this one.
    """

    def __init__(self, folder: Path, reservoir: Reservoir, room_bytes: Callable[[], int]) -> None:
        self._folder = folder
        self._reservoir = reservoir
        self._room_bytes = room_bytes
        self._sizes: dict[int, int] = {}  # bytes of what is kept, by its place
        self._lock = threading.Lock()
        self._is_closed = False
        self.num_users = 0

    @property
    def num_bytes(self) -> int:
        """What is kept."""
        return sum(list(self._sizes.values()))

    def saw(self, inputs: Mapping[str, npt.NDArray[Any]]) -> None:
        """Keep the inputs of a request that was answered, or do not; a full disk ends the recording and no request."""
        with self._lock:
            if self._is_closed:
                return
            place = self._reservoir.place()
            if place is None or any(array.dtype.kind not in _NUMBERS for array in inputs.values()):
                return
            size = sum(array.nbytes for array in inputs.values())
            others = self.num_bytes - self._sizes.get(place, 0)
            if others + size > min(MAX_RECORDED_MODEL_BYTES, self._room_bytes()):
                return
            try:
                self._write(place, inputs)
            except OSError as error:
                log.warning("no more requests of a model are recorded", extra={"error": str(error)})
                self._is_closed = True
                return
            self._sizes[place] = size

    def _write(self, place: int, inputs: Mapping[str, npt.NDArray[Any]]) -> None:
        self._folder.mkdir(mode=0o700, exist_ok=True)
        unfinished = self._folder / "unfinished"
        write_sample(unfinished, inputs)
        os.replace(unfinished, self._path(place))

    @property
    def num_kept(self) -> int:
        """How many requests are kept."""
        return len(self._sizes)

    def samples(self) -> list[Sample]:
        """Return what is kept; raises OSError or ValueError where a file is gone or damaged."""
        with self._lock:
            return [
                Sample(f"recorded request {place + 1}", read_sample(self._path(place)))
                for place in sorted(self._sizes)
            ]

    def _path(self, place: int) -> Path:
        return self._folder / f"{place}.npz"

    def close(self) -> None:
        """Forget what was kept; closing twice is fine."""
        with self._lock:
            self._is_closed = True
            self._sizes.clear()
            shutil.rmtree(self._folder, ignore_errors=True)


class Recordings:
    """The recordings of one accelerator, one for each model and signature, whatever the precision. Thread-safe.

    Args:
        store_dir: The accelerator's own folder; what an earlier process left there is removed.
        most: Requests of each model that are kept.

    Attributes:
        folder: Where all of it lies.
    """

    def __init__(self, store_dir: Path, most: int) -> None:
        remove(store_dir)
        self.most = most
        self.folder = store_dir / _FOLDER
        store_dir.mkdir(parents=True, exist_ok=True)
        self.folder.mkdir(mode=0o700)
        self._by_model: dict[tuple[str, str], Recording] = {}
        self._num_made = 0
        self._lock = threading.Lock()

    def find(self, package: ModelPackage, request: SignatureRequest) -> Recording | None:
        """Return the recording of a model; None where it is not loaded."""
        return self._by_model.get((package.content_hash, request.key()))

    def begin(self, package: ModelPackage, request: SignatureRequest) -> Recording:
        """Return the recording of a model that was loaded, until `end`; loads of the same model share it."""
        key = (package.content_hash, request.key())
        with self._lock:
            recording = self._by_model.get(key)
            if recording is None:
                self._num_made += 1
                reservoir = Reservoir(self.most, random.Random().randrange)
                recording = Recording(
                    self.folder / str(self._num_made), reservoir, lambda: self._room_bytes(key)
                )
                self._by_model[key] = recording
            recording.num_users += 1
            return recording

    def end(self, recording: Recording) -> None:
        """Say that one of those models is gone; the last one takes what was recorded with it."""
        with self._lock:
            recording.num_users -= 1
            if recording.num_users:
                return
            self._by_model = {key: each for key, each in self._by_model.items() if each is not recording}
        recording.close()

    def _room_bytes(self, key: tuple[str, str]) -> int:
        others = [each.num_bytes for other, each in list(self._by_model.items()) if other != key]
        return MAX_RECORDED_BYTES - sum(others)


def remove(store_dir: Path) -> None:
    """Remove all that was recorded; nothing there is fine."""
    shutil.rmtree(store_dir / _FOLDER, ignore_errors=True)
