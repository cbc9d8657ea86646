"""TensorFlow's CombinedNonMaxSuppression on OpenVINO, which reads none of its own."""

from __future__ import annotations

import numpy as np
import pytest

from elastic_inference.models.graph_pb2 import GraphDef
from tests.engines.rewrites import loops

pytest.importorskip("openvino")
pytest.importorskip("tensorflow")


@pytest.mark.parametrize("num_kinds", [1, 4])
@pytest.mark.parametrize("clip_boxes", [True, False])
def test_same_as_tensorflow(num_kinds: int, clip_boxes: bool) -> None:
    graph_def = _graph(num_kinds, clip_boxes)
    ours, theirs = loops.on_openvino(graph_def), loops.on_tensorflow(graph_def)
    for num_images, num_boxes, kind in ((1, 50, ""), (3, 50, "crowd"), (2, 2, ""), (2, 9, "nothing")):
        feeds = loops.detections(graph_def, num_images, num_boxes, 1, kind=kind)
        feeds["boxes"] += np.float32(0.3)  # some beyond the picture
        found = ours(feeds)
        for output, value in theirs(feeds).items():
            assert found[output].dtype == value.dtype
            np.testing.assert_allclose(found[output], value, rtol=1e-6, atol=1e-7, err_msg=output)


def _graph(num_kinds: int, clip_boxes: bool) -> GraphDef:
    import tensorflow.compat.v1 as tf

    with tf.Graph().as_default() as graph:
        boxes = tf.placeholder(tf.float32, [None, None, num_kinds, 4], "boxes")
        scores = tf.placeholder(tf.float32, [None, None, 4], "scores")
        results = tf.image.combined_non_max_suppression(boxes, scores, 5, 12, 0.5, 0.3, clip_boxes=clip_boxes)
        for index, value in enumerate(results):
            tf.identity(value, f"out_{index}")
        return GraphDef.FromString(graph.as_graph_def().SerializeToString())
