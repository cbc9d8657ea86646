"""Drawing detections on a picture: boxes, names and scores, legible at any size."""

from __future__ import annotations

import colorsys
from collections.abc import Mapping

import cv2

from elastic_inference.video.detections import Detections
from elastic_inference.video.source import Pixels

_FONT = cv2.FONT_HERSHEY_SIMPLEX
_GOLDEN_TURN = 0.618034  # hues that follow each other by the golden ratio never come near each other


class Painter:
    """Draws for pictures of one size.

    Lines and letters grow with the picture: at 720 rows a line is 2 pixels and a letter 13.
    """

    def __init__(self, width: int, height: int, labels: Mapping[int, str]) -> None:
        """`labels` maps class ids to names; a class that it lacks is drawn by its number."""
        self._width, self._height = width, height
        self._labels = labels
        unit = min(width, height * 16 / 9) / 1280
        self._line = max(1, round(2 * unit))
        self._font_scale = max(0.35, 0.6 * unit)
        self._font_line = max(1, round(1.5 * unit))

    def draw(self, pixels: Pixels, detections: Detections) -> None:
        """Draw into `pixels`, uint8[H, W, 3] RGB; the best object comes last and lies on top."""
        order = range(len(detections) - 1, -1, -1)
        corners = [self._corners(detections, i) for i in range(len(detections))]
        for i in order:
            left, top, right, bottom = corners[i]
            colour = class_colour(int(detections.classes[i]))
            cv2.rectangle(pixels, (left, top), (right, bottom), colour, self._line, cv2.LINE_AA)
        for i in order:
            class_id = int(detections.classes[i])
            name = self._labels.get(class_id, f"class {class_id}")
            self._draw_label(pixels, f"{name} {detections.scores[i]:.2f}", corners[i], class_colour(class_id))

    def _corners(self, detections: Detections, i: int) -> tuple[int, int, int, int]:
        top, left, bottom, right = (float(value) for value in detections.boxes[i].clip(0, 1))
        width, height = self._width - 1, self._height - 1
        return round(left * width), round(top * height), round(right * width), round(bottom * height)

    def _draw_label(
        self, pixels: Pixels, text: str, corners: tuple[int, int, int, int], colour: tuple[int, int, int]
    ) -> None:
        left, top, _, _ = corners
        (width, height), below = cv2.getTextSize(text, _FONT, self._font_scale, self._font_line)
        pad = 2 * self._line
        box_width, box_height = width + 2 * pad, height + below + 2 * pad
        # Above the box, or inside it at the upper edge; moved left at the right edge of the picture.
        y = top - box_height if top >= box_height else top
        x = max(0, min(left, self._width - box_width))
        cv2.rectangle(pixels, (x, y), (x + box_width, y + box_height), colour, cv2.FILLED)
        ink = (0, 0, 0) if _brightness(colour) > 120 else (255, 255, 255)
        origin = (x + pad, y + pad + height)
        cv2.putText(pixels, text, origin, _FONT, self._font_scale, ink, self._font_line, cv2.LINE_AA)


def class_colour(class_id: int) -> tuple[int, int, int]:
    """The RGB colour of a class: always the same one, and unlike that of its neighbours."""
    red, green, blue = colorsys.hsv_to_rgb((class_id * _GOLDEN_TURN) % 1.0, 0.85, 1.0)
    return round(255 * red), round(255 * green), round(255 * blue)


def _brightness(colour: tuple[int, int, int]) -> float:
    red, green, blue = colour
    return 0.299 * red + 0.587 * green + 0.114 * blue
