"""Whether a loop over images and what takes its place compute the same, found out on pictures before it does.

The loop's own operations are evaluated picture by picture (`evaluation`); what takes its place is run by the engine,
in a graph that holds nothing else. For bfloat16 it holds a convolution too, which changes nothing: the engine computes
in bfloat16 only what comes before one.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import openvino as ov

from elastic_inference.engines.openvino.rewrites.batched_map import Lifted
from elastic_inference.engines.openvino.rewrites.evaluation import Evaluation, NotEvaluated
from elastic_inference.engines.openvino.rewrites.graph import Array, Graph
from elastic_inference.engines.openvino.rewrites.maps import MapLoop, NoMatch
from elastic_inference.models.graph_pb2 import GraphDef
from elastic_inference.models.operations import DTYPE_NAMES, DTYPE_NUMBERS

_BATCHES = ((2, 37, 53, 3), (1, 53, 37, 3), (3, 40, 40, 3), (1, 200, 90, 3), (1, 30, 700, 3))
"""Wide, high and square pictures; one, and several; one with more columns than bfloat16 has whole numbers."""
_POSITION = 2.0**-22
"""Of a position in a picture, as a part of its longer side: by so much of a pixel the resize may be off."""
_BFLOAT16 = 2.0**-6
"""Of the greatest number of a result in bfloat16: its position, two differences and two sums are rounded to 8 bits."""


def certify(
    core: ov.Core, graph: Graph, loop: MapLoop, lifted: Lifted, *, in_bfloat16: bool = False
) -> tuple[int, float]:
    """Compare.

    Args:
        in_bfloat16: Whether what takes the loop's place is run as it will be where the model is run in bfloat16.

    Returns:
        How many pictures were compared, and the greatest difference as a part of the greatest number.

    Raises:
        NoMatch: They differ, or cannot be compared; the text says where.
    """
    if len(lifted.images) != 1:
        raise NoMatch("it takes more than the images")
    (_, dtype), (element, *others) = next(iter(lifted.images.values())), loop.elements
    inside = [loop.results[outside] for outside in lifted.results]
    random, worst = np.random.default_rng(0), 0.0
    try:
        evaluation = Evaluation(graph, inside, [element, *others])
        run = _compiled(core, graph, lifted, in_bfloat16)
        for shape in _BATCHES:
            pictures = random.integers(0, 256, shape).astype(DTYPE_NAMES[dtype])
            ours = run(pictures)
            for index, picture in enumerate(pictures.astype(np.float32)):
                theirs = evaluation.run(dict.fromkeys([element, *others], picture))
                found = max(_difference(one, all_[index]) for one, all_ in zip(theirs, ours, strict=True))
                allowed = max(shape[1:3]) * _POSITION + (_BFLOAT16 if in_bfloat16 else 0)
                if not found <= allowed:
                    what = (
                        "in dtype or shape" if np.isinf(found) else f"by {found:.1g} of the greatest number"
                    )
                    raise NoMatch(f"results differ {what} on a picture of {shape[1]} x {shape[2]}")
                worst = max(worst, found)
    except NotEvaluated as error:
        raise NoMatch(str(error)) from error
    except RuntimeError as error:
        raise NoMatch(f"the engine does not run it: {str(error).strip().splitlines()[-1]}") from error
    return sum(shape[0] for shape in _BATCHES), worst


def _compiled(
    core: ov.Core, graph: Graph, lifted: Lifted, in_bfloat16: bool
) -> Callable[[Array], list[Array]]:
    """Return a function from the images to the results, run by the engine."""
    ((source, dtype),) = lifted.images.values()
    made = GraphDef(versions=graph.graph_def.versions)
    images = made.node.add(name="images", op="Placeholder")
    images.attr["dtype"].type = dtype
    for size in (-1, -1, -1, 3):
        images.attr["shape"].shape.dim.add(size=size)
    for node in lifted.nodes:
        copy = made.node.add()
        copy.CopyFrom(node)
        del copy.input[:]
        copy.input.extend("images" if name == source else name for name in node.input)
    for index, (outside, name) in enumerate(lifted.results.items()):
        dtype = graph.nodes[outside[0]].attr["dtype"].type
        if in_bfloat16 and dtype == DTYPE_NUMBERS["float32"]:
            name = _convolved(made, f"convolved_{index}", name)
        result = made.node.add(name=f"result_{index}", op="Identity", input=[name])
        result.attr["T"].type = dtype
    with tempfile.TemporaryDirectory(prefix="elastic-inference-") as folder:
        path = Path(folder, "graph.pb")
        path.write_bytes(made.SerializeToString())
        model = core.read_model(path)
    precision = "bf16" if in_bfloat16 else "f32"
    compiled = core.compile_model(
        model, "CPU", {"INFERENCE_PRECISION_HINT": precision, "INFERENCE_NUM_THREADS": 1}
    )
    ports = {name: port for port in compiled.outputs for name in port.get_names()}

    def run(pictures: Array) -> list[Array]:
        answers = compiled([pictures])
        return [np.asarray(answers[ports[f"result_{index}:0"]]) for index in range(len(lifted.results))]

    return run


def _convolved(made: GraphDef, name: str, images: str) -> str:
    """Add a convolution that hands three channels on as they are."""
    filters = made.node.add(name=f"{name}/filters", op="Const")
    filters.attr["dtype"].type = DTYPE_NUMBERS["float32"]
    tensor = filters.attr["value"].tensor
    tensor.dtype = DTYPE_NUMBERS["float32"]
    tensor.tensor_content = np.eye(3, dtype=np.float32).tobytes()
    for size in (1, 1, 3, 3):
        tensor.tensor_shape.dim.add(size=size)
    node = made.node.add(name=name, op="Conv2D", input=[images, filters.name])
    node.attr["T"].type = DTYPE_NUMBERS["float32"]
    node.attr["strides"].list.i.extend([1, 1, 1, 1])
    node.attr["padding"].s = b"VALID"
    return name


def _difference(theirs: Array, ours: Array) -> float:
    if theirs.shape != ours.shape or theirs.dtype != ours.dtype:
        return float("inf")
    difference = float(np.max(np.abs(theirs.astype(np.float64) - ours), initial=0.0))
    return difference / max(float(np.max(np.abs(theirs), initial=0.0)), 1e-30)
