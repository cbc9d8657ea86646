"""Loops that differ from a known one in one place: whatever is still rewritten computes what the loop computes."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pytest

from elastic_inference.models.graph_pb2 import GraphDef, NodeDef
from tests.engines.rewrites import loops

pytest.importorskip("openvino")
pytest.importorskip("tensorflow")

_OTHER = {
    "Minimum": "Maximum", "Maximum": "Minimum", "Less": "LessEqual", "Greater": "GreaterEqual",
    "GreaterEqual": "Greater", "AddV2": "Sub", "Sub": "AddV2", "Mul": "RealDiv", "RealDiv": "Mul",
    "ZerosLike": "OnesLike", "LogicalAnd": "LogicalOr",
}  # fmt: skip
_EVERY = 40  # of the mutations, so that the test ends in time


def _mutations(graph_def: GraphDef) -> Iterator[tuple[str, GraphDef]]:
    """Yield what was changed, and the graph in which it was."""
    for index, node in enumerate(graph_def.node):
        for what, change in _changes(node):
            mutated = GraphDef.FromString(graph_def.SerializeToString())
            change(mutated.node[index])
            yield f"{node.name}: {what}", mutated


def _changes(node: NodeDef) -> Iterator[tuple[str, Callable[[NodeDef], None]]]:
    if node.op in _OTHER:
        yield f"{node.op} -> {_OTHER[node.op]}", lambda n: setattr(n, "op", _OTHER[n.op])
    if node.op == "Const":
        tensor = node.attr["value"].tensor
        for field, step in (("float_val", 0.25), ("int_val", 1), ("int_val", -1)):
            if len(getattr(tensor, field)) == 1:
                yield f"{field} {step:+}", _adder(field, step)
    takers = [name for name in node.input if not name.startswith("^")]
    if len(takers) > 1 and node.op in ("Sub", "Select", "Less", "Greater", "Mul"):
        yield "first two inputs exchanged", _exchange


def _adder(field: str, step: float) -> Callable[[NodeDef], None]:
    def add(node: NodeDef) -> None:
        values = getattr(node.attr["value"].tensor, field)
        values[0] += step

    return add


def _exchange(node: NodeDef) -> None:
    node.input[0], node.input[1] = node.input[1], node.input[0]


def _on_tensorflow(graph_def: GraphDef) -> Callable[[loops.Arrays], loops.Arrays | None]:
    """Return a function that computes a graph on TensorFlow; it gives None where TensorFlow refuses to."""
    from tensorflow.errors import OpError

    try:
        run = loops.on_tensorflow(graph_def)
    except ValueError:
        return lambda _: None

    def run_or_not(feeds: loops.Arrays) -> loops.Arrays | None:
        try:
            return run(feeds)
        except OpError:
            return None

    return run_or_not


@pytest.mark.parametrize("name", ["2017_frame", "2018_plain", "2022_frame", "2022_one_class"])
def test_mutated_loop_is_left_or_right(name: str) -> None:
    original = loops.recorded(name)
    num_left = 0
    for number, (what, mutated) in enumerate(_mutations(original)):
        if number % _EVERY:
            continue
        changed, notes = loops.rewritten(mutated)
        if not any("runs as one operation" in note for note in notes):
            num_left += 1
            assert changed == mutated
            continue
        ours, theirs = loops.on_openvino(changed), _on_tensorflow(mutated)
        for num_boxes, kind in ((60, ""), (60, "crowd"), (9, "ties")):
            feeds = loops.detections(mutated, 2, num_boxes, number, kind=kind)
            expected = theirs(feeds)
            if expected is None:
                continue
            found = ours(feeds)
            for output, value in expected.items():
                np.testing.assert_allclose(found[output], value, rtol=1e-6, atol=1e-7, err_msg=what)
    assert num_left > 3


def test_other_thresholds_are_taken_and_right() -> None:
    mutated = loops.recorded("2022_frame")
    for node in mutated.node:
        if node.name.endswith("/iou_threshold"):
            node.attr["value"].tensor.float_val[0] = 0.25
        if node.name.endswith("/score_threshold"):
            node.attr["value"].tensor.float_val[0] = 0.4
    changed, notes = loops.rewritten(mutated)
    assert "runs as one operation" in notes[0]
    feeds = loops.detections(mutated, 2, 60, 3, kind="crowd")
    found, expected = loops.on_openvino(changed)(feeds), loops.on_tensorflow(mutated)(feeds)
    before = loops.on_tensorflow(loops.recorded("2022_frame"))(feeds)
    assert not np.array_equal(expected["out_scores:0"], before["out_scores:0"])
    for output, value in expected.items():
        np.testing.assert_allclose(found[output], value, rtol=1e-6, atol=1e-7, err_msg=output)


def test_class_of_its_own_threshold_is_left() -> None:
    mutated = loops.recorded("2022_plain")
    node = next(node for node in mutated.node if node.name.endswith("/iou_threshold"))
    node.attr["value"].tensor.float_val[0] = 0.5
    changed, notes = loops.rewritten(mutated)
    assert changed == mutated
    assert "different thresholds" in notes[0]


@pytest.mark.parametrize("name", ["2017_frame", "2022_masks"])
def test_damaged_loop_is_left(name: str) -> None:
    original = loops.recorded(name)
    random = np.random.default_rng(0)
    for _ in range(60):
        damaged = loops.recorded(name)
        node = damaged.node[int(random.integers(len(damaged.node)))]
        match random.integers(4):
            case 0:
                damaged.node.remove(node)
            case 1:
                del node.input[:]
            case 2:
                node.attr.clear()
            case _:
                other = damaged.node[int(random.integers(len(damaged.node)))]
                node.input.extend([other.name])
        before = damaged.SerializeToString(deterministic=True)
        changed, notes = loops.rewritten(damaged)
        if not any("runs as one operation" in note for note in notes):
            assert changed.SerializeToString(deterministic=True) == before
    assert loops.recorded(name) == original
