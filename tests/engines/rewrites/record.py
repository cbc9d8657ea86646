"""Record the loops that releases of TensorFlow's Object Detection API write, for `test_variants`.

    pip install --no-deps --target API/RELEASE PACKAGE   # the packages stand in RELEASES
    python -m tests.engines.rewrites.record API tests/engines/data/post_processing

Only the graphs that come out are kept here. The API itself wants packages of its time, so it is no dependency.
"""

from __future__ import annotations

import gzip
import inspect
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

RELEASES = {
    "2018": "object-detection==0.0.3",
    "2019": "object-detection-core==0.1",
    "2022": "tf-models-research-object-detection==2.8.0.post1",
}
"""Year -> package on PyPI that holds the API of that time; 2.5.0 of 2021 writes the same loops as 2.8.0."""

FILTERING = "2017"
"""The loop as graphs of 2017 and early 2018 have it (no package holds its code): see `_filtering`."""
_WINDOWS = {"clip_window": [[0.05, 0.0, 0.95, 1.0], [0.0, 0.1, 1.0, 0.9]]}
VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {"classes": 3, "own_boxes": False, "score_thresh": 0.3},
    "one_class": {"classes": 1, "own_boxes": False, "score_thresh": 0.0, "max_total_size": 6, **_WINDOWS},
    "frame": {
        "classes": 3, "own_boxes": True, "score_thresh": 1e-8, "change_coordinate_frame": True, "num_valid": True,
        **_WINDOWS,
    },
    "masks": {"classes": 3, "own_boxes": True, "score_thresh": 0.2, "masks": True, "fields": True, **_WINDOWS},
    "shared_masks": {"classes": 2, "own_boxes": False, "score_thresh": 0.2, "masks": True, "max_size_per_class": 40},
    "soft": {"classes": 2, "own_boxes": False, "score_thresh": 0.2, "soft_nms_sigma": 0.5},
    "agnostic": {"classes": 3, "own_boxes": False, "score_thresh": 0.2, "use_class_agnostic_nms": True},
    "static": {"classes": 2, "own_boxes": False, "score_thresh": 0.2, "use_static_shapes": True},
}  # fmt: skip


def main() -> None:
    """Record all variants of all releases, each release in a process of its own."""
    api, folder = Path(sys.argv[1]), Path(sys.argv[2])
    if len(sys.argv) > 3:
        _record(api / sys.argv[3], sys.argv[3], folder)
        return
    folder.mkdir(parents=True, exist_ok=True)
    for release in (FILTERING, *RELEASES):
        command = [
            sys.executable,
            "-m",
            "tests.engines.rewrites.record",
            str(api),
            str(folder),
            release,
        ]
        subprocess.run(command, check=True, timeout=3600)


def _record(path: Path, release: str, folder: Path) -> None:
    import tensorflow.compat.v1 as tf

    tf.disable_v2_behavior()
    contrib = types.SimpleNamespace(
        image=None, slim=types.SimpleNamespace(tfexample_decoder=None), framework=None, tpu=None
    )
    for module in (tf, sys.modules["tensorflow"]):
        module.contrib = contrib  # what releases before TensorFlow 2 import, and these functions do not use
    sys.modules["tf_slim"] = types.ModuleType("tf_slim")
    sys.modules["tensorflow"] = tf
    function = _filtering
    if release != FILTERING:
        sys.path.insert(0, str(path))
        from object_detection.core import post_processing

        function = post_processing.batch_multiclass_non_max_suppression
    for name, variant in VARIANTS.items():
        wanted = set(variant) - {"classes", "own_boxes", "num_valid", "fields"}
        if not wanted <= inspect.signature(function).parameters.keys():
            print(release, name, "this release has no such options", sorted(wanted))
            continue
        graph_def = _graph(tf, function, dict(variant))
        data = gzip.compress(graph_def.SerializeToString(deterministic=True), mtime=0)
        (folder / f"{release}_{name}.pb.gz").write_bytes(data)
        print(release, name, len(graph_def.node), "nodes", len(data), "bytes")


def _graph(tf: Any, function: Any, variant: dict[str, Any]) -> Any:
    """Return the graph; its inputs are placeholders called as the function's arguments, its outputs `out_*`."""
    classes, own = variant.pop("classes"), variant.pop("own_boxes")
    num_kinds = classes if own else 1
    given: dict[str, Any] = {"iou_thresh": 0.6, "max_size_per_class": 5, "max_total_size": 12}
    with tf.Graph().as_default() as graph:
        given["boxes"] = tf.placeholder(tf.float32, [None, None, num_kinds, 4], "boxes")
        given["scores"] = tf.placeholder(tf.float32, [None, None, classes], "scores")
        if variant.pop("num_valid", False):
            given["num_valid_boxes"] = tf.placeholder(tf.int32, [None], "num_valid_boxes")
        if variant.pop("masks", False):
            given["masks"] = tf.placeholder(tf.float32, [None, None, num_kinds, 3, 2], "masks")
        if variant.pop("fields", False):
            field = tf.placeholder(tf.float32, [None, None, 5], "field")
            given["additional_fields"] = {"field": field}
        if variant.pop("clip_window", None):
            given["clip_window"] = tf.placeholder(tf.float32, [None, 4], "clip_window")
        boxes, scores, labels, masks, fields, counts = function(**{**given, **variant})
        outputs = {"boxes": boxes, "scores": scores, "classes": labels, "masks": masks, "counts": counts}
        outputs |= {"field": (fields or {}).get("field")}
        for name, tensor in outputs.items():
            if tensor is not None:
                tf.identity(tensor, f"out_{name}")
        return graph.as_graph_def()


