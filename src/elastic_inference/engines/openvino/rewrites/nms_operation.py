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

from elastic_inference.engines.openvino.rewrites.multiclass_nms import Clip, Suppression

OPERATION = "ElasticMulticlassNms"
"""Its name in a graph; TensorFlow has none of it."""
ROLES = ("boxes", "scores", "classes", "num_detections")
"""Its first outputs; the fields follow."""


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
        self._num_images, self._num_boxes = _at(shape, 0), _at(shape, 1)

    def build(self) -> list[Any]:
        boxes, scores = self._prepared()
        image, label, position, score = self._suppressed(boxes, scores)
        per_image, columns = _int(self._is.num_classes), self._is.has_boxes_of_classes
        row = ops.add(ops.multiply(image, self._num_boxes), position)
        row_of_class = ops.add(ops.multiply(row, per_image), label) if columns else row
        chosen = ops.gather(ops.reshape(boxes, _ints(-1, 4), False), row_of_class, _int(0))
        if self._is.clip is Clip.AFTER:
            windows = ops.gather(self._window, image, _int(0))
            chosen = _clipped(chosen, windows)
            stays = ops.not_equal(_area(chosen), _float(0))
            chosen = self._in_frame(chosen, windows)
        else:
            stays = ops.greater_equal(position, _int(0))
        slots, counts = self._places(image, stays)

        def filled(rows: Any, sizes: Sequence[Any]) -> Any:
            """Put a row for each place, 0 where no box came to."""
            padded = ops.concat([rows, ops.broadcast(_float(0), ops.concat([_ints(1), *sizes], 0))], 0)
            return _of_images(ops.gather(padded, slots, _int(0)), self._num_images, self._is.most, sizes)

        outputs = [
            filled(chosen, [_ints(4)]), filled(score, []), filled(ops.convert(label, "f32"), []), counts,
        ]  # fmt: skip
        for index, has_classes in enumerate(self._is.fields):
            field = self._given[f"field{index}"]
            num_leading = 3 if has_classes else 2
            sizes = ops.slice(
                ops.shape_of(field, "i32"),
                _ints(num_leading),
                _ints(np.iinfo(np.int32).max),
                _ints(1),
                _ints(0),
            )
            rows = ops.reshape(field, ops.concat([_ints(-1), sizes], 0), False)
            outputs.append(
                filled(ops.gather(rows, row_of_class if has_classes and columns else row, _int(0)), [sizes])
            )
        return outputs

    def _prepared(self) -> tuple[Any, Any]:
        """Return boxes as they are suppressed, and scores [B, C, N], the least number where a box takes no part."""
        boxes, scores = self._given["boxes"], ops.transpose(self._given["scores"], _ints(0, 2, 1))
        takes_part = []
        if "num_valid" in self._given:
            places = ops.range(_int(0), self._num_boxes, _int(1), "i32")
            valid = ops.less(
                ops.unsqueeze(places, _ints(0)), ops.unsqueeze(self._given["num_valid"], _ints(1))
            )
            takes_part.append(ops.unsqueeze(valid, _ints(1)))
        if self._is.clip is Clip.BEFORE:
            windows = ops.unsqueeze(self._window, _ints(1, 2))
            boxes = _clipped(boxes, windows)
            takes_part.append(ops.transpose(ops.greater(_area(boxes), _float(0)), _ints(0, 2, 1)))
            boxes = self._in_frame(boxes, windows)
        for mask in takes_part:
            scores = ops.select(mask, scores, _float(np.finfo(np.float32).min))
        return boxes, scores

    def _suppressed(self, boxes: Any, scores: Any) -> tuple[Any, Any, Any, Any]:
        """Return image, class, position and score of the boxes that stay, one of them an entry."""
        num_classes = self._is.num_classes
        if self._is.has_boxes_of_classes:  # an image of one class each
            by_class = ops.transpose(boxes, _ints(0, 2, 1, 3))
            boxes = ops.reshape(
                by_class, ops.concat([_ints(-1), _vector(self._num_boxes), _ints(4)], 0), False
            )
            scores = ops.reshape(scores, ops.concat([_ints(-1, 1), _vector(self._num_boxes)], 0), False)
        else:
            boxes = ops.squeeze(boxes, _ints(2))
        # OpenVINO lets a box go whose share is equal to the threshold, too; TensorFlow lets it stay.
        overlap = np.nextafter(np.float32(self._is.overlap_threshold), np.float32(np.inf))
        result = ops.non_max_suppression(
            boxes, scores, _int(self._is.most_of_class), ops.constant(overlap), _float(self._is.score_threshold),
            box_encoding="corner", sort_result_descending=True, output_type="i32",
        )  # fmt: skip
        first, second, position = (_column(result.output(0), index) for index in range(3))
        if self._is.has_boxes_of_classes:
            shape = ops.concat([_vector(self._num_images), _ints(num_classes)], 0)
            images = ops.range(_int(0), self._num_images, _int(1), "i32")
            labels = ops.constant(np.arange(num_classes, dtype=np.int32))
            flat = [
                ops.reshape(ops.broadcast(table, shape), _ints(-1), False)
                for table in (ops.unsqueeze(images, _ints(1)), labels)
            ]
            first, second = ops.gather(flat[0], first, _int(0)), ops.gather(flat[1], first, _int(0))
        return first, second, position, _column(result.output(1), 2)

    def _in_frame(self, boxes: Any, windows: Any) -> Any:
        """Return coordinates as parts of the window."""
        if not self._is.changes_frame:
            return boxes
        low = ops.gather(windows, _ints(0, 1, 0, 1), _int(-1))
        sizes = ops.subtract(ops.gather(windows, _ints(2, 3, 2, 3), _int(-1)), low)
        return ops.multiply(ops.subtract(boxes, low), ops.divide(_float(1), sizes))

    def _places(self, image: Any, stays: Any) -> tuple[Any, Any]:
        """Give each box that stays the next place of its image.

        Returns:
            For each place of each image, int32[B * M], which box has it, and the number of boxes where none has; how
            many boxes each image has, int32[B].
        """
        most, num_found = _int(self._is.most), _at(ops.shape_of(image, "i32"), 0)
        images = ops.range(_int(0), self._num_images, _int(1), "i32")
        is_of = ops.logical_and(
            ops.equal(ops.unsqueeze(image, _ints(1)), ops.unsqueeze(images, _ints(0))),
            ops.unsqueeze(stays, _ints(1)),
        )
        # A row of zeros comes first, so that nothing is taken together over no rows.
        member = ops.concat(
            [
                ops.broadcast(_int(0), ops.concat([_ints(1), _vector(self._num_images)], 0)),
                ops.convert(is_of, "i32"),
            ],
            0,
        )
        counted = ops.cum_sum(member, _int(0))
        counts = ops.minimum(ops.reduce_sum(member, _ints(0)), most)
        place = ops.reduce_sum(ops.multiply(counted, member), _ints(1))  # 1, 2, ... within the image; 0: goes
        place = ops.slice(place, _ints(1), _ints(np.iinfo(np.int32).max), _ints(1), _ints(0))
        has_place = ops.logical_and(ops.greater(place, _int(0)), ops.less_equal(place, most))
        num_places = ops.multiply(self._num_images, most)
        target = ops.select(
            has_place, ops.add(ops.multiply(image, most), ops.subtract(place, _int(1))), num_places
        )  # the one after the last takes those that have none
        nobody = ops.broadcast(num_found, _vector(ops.add(num_places, _int(1))))
        order = ops.range(_int(0), num_found, _int(1), "i32")
        taken = ops.scatter_elements_update(nobody, target, order, _int(0))
        return ops.slice(taken, _ints(0), _ints(-1), _ints(1), _ints(0)), counts


