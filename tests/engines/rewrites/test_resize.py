"""Loops that resize one image after the other: one operation for the batch, or left as they are."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from elastic_inference.engines.openvino import compile as openvino_compile
from elastic_inference.engines.openvino.arithmetic import examine
from elastic_inference.engines.openvino.rewrites import map_certificate, resize_operation
from elastic_inference.engines.openvino.rewrites.batched_map import Lifted, lift
from elastic_inference.engines.openvino.rewrites.graph import Graph
from elastic_inference.engines.openvino.rewrites.maps import NoMatch, find_maps
from elastic_inference.limits.processor import processor
from elastic_inference.models.graph_pb2 import GraphDef
from tests.engines.rewrites import loops

pytest.importorskip("openvino")
pytest.importorskip("tensorflow")

HAS_BFLOAT16 = "bf16" in processor()
SHAPES = ((1, 60, 90, 3), (3, 90, 60, 3), (2, 75, 75, 3), (1, 301, 17, 3))


def _graph(of_image: Callable[[Any, Any], Any], dtype: str = "uint8", *, is_cast: bool = True) -> GraphDef:
    """Return a graph that maps a function over images; its outputs are `out_0`, `out_1`."""
    import tensorflow.compat.v1 as tf

    with tf.Graph().as_default() as graph:
        images = tf.placeholder(dtype, [None, None, None, 3], "images")
        given = tf.cast(images, tf.float32) if is_cast else images
        was_v2 = tf.control_flow_v2_enabled()
        tf.disable_control_flow_v2()
        try:
            probe = of_image(tf, given[0])
            dtypes = tuple(value.dtype for value in probe)
            results = tf.map_fn(lambda image: of_image(tf, image), given, dtype=dtypes)
        finally:
            if was_v2:
                tf.enable_control_flow_v2()
        for index, value in enumerate(results):
            tf.identity(value, f"out_{index}")
        whole = graph.as_graph_def()
        wanted = [f"out_{index}" for index in range(len(results))]
        kept = tf.graph_util.extract_sub_graph(whole, wanted)
    return GraphDef.FromString(kept.SerializeToString())


def _fixed(tf: Any, image: Any) -> Any:
    resized = tf.squeeze(tf.raw_ops.ResizeBilinear(images=tf.expand_dims(image, 0), size=[30, 40]), [0])
    return resized, tf.constant([30, 40, 3])


def _half_pixels(tf: Any, image: Any) -> Any:
    images = tf.expand_dims(image, 0)
    return (
        tf.squeeze(tf.raw_ops.ResizeBilinear(images=images, size=[100, 33], half_pixel_centers=True), [0]),
    )


def _within_range(tf: Any, image: Any) -> Any:
    """The longer side becomes at most 80, the shorter 50; which is which decides a branch."""

    def to(target: list[int]) -> Any:
        sizes = tf.unstack(tf.shape(tf.expand_dims(image, 0)))
        scale = tf.minimum(
            *(
                tf.cast(t, tf.float32) / tf.cast(s, tf.float32)
                for t, s in zip(target, sizes[1:3], strict=True)
            )
        )
        wanted = [tf.cast(tf.round(scale * tf.cast(s, tf.float32)), tf.int32) for s in sizes[1:3]]
        images = tf.expand_dims(image, 0)
        return tf.squeeze(tf.raw_ops.ResizeBilinear(images=images, size=tf.stack(wanted)), [0])

    shape = tf.shape(image)
    resized = tf.cond(tf.less(shape[0], shape[1]), lambda: to([50, 80]), lambda: to([80, 50]))
    return resized, tf.shape(resized)


@pytest.mark.parametrize("of_image", [_fixed, _half_pixels, _within_range])
@pytest.mark.parametrize(("dtype", "is_cast"), [("uint8", True), ("float32", False)])
def test_batch_is_resized_as_tensorflow_resizes_each_image(of_image: Any, dtype: str, is_cast: bool) -> None:
    graph_def = _graph(of_image, dtype, is_cast=is_cast)
    changed, notes = loops.rewritten(graph_def)
    assert ["runs as one operation" in note for note in notes] == [True]
    assert not {node.op for node in changed.node} & {"Enter", "TensorArrayV3", "ResizeBilinear"}
    ours, theirs = loops.on_openvino(changed), loops.on_tensorflow(graph_def)
    for shape in SHAPES:
        feeds = {"images": np.random.default_rng(0).integers(0, 256, shape).astype(dtype)}
        found = ours(feeds)
        for output, value in theirs(feeds).items():
            assert (found[output].dtype, found[output].shape) == (value.dtype, value.shape)
            # A position in a picture of 301 rows has 24 bits, and the pixels beside it differ by up to 255.
            np.testing.assert_allclose(found[output], value, atol=301 * 2.0**-23 * 255)


def _less_its_mean(tf: Any, image: Any) -> Any:
    return (_fixed(tf, image)[0] - tf.reduce_mean(image),)


def _by_its_brightness(tf: Any, image: Any) -> Any:
    side = tf.cast(image[0, 0, 0], tf.int32) * 0 + 30
    images = tf.expand_dims(image, 0)
    return (tf.squeeze(tf.raw_ops.ResizeBilinear(images=images, size=tf.stack([side, side])), [0]),)


def _with_corners(tf: Any, image: Any) -> Any:
    images = tf.expand_dims(image, 0)
    return (tf.squeeze(tf.raw_ops.ResizeBilinear(images=images, size=[30, 40], align_corners=True), [0]),)


def _only_sizes(tf: Any, image: Any) -> Any:
    return (_fixed(tf, image)[0], tf.cast(tf.shape(image), tf.float32))


@pytest.mark.parametrize("of_image", [_less_its_mean, _by_its_brightness, _with_corners, _only_sizes])
def test_loop_without_a_rule_for_all_of_it_is_left(of_image: Any) -> None:
    graph_def = _graph(of_image)
    changed, notes = loops.rewritten(graph_def)
    assert changed == graph_def
    assert ["was left as it is" in note for note in notes] == [True]


def test_loop_that_hands_something_on_is_no_map() -> None:
    import tensorflow.compat.v1 as tf

    with tf.Graph().as_default() as graph:
        images = tf.placeholder(tf.float32, [None, None, None, 3], "images")
        tf.disable_control_flow_v2()
        before = tf.zeros([30, 40, 3])
        summed = tf.scan(lambda sum_, image: sum_ + _fixed(tf, image)[0], images, initializer=before)
        tf.identity(summed, "out_0")
        tf.enable_control_flow_v2()
        graph_def = GraphDef.FromString(graph.as_graph_def().SerializeToString())
    assert loops.rewritten(graph_def) == (graph_def, ())


@pytest.mark.parametrize("of_image", [_fixed, _half_pixels])
def test_positions_in_integers_are_those_of_tensorflow(of_image: Any) -> None:
    """What bfloat16 gets, computed in float32 here: nothing is left to round but the positions of TensorFlow."""
    graph_def = _graph(of_image)
    changed, notes = loops.rewritten(graph_def, in_bfloat16=True)
    assert ["runs as one operation" in note for note in notes] == [True]
    ours, theirs = loops.on_openvino(changed), loops.on_tensorflow(graph_def)
    for shape in (*SHAPES, (1, 40, 3001, 3), (1, 2160, 20, 3)):
        feeds = {"images": np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)}
        for output, value in theirs(feeds).items():
            np.testing.assert_allclose(ours(feeds)[output], value, atol=max(shape) * 2.0**-22 * 255)


@pytest.mark.parametrize("of_image", [_fixed, _half_pixels])
def test_positions_in_integers_are_no_reason_to_refuse_the_model(of_image: Any, tmp_path: Path) -> None:
    changed, _ = loops.rewritten(_graph(of_image), in_bfloat16=True)
    path = tmp_path / "graph.pb"
    path.write_bytes(changed.SerializeToString())
    assert examine(openvino_compile.core().read_model(path)).differences == []


def test_sizes_that_the_loop_computes_are_left_in_float32() -> None:
    graph_def = _graph(_within_range)
    changed, notes = loops.rewritten(graph_def, in_bfloat16=True)
    assert changed == graph_def
    assert ["which bfloat16 would round" in note for note in notes] == [True]


def _lifted(of_image: Any) -> tuple[Graph, Any, Lifted]:
    graph = Graph(_graph(of_image))
    (loop,) = find_maps(graph)
    lifted = lift(graph, loop, set(graph.nodes))
    assert lifted is not None
    return graph, loop, lifted


def test_certificate_refuses_another_resize() -> None:
    graph, loop, lifted = _lifted(_fixed)
    (resize,) = (node for node in lifted.nodes if node.op == resize_operation.OPERATION)
    assert map_certificate.certify(openvino_compile.core(), graph, loop, lifted)[1] < 1e-3
    resize.attr["half_pixel_centers"].b = True
    with pytest.raises(NoMatch, match=r"results differ by .* of the greatest number on a picture of 37 x 53"):
        map_certificate.certify(openvino_compile.core(), graph, loop, lifted)


@pytest.mark.skipif(not HAS_BFLOAT16, reason="the processor computes no bfloat16")
def test_certificate_refuses_positions_that_bfloat16_rounds() -> None:
    graph, loop, lifted = _lifted(_half_pixels)
    with pytest.raises(NoMatch, match="results differ by"):
        map_certificate.certify(openvino_compile.core(), graph, loop, lifted, in_bfloat16=True)
