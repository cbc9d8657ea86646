"""Drawing: boxes where they belong, labels on the picture and clear of each other, at every size."""

from __future__ import annotations

import numpy as np
import pytest

from elastic_inference.video.detections import Detections
from elastic_inference.video.draw import Painter, class_colour, place_labels

LABELS = {1: "person", 3: "car"}


def _one(box: tuple[float, float, float, float], class_id: int = 3) -> Detections:
    return Detections(np.array([box], np.float32), np.array([0.9], np.float32), np.array([class_id]))


@pytest.mark.parametrize(
    ("width", "height"), [(320, 240), (1280, 720), (1920, 1080), (1080, 1920), (3840, 2160)]
)
def test_a_box_is_drawn_on_its_edges_and_leaves_the_inside(width: int, height: int) -> None:
    pixels = np.zeros((height, width, 3), np.uint8)
    Painter(width, height, LABELS).draw(pixels, _one((0.25, 0.25, 0.75, 0.75)))
    colour = class_colour(3)
    middle_row = pixels[height // 2]
    assert tuple(middle_row[round(0.25 * (width - 1))]) == colour
    assert tuple(middle_row[round(0.75 * (width - 1))]) == colour
    assert not middle_row[width // 2].any()
    assert not pixels[-1].any()


def test_labels_grow_with_the_picture() -> None:
    heights = []
    for scale in (1, 2, 3):
        pixels = np.zeros((720 * scale, 1280 * scale, 3), np.uint8)
        Painter(1280 * scale, 720 * scale, LABELS).draw(pixels, _one((0.5, 0.5, 0.6, 0.6)))
        rows = np.flatnonzero(pixels.any(axis=(1, 2)))
        heights.append(pixels.shape[0] // 2 - rows[0])
    assert heights[0] >= 14
    assert heights[1] == pytest.approx(2 * heights[0], rel=0.25)
    assert heights[2] == pytest.approx(3 * heights[0], rel=0.25)


@pytest.mark.parametrize(
    "box", [(0.0, 0.0, 1.0, 1.0), (-0.5, -0.5, 2.0, 2.0), (0.9, 0.95, 1.0, 1.0), (0.0, 0.99, 0.01, 1.0)]
)
def test_boxes_at_and_beyond_the_edges_keep_their_label_on_the_picture(
    box: tuple[float, float, float, float],
) -> None:
    pixels = np.zeros((720, 1280, 3), np.uint8)
    Painter(1280, 720, LABELS).draw(pixels, _one(box, class_id=1))
    colour = np.array(class_colour(1), np.uint8)
    assert (pixels == colour).all(axis=2).sum() > 1000  # a label's ground, more than the lines of a small box
    assert np.isin(pixels.max(axis=2), (0,), invert=True).sum() > 1000


def test_an_unknown_class_and_no_object_are_drawn_without_complaint() -> None:
    pixels = np.zeros((240, 320, 3), np.uint8)
    painter = Painter(320, 240, LABELS)
    painter.draw(pixels, _one((0.2, 0.2, 0.8, 0.8)).above(0.95))
    assert not pixels.any()
    painter.draw(pixels, _one((0.2, 0.2, 0.8, 0.8), class_id=77))
    assert pixels.any()


def test_a_label_goes_above_then_below_then_inside() -> None:
    size, box = (100, 20), (50, 200, 300, 400)
    assert place_labels([size], [box], 1280) == [(50, 180)]
    assert place_labels([size] * 3, [box] * 3, 1280) == [(50, 180), (50, 400), (50, 200)]
    assert place_labels([size] * 4, [box] * 4, 1280)[3] == (50, 180)
    assert place_labels([size], [(50, 5, 300, 400)], 1280) == [(50, 5)]
    assert place_labels([size], [(1250, 200, 1280, 400)], 1280) == [(1180, 180)]


def test_neighbouring_classes_have_colours_far_apart() -> None:
    for class_id in range(1, 90):
        one, other = np.array(class_colour(class_id)), np.array(class_colour(class_id + 1))
        assert np.abs(one - other).max() > 100
