"""The recorded loops, run by OpenVINO after they were rewritten and by TensorFlow as they are."""

from __future__ import annotations

import gzip
import tempfile
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from elastic_inference.engines.openvino import compile as openvino_compile
from elastic_inference.engines.openvino.rewrites.driver import rewrite
from elastic_inference.models.graph_pb2 import GraphDef

FOLDER = Path(__file__).parent.parent / "data" / "post_processing"
Arrays = dict[str, npt.NDArray[Any]]


def names() -> list[str]:
    """Return the names of the recorded loops: the year of the release, and the variant."""
    return sorted(path.name.removesuffix(".pb.gz") for path in FOLDER.glob("*.pb.gz"))


@cache
def _recorded(name: str) -> bytes:
    return gzip.decompress((FOLDER / f"{name}.pb.gz").read_bytes())


def recorded(name: str) -> GraphDef:
    """Read a recorded loop."""
    return GraphDef.FromString(_recorded(name))


def fetches(graph_def: GraphDef) -> list[str]:
    """Return the tensors that a recorded loop gives."""
    return [f"{node.name}:0" for node in graph_def.node if node.name.startswith("out_")]


def rewritten(graph_def: GraphDef, *, in_bfloat16: bool = False) -> tuple[GraphDef, tuple[str, ...]]:
    """Rewrite a copy; returns it and what was said."""
    copy = GraphDef.FromString(graph_def.SerializeToString())
    notes = rewrite(openvino_compile.core(), copy, fetches(copy), in_bfloat16=in_bfloat16)
    return copy, notes


def on_openvino(graph_def: GraphDef) -> Any:
    """Return a function that computes a graph on OpenVINO, in float32."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "graph.pb"
        path.write_bytes(graph_def.SerializeToString())
        model = openvino_compile.core().read_model(path)
    compiled = openvino_compile.core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    inputs = [next(name for name in port.get_names()) for port in compiled.inputs]

    def run(feeds: Mapping[str, Any]) -> Arrays:
        answers = compiled([feeds[name.partition(":")[0]] for name in inputs])
        ports = {name: port for port in compiled.outputs for name in port.get_names()}
        return {name: answers[ports[name]] for name in fetches(graph_def)}

    return run


def on_tensorflow(graph_def: GraphDef) -> Any:
    """Return a function that computes a graph on TensorFlow."""
    import tensorflow.compat.v1 as tf

    graph = tf.Graph()
    with graph.as_default():
        tf.import_graph_def(tf.GraphDef.FromString(graph_def.SerializeToString()), name="")
    wanted = fetches(graph_def)

    def run(feeds: Mapping[str, Any]) -> Arrays:
        with tf.Session(graph=graph) as session:
            given = {f"{name}:0": value for name, value in feeds.items() if name in graph_names}
            return dict(zip(wanted, session.run(wanted, given), strict=True))

    graph_names = {node.name for node in graph_def.node}
    return run


def detections(graph_def: GraphDef, num_images: int, num_boxes: int, seed: int, *, kind: str = "") -> Arrays:
    """Make up what a detector hands to its loop.

    Args:
        kind: "" for boxes around a few objects, "ties" for few different scores and boxes, "nothing" for scores of 0,
            "crowd" for many boxes of one object.
    """
    random = np.random.default_rng([seed, num_images, num_boxes])
    sizes = {
        node.name: [d.size for d in node.attr["shape"].shape.dim]
        for node in graph_def.node
        if node.op == "Placeholder"
    }
    feeds: Arrays = {}
    for name, shape in sizes.items():
        full = [num_images, num_boxes, *shape[2:]] if name not in ("clip_window", "num_valid_boxes") else []
        feeds[name] = random.random(full, np.float32)
    spread = 0.02 if kind == "crowd" else 1.0
    centers = 0.5 + spread * (random.integers(0, 5, (*feeds["boxes"].shape[:3], 2)) / 5 - 0.5)
    centers += 0.0 if kind == "ties" else 0.03 * random.standard_normal(centers.shape)
    extents = 0.1 + (0.0 if kind == "ties" else 0.02 * random.standard_normal(centers.shape))
    feeds["boxes"] = np.concatenate([centers - extents, centers + extents], -1).astype(np.float32)
    if kind == "ties":
        feeds["scores"] = np.round(feeds["scores"] * 4).astype(np.float32) / 4
    if kind == "nothing":
        feeds["scores"] = np.zeros_like(feeds["scores"])
    if "clip_window" in feeds:
        window = np.array([[0.1, 0.05, 0.9, 0.8], [0.0, 0.0, 1.0, 1.0], [0.4, 0.4, 0.41, 0.6]], np.float32)
        feeds["clip_window"] = window[np.arange(num_images) % 3]
    if "num_valid_boxes" in feeds:
        feeds["num_valid_boxes"] = random.integers(1, num_boxes + 1, num_images).astype(np.int32)
    return feeds