def _clipped(boxes: Any, windows: Any) -> Any:
    high, low = (ops.gather(windows, _ints(*columns), _int(-1)) for columns in ((2, 3, 2, 3), (0, 1, 0, 1)))
    return ops.maximum(ops.minimum(boxes, high), low)


def _area(boxes: Any) -> Any:
    """Height times width, without the last axis."""
    y_min, x_min, y_max, x_max = (ops.gather(boxes, _int(index), _int(-1)) for index in range(4))
    return ops.multiply(ops.subtract(y_max, y_min), ops.subtract(x_max, x_min))


def _of_images(rows: Any, num_images: Any, most: int, sizes: Sequence[Any]) -> Any:
    return ops.reshape(rows, ops.concat([_vector(num_images), _ints(most), *sizes], 0), False)


def _column(matrix: Any, index: int) -> Any:
    return ops.gather(matrix, _int(index), _int(1))


def _at(vector: Any, index: int) -> Any:
    return ops.gather(vector, _int(index), _int(0))


def _vector(scalar: Any) -> Any:
    return ops.unsqueeze(scalar, _ints(0))


def _int(value: int) -> Any:
    return ops.constant(np.int32(value))


def _ints(*values: int) -> Any:
    return ops.constant(np.array(values, np.int32))


def _float(value: float) -> Any:
    return ops.constant(np.float32(value))
