"""TensorFlow's CombinedNonMaxSuppression, which OpenVINO does not read, made of its operations.

It is the loop of `multiclass_nms` as one operation of TensorFlow's. Among equal scores TensorFlow takes whatever its
heap and its sort leave first; here the lower class and position come first.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from openvino import opset13 as ops

from elastic_inference.engines.openvino.rewrites import nms_operation
from elastic_inference.engines.openvino.rewrites.multiclass_nms import Clip, Suppression
from elastic_inference.errors import UnsupportedModel

OPERATION = "CombinedNonMaxSuppression"
_LIMITS = ("max_output_size_per_class", "max_total_size", "iou_threshold", "score_threshold")


def build(node: Any) -> list[Any]:
    """Return the outputs of a node (NodeContext of the front end): boxes, scores, classes, numbers of valid boxes."""
    boxes, scores = node.get_input(0), node.get_input(1)
    num_kinds = _size(boxes, 2)
    num_classes = (
        num_kinds if num_kinds > 1 else 0
    )  # which is asked for only where classes have boxes of their own
    limits = dict(zip(_LIMITS, (_constant(node, index) for index in range(2, 6)), strict=True))
    if node.get_attribute("pad_per_class"):
        raise UnsupportedModel(f"OpenVINO is not taught {OPERATION} that is padded for each class")
    suppression = Suppression(
        num_classes=num_classes, has_boxes_of_classes=num_kinds > 1, score_threshold=limits["score_threshold"],
        overlap_threshold=limits["iou_threshold"], most_of_class=int(limits["max_output_size_per_class"]),
        clip=Clip.NEVER, changes_frame=False, most=int(limits["max_total_size"]),
    )  # fmt: skip
    found, *others = nms_operation.build(suppression, {"boxes": boxes, "scores": scores})
    if node.get_attribute("clip_boxes"):
        found = ops.clamp(found, 0.0, 1.0)
    return [found, *others]


def _size(output: Any, axis: int) -> int:
    shape = output.get_partial_shape()
    if shape.rank.is_dynamic or shape[axis].is_dynamic:
        raise UnsupportedModel(f"OpenVINO is not taught {OPERATION} of an open number of boxes")
    return int(shape[axis].get_length())


def _constant(node: Any, index: int) -> float:
    source = node.get_input(index).get_node()
    if source.get_type_name() != "Constant":
        raise UnsupportedModel(f"OpenVINO is not taught {OPERATION} with computed limits")
    return float(np.asarray(source.data).reshape(()))
