"""Keeping what was found, and the one annotated picture that shows most of it."""

from __future__ import annotations

from pathlib import Path

import cv2

from elastic_inference.errors import ElasticInferenceError
from elastic_inference.video.detections import Detections
from elastic_inference.video.pipeline import Picture
from elastic_inference.video.source import Pixels


class Recorder:
    """Remembers the detections of every picture, so it is for short clips, and a copy of one picture.

    Args:
        score: Objects of this score or more count for the choice of the picture.
    """

    def __init__(self, score: float) -> None:
        self.detections: list[Detections] = []
        self._score = score
        self._most = -1
        self._pixels: Pixels | None = None

    def see(self, picture: Picture, detections: Detections) -> None:
        """Take note of an annotated picture; the first with most objects is kept."""
        self.detections.append(detections)
        count = len(detections.above(self._score))
        if count > self._most:
            self._most, self._pixels = count, picture.pixels.copy()

    def write_png(self, path: Path) -> None:
        """Write the picture that was kept.

        Raises:
            ElasticInferenceError: There is none, or the file cannot be written.
        """
        if self._pixels is None:
            raise ElasticInferenceError(f"{path}: there was no picture to write")
        # Encoded first, because imwrite says nothing of why it failed.
        _, encoded = cv2.imencode(".png", cv2.cvtColor(self._pixels, cv2.COLOR_RGB2BGR))
        try:
            path.write_bytes(encoded.tobytes())
        except OSError as error:
            raise ElasticInferenceError(f"{path} could not be written: {error.strerror}") from error
