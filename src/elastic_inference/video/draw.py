"""Drawing detections on a picture: boxes, names and scores, legible at any size."""

from __future__ import annotations

import colorsys
import math
from collections.abc import Mapping, Sequence

import cv2

from elastic_inference.video.detections import Detections
from elastic_inference.video.source import Pixels

_FONT = cv2.FONT_HERSHEY_SIMPLEX
_GOLDEN_TURN = 0.618034  # hues that follow each other by the golden ratio never come near each other
_BRIGHT = 120  # of 255: ink on colours above it is black

Corners = tuple[int, int, int, int]  # left, top, right, bottom in pixels


class Painter:
    """Draws for pictures of one size.

    Lines and letters grow with the picture: at 1280x720 a line is 2 pixels and a letter 13.
    """

    def __init__(self, width: int, height: int, labels: Mapping[int, str]) -> None:
        """`labels` maps class ids to names; a class that it lacks is drawn by its number."""
        self._width, self._height = width, height
        self._labels = labels
        unit = math.sqrt(width * height) / 960  # 1 at 1280x720, lying or standing
        self._line = max(1, round(2 * unit))
        self._pad = 2 * self._line
        self._font_scale = max(0.35, 0.6 * unit)
        self._font_line = max(1, round(1.5 * unit))

    def draw(self, pixels: Pixels, detections: Detections) -> None:
        """Draw into `pixels`, uint8[H, W, 3] RGB; the best object comes last and lies on top."""
        order = range(len(detections) - 1, -1, -1)
        corners = [self._corners(detections, i) for i in range(len(detections))]
        for i in order:
            left, top, right, bottom = corners[i]
            colour = class_colour(int(detections.classes[i]))
            cv2.rectangle(pixels, (left, top), (right, bottom), colour, self._line)
        texts = [self._text(detections, i) for i in range(len(detections))]
        places = place_labels([self._label_size(text) for text in texts], corners, self._width)
        for i in order:
            self._draw_label(pixels, texts[i], places[i], class_colour(int(detections.classes[i])))

    def _text(self, detections: Detections, i: int) -> str:
        class_id = int(detections.classes[i])
        return f"{self._labels.get(class_id, f'class {class_id}')} {detections.scores[i]:.2f}"

    def _corners(self, detections: Detections, i: int) -> tuple[int, int, int, int]:
        top, left, bottom, right = (float(value) for value in detections.boxes[i].clip(0, 1))
        width, height = self._width - 1, self._height - 1
        return round(left * width), round(top * height), round(right * width), round(bottom * height)

    def _label_size(self, text: str) -> tuple[int, int]:
        (width, height), below = cv2.getTextSize(text, _FONT, self._font_scale, self._font_line)
        return width + 2 * self._pad, height + below + 2 * self._pad

    def _draw_label(
        self, pixels: Pixels, text: str, place: tuple[int, int], colour: tuple[int, int, int]
    ) -> None:
        (left, top), (width, height) = place, self._label_size(text)
        cv2.rectangle(pixels, (left, top), (left + width, top + height), colour, cv2.FILLED)
        ink = (0, 0, 0) if _brightness(colour) > _BRIGHT else (255, 255, 255)
        (_, letter_height), _ = cv2.getTextSize(text, _FONT, self._font_scale, self._font_line)
        origin = (left + self._pad, top + self._pad + letter_height)
        cv2.putText(pixels, text, origin, _FONT, self._font_scale, ink, self._font_line, cv2.LINE_AA)


def place_labels(
    sizes: Sequence[tuple[int, int]], boxes: Sequence[Corners], picture_width: int
) -> list[tuple[int, int]]:
    """Find the upper left corner of each label: above its box, below it, or inside at its upper edge.

    The first of these that leaves the labels before it free is taken; where none does, the first within the picture.

    Args:
        sizes: Width and height of each label in pixels, the most important first.
        boxes: Left, top, right, bottom of the box of each.
    """
    taken: list[Corners] = []
    places = []
    for (width, height), (left, top, _, bottom) in zip(sizes, boxes, strict=True):
        x = max(0, min(left, picture_width - width))
        rows = [top - height, bottom, top] if top >= height else [top, bottom]
        y = next(
            (y for y in rows if not any(_overlap((x, y, x + width, y + height), t) for t in taken)), rows[0]
        )
        taken.append((x, y, x + width, y + height))
        places.append((x, y))
    return places


def _overlap(one: Corners, other: Corners) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def class_colour(class_id: int) -> tuple[int, int, int]:
    """Return the RGB colour of a class: always the same one, and unlike that of its neighbours."""
    red, green, blue = colorsys.hsv_to_rgb((class_id * _GOLDEN_TURN) % 1.0, 0.85, 1.0)
    return round(255 * red), round(255 * green), round(255 * blue)


def _brightness(colour: tuple[int, int, int]) -> float:
    red, green, blue = colour
    return 0.299 * red + 0.587 * green + 0.114 * blue