def _filtering(
    boxes: Any,
    scores: Any,
    score_thresh: float,
    iou_thresh: float,
    max_size_per_class: int,
    max_total_size: int,
    clip_window: Any = None,
    change_coordinate_frame: bool = False,
    num_valid_boxes: Any = None,
) -> tuple[Any, ...]:
    """Choose rows by score, cut them to the window, drop those without extent, and only then suppress."""
    import tensorflow.compat.v1 as tf

    num_classes, num_kinds = int(scores.shape[2]), int(boxes.shape[2])
    if num_valid_boxes is None:
        num_valid_boxes = tf.fill([tf.shape(boxes)[0]], tf.shape(boxes)[1])
    has_window = clip_window is not None
    windows = clip_window if has_window else tf.tile([[0.0, 0.0, 1.0, 1.0]], [tf.shape(boxes)[0], 1])

    def of_class(label: int, boxes: Any, scores: Any, window: Any) -> tuple[Any, Any, Any]:
        own = boxes[label if num_kinds > 1 else 0]
        score = tf.reshape(tf.slice(scores, [0, label], [tf.shape(scores)[0], 1]), [-1])
        rows = tf.cast(tf.reshape(tf.where(tf.greater(score, score_thresh)), [-1]), tf.int32)
        own, score = tf.gather(own, rows), tf.gather(score, rows)
        if has_window:
            low_y, low_x, high_y, high_x = tf.unstack(window)
            y_min, x_min, y_max, x_max = tf.split(own, 4, axis=1)
            y_min, y_max = (tf.maximum(tf.minimum(y, high_y), low_y) for y in (y_min, y_max))
            x_min, x_max = (tf.maximum(tf.minimum(x, high_x), low_x) for x in (x_min, x_max))
            area = tf.squeeze((y_max - y_min) * (x_max - x_min), [1])
            rows = tf.cast(tf.reshape(tf.where(tf.greater(area, 0.0)), [-1]), tf.int32)
            own = tf.gather(tf.concat([y_min, x_min, y_max, x_max], 1), rows)
            score = tf.gather(score, rows)
            if change_coordinate_frame:
                own = tf.subtract(own, tf.stack([low_y, low_x, low_y, low_x]))
                y_scale, x_scale = 1.0 / (high_y - low_y), 1.0 / (high_x - low_x)
                y_min, x_min, y_max, x_max = tf.split(own, 4, axis=1)
                own = tf.concat([y_scale * y_min, x_scale * x_min, y_scale * y_max, x_scale * x_max], 1)
        most = tf.minimum(max_size_per_class, tf.shape(own)[0])
        kept = tf.raw_ops.NonMaxSuppressionV2(
            boxes=own, scores=score, max_output_size=most, iou_threshold=iou_thresh
        )
        score = tf.gather(score, kept)
        return tf.gather(own, kept), score, tf.zeros_like(score) + float(label)

    def of_image(values: Any) -> Any:
        boxes, scores, window, count = values
        boxes = tf.reshape(tf.slice(boxes, [0, 0, 0], tf.stack([count, -1, -1])), [-1, num_kinds, 4])
        scores = tf.reshape(tf.slice(scores, [0, 0], tf.stack([count, -1])), [-1, num_classes])
        by_class = tf.unstack(boxes, axis=1)
        parts = [of_class(label, by_class, scores, window) for label in range(num_classes)]
        boxes, scores, labels = (tf.concat(part, 0) for part in zip(*parts, strict=True))
        order = tf.nn.top_k(scores, tf.size(scores)).indices[: tf.minimum(max_total_size, tf.size(scores))]
        count = tf.shape(order)[0]
        missing = max_total_size - count
        boxes = tf.pad(tf.gather(boxes, order), [[0, missing], [0, 0]])
        scores, labels = (tf.pad(tf.gather(value, order), [[0, missing]]) for value in (scores, labels))
        return boxes, scores, labels, count

    dtypes = (tf.float32, tf.float32, tf.float32, tf.int32)
    found = tf.map_fn(of_image, (boxes, scores, windows, num_valid_boxes), dtype=dtypes)
    return *found[:3], None, None, found[3]


if __name__ == "__main__":
    main()
