"""One operation in place of a loop over images and classes, made of OpenVINO's own while it reads the graph.

OpenVINO's NonMaxSuppression takes images and classes at once and gives all boxes that stay, in the order of their
scores, equal ones in the order of image, class and position: the order in which TensorFlow's sorting leaves them.
Everything after it is a choice of rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from openvino import opset13 as ops

from elastic_inference.engines.openvino.rewrites.builders import element, integer, integers, number
from elastic_inference.engines.openvino.rewrites.multiclass_nms import Clip, Suppression

OPERATION = "ElasticMulticlassNms"
"""Its name in a graph; TensorFlow has none of it."""


def build(suppression: Suppression, given: Mapping[str, Any]) -> list[Any]:
    """Return the outputs for all images.

    Args:
        given: `boxes` float32[B, N, C or 1, 4], `scores` float32[B, N, C], and where there are: `num_valid` int32[B],
            `window` float32[B, 4], `field0` and so on, float32[B, N, ...].

    Returns:
        Boxes float32[B, M, 4], scores and classes float32[B, M], number of boxes int32[B], fields float32[B, M, ...].
    """
    return _Builder(suppression, given).build()


class _Builder:
    def __init__(self, suppression: Suppression, given: Mapping[str, Any]) -> None:
        self._is = suppression
        self._given = given
        self._window = given.get("window")
        shape = ops.shape_of(given["boxes"], "i32")
        self._num_images, self._num_boxes = element(shape, 0), element(shape, 1)

    def build(self) -> list[Any]:
        boxes, scores = self._prepared()
        image, label, position, score = self._suppressed(boxes, scores)
        per_image, columns = integer(self._is.num_classes), self._is.has_boxes_of_classes
        row = ops.add(ops.multiply(image, self._num_boxes), position)
        row_of_class = ops.add(ops.multiply(row, per_image), label) if columns else row
        chosen = ops.gather(ops.reshape(boxes, integers(-1, 4), False), row_of_class, integer(0))
        if self._is.clip is Clip.AFTER:
            windows = ops.gather(self._window, image, integer(0))
            chosen = _clipped(chosen, windows)
            stays = ops.not_equal(_area(chosen), number(0))
            chosen = self._in_frame(chosen, windows)
        else:
            stays = ops.greater_equal(position, integer(0))
        slots, counts = self._places(image, stays)

        def filled(rows: Any, sizes: Sequence[Any]) -> Any:
            """Put a row for each place, 0 where no box came to."""
            padded = ops.concat([rows, ops.broadcast(number(0), ops.concat([integers(1), *sizes], 0))], 0)
            return _of_images(ops.gather(padded, slots, integer(0)), self._num_images, self._is.most, sizes)

        outputs = [
            filled(chosen, [integers(4)]), filled(score, []), filled(ops.convert(label, "f32"), []), counts,
        ]  # fmt: skip
        for index, has_classes in enumerate(self._is.fields):
            field = self._given[f"field{index}"]
            num_leading = 3 if has_classes else 2
            sizes = ops.slice(
                ops.shape_of(field, "i32"),
                integers(num_leading),
                integers(np.iinfo(np.int32).max),
                integers(1),
                integers(0),
            )
            rows = ops.reshape(field, ops.concat([integers(-1), sizes], 0), False)
            outputs.append(
                filled(
                    ops.gather(rows, row_of_class if has_classes and columns else row, integer(0)), [sizes]
                )
            )
        return outputs

    def _prepared(self) -> tuple[Any, Any]:
        """Return boxes as they are suppressed, and scores [B, C, N], the least number where a box takes no part."""
        boxes, scores = self._given["boxes"], ops.transpose(self._given["scores"], integers(0, 2, 1))
        takes_part = []
        if "num_valid" in self._given:
            places = ops.range(integer(0), self._num_boxes, integer(1), "i32")
            valid = ops.less(
                ops.unsqueeze(places, integers(0)), ops.unsqueeze(self._given["num_valid"], integers(1))
            )
            takes_part.append(ops.unsqueeze(valid, integers(1)))
        if self._is.clip is Clip.BEFORE:
            windows = ops.unsqueeze(self._window, integers(1, 2))
            boxes = _clipped(boxes, windows)
            takes_part.append(ops.transpose(ops.greater(_area(boxes), number(0)), integers(0, 2, 1)))
            boxes = self._in_frame(boxes, windows)
        for mask in takes_part:
            scores = ops.select(mask, scores, number(np.finfo(np.float32).min))
        return boxes, scores

    def _suppressed(self, boxes: Any, scores: Any) -> tuple[Any, Any, Any, Any]:
        """Return image, class, position and score of the boxes that stay, one of them an entry."""
        num_classes = self._is.num_classes
        if self._is.has_boxes_of_classes:  # an image of one class each
            by_class = ops.transpose(boxes, integers(0, 2, 1, 3))
            boxes = ops.reshape(
                by_class, ops.concat([integers(-1), _vector(self._num_boxes), integers(4)], 0), False
            )
            scores = ops.reshape(scores, ops.concat([integers(-1, 1), _vector(self._num_boxes)], 0), False)
        else:
            boxes = ops.squeeze(boxes, integers(2))
        # OpenVINO lets a box go whose share is equal to the threshold, too; TensorFlow lets it stay.
        overlap = np.nextafter(np.float32(self._is.overlap_threshold), np.float32(np.inf))
        result = ops.non_max_suppression(
            boxes, scores, integer(self._is.most_of_class), ops.constant(overlap), number(self._is.score_threshold),
            box_encoding="corner", sort_result_descending=True, output_type="i32",
        )  # fmt: skip
        first, second, position = (_column(result.output(0), index) for index in range(3))
        if self._is.has_boxes_of_classes:
            shape = ops.concat([_vector(self._num_images), integers(num_classes)], 0)
            images = ops.range(integer(0), self._num_images, integer(1), "i32")
            labels = ops.constant(np.arange(num_classes, dtype=np.int32))
            flat = [
                ops.reshape(ops.broadcast(table, shape), integers(-1), False)
                for table in (ops.unsqueeze(images, integers(1)), labels)
            ]
            first, second = ops.gather(flat[0], first, integer(0)), ops.gather(flat[1], first, integer(0))
        return first, second, position, _column(result.output(1), 2)

    def _in_frame(self, boxes: Any, windows: Any) -> Any:
        """Return coordinates as parts of the window."""
        if not self._is.changes_frame:
            return boxes
        low = ops.gather(windows, integers(0, 1, 0, 1), integer(-1))
        sizes = ops.subtract(ops.gather(windows, integers(2, 3, 2, 3), integer(-1)), low)
        return ops.multiply(ops.subtract(boxes, low), ops.divide(number(1), sizes))

    def _places(self, image: Any, stays: Any) -> tuple[Any, Any]:
        """Give each box that stays the next place of its image.

        Returns:
            For each place of each image, int32[B * M], which box has it, and the number of boxes where none has; how
            many boxes each image has, int32[B].
        """
        most, num_found = integer(self._is.most), element(ops.shape_of(image, "i32"), 0)
        images = ops.range(integer(0), self._num_images, integer(1), "i32")
        is_of = ops.logical_and(
            ops.equal(ops.unsqueeze(image, integers(1)), ops.unsqueeze(images, integers(0))),
            ops.unsqueeze(stays, integers(1)),
        )
        # A row of zeros comes first, so that nothing is taken together over no rows.
        member = ops.concat(
            [
                ops.broadcast(integer(0), ops.concat([integers(1), _vector(self._num_images)], 0)),
                ops.convert(is_of, "i32"),
            ],
            0,
        )
        counted = ops.cum_sum(member, integer(0))
        counts = ops.minimum(ops.reduce_sum(member, integers(0)), most)
        place = ops.reduce_sum(
            ops.multiply(counted, member), integers(1)
        )  # 1, 2, ... within the image; 0: goes
        place = ops.slice(place, integers(1), integers(np.iinfo(np.int32).max), integers(1), integers(0))
        has_place = ops.logical_and(ops.greater(place, integer(0)), ops.less_equal(place, most))
        num_places = ops.multiply(self._num_images, most)
        target = ops.select(
            has_place, ops.add(ops.multiply(image, most), ops.subtract(place, integer(1))), num_places
        )  # the one after the last takes those that have none
        nobody = ops.broadcast(num_found, _vector(ops.add(num_places, integer(1))))
        order = ops.range(integer(0), num_found, integer(1), "i32")
        taken = ops.scatter_elements_update(nobody, target, order, integer(0))
        return ops.slice(taken, integers(0), integers(-1), integers(1), integers(0)), counts


def _clipped(boxes: Any, windows: Any) -> Any:
    high, low = (
        ops.gather(windows, integers(*columns), integer(-1)) for columns in ((2, 3, 2, 3), (0, 1, 0, 1))
    )
    return ops.maximum(ops.minimum(boxes, high), low)


def _area(boxes: Any) -> Any:
    """Height times width, without the last axis."""
    y_min, x_min, y_max, x_max = (ops.gather(boxes, integer(index), integer(-1)) for index in range(4))
    return ops.multiply(ops.subtract(y_max, y_min), ops.subtract(x_max, x_min))


def _of_images(rows: Any, num_images: Any, most: int, sizes: Sequence[Any]) -> Any:
    return ops.reshape(rows, ops.concat([_vector(num_images), integers(most), *sizes], 0), False)


def _column(matrix: Any, index: int) -> Any:
    return ops.gather(matrix, integer(index), integer(1))


def _vector(scalar: Any) -> Any:
    return ops.unsqueeze(scalar, integers(0))
