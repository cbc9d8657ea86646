"""Rewrites a graph before the engine reads it: looks for patterns, proves each one found, and says what came of it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import openvino as ov
from openvino.frontend.tensorflow import ConversionExtension

from elastic_inference.engines.openvino.rewrites import (
    combined_nms,
    map_certificate,
    nms_certificate,
    nms_operation,
    resize_operation,
)
from elastic_inference.engines.openvino.rewrites.batched_map import lift
from elastic_inference.engines.openvino.rewrites.graph import Graph, Tensor, attribute, name_of
from elastic_inference.engines.openvino.rewrites.maps import MapLoop, NoMatch, find_maps
from elastic_inference.engines.openvino.rewrites.multiclass_nms import (
    Suppression,
    match,
    sources,
)
from elastic_inference.models.graph_pb2 import GraphDef, NodeDef

REWRITES_VERSION = 3
"""Changes whenever a rewrite computes, or is taken, otherwise: compiled models are kept under it."""
_DAMAGED = (KeyError, ValueError, IndexError, TypeError, RecursionError)
"""What following a graph raises where nodes are missing, or have other inputs than their operation takes."""
_DESCRIPTION, _GIVEN = "description", "given"  # attributes of our operation


def install(core: ov.Core) -> None:
    """Teach a core the operations that the rewrites put into graphs, and those of TensorFlow's that it lacks."""
    core.add_extension(ConversionExtension(nms_operation.OPERATION, _suppressed))
    core.add_extension(ConversionExtension(combined_nms.OPERATION, _combined))
    core.add_extension(ConversionExtension(resize_operation.OPERATION, _resized))


@dataclass(frozen=True)
class _Replacement:
    """What takes a loop's place: its nodes, where the loop's results are now, and a sentence about it."""

    nodes: Iterable[NodeDef]
    results: Mapping[Tensor, str]
    note: str


def rewrite(
    core: ov.Core, graph_def: GraphDef, fetches: Collection[str], *, in_bfloat16: bool = False
) -> tuple[str, ...]:
    """Replace what can be proved equal, in place.

    Args:
        core: Compiles what takes a pattern's place, for its proof.
        fetches: Names of the tensors whose values will be asked for.
        in_bfloat16: Whether the engine will compute in bfloat16. It leaves a loop in float32, but not what takes the
            place of one that comes before the first weights: what would round rows, columns or sizes there is left.

    Returns:
        A sentence for each pattern that was found: that it was taken, or that it was left, and why.
    """
    graph = Graph(graph_def)
    notes: list[str] = []
    before = _reached(graph, fetches)
    taken = False
    for loop in [loop for loop in find_maps(graph) if any(name in before for name, _ in loop.results)]:
        try:
            made = _suppression(core, graph, loop)
            if made is None:
                made = _resize(core, graph, loop, before, in_bfloat16)
        except NoMatch as error:
            notes.append(f"The loop {loop.frame!r} was left as it is: {error}.")
            continue
        except _DAMAGED as error:
            notes.append(
                f"The loop {loop.frame!r} was left as it is: it is damaged ({type(error).__name__})."
            )
            continue
        if made is not None:
            taken = True
            notes.append(made.note)
            for node in made.nodes:
                graph_def.node.add().CopyFrom(node)
            for (result, _), source in made.results.items():
                _hand_on(graph.nodes[result], source)
    if taken:
        _remove(graph_def, before - _reached(Graph(graph_def), fetches))
    return tuple(notes)


def _suppression(core: ov.Core, graph: Graph, loop: MapLoop) -> _Replacement | None:
    found = match(graph, loop)
    if found is None:
        return None
    proved = nms_certificate.certify(core, graph, found)
    given = sources(found)
    node = NodeDef(
        name=_free(graph, f"elastic_inference/{loop.frame}"), op=nms_operation.OPERATION,
        input=[name_of(tensor) for tensor in given.values()],
    )  # fmt: skip
    node.attr[_DESCRIPTION].s = proved.suppression.to_json().encode()
    node.attr[_GIVEN].s = " ".join(given).encode()
    results = {
        result: name_of((node.name, o)) for result, o in zip(loop.results, proved.outputs, strict=True)
    }
    classes = f"{found.suppression.num_classes} class{'es' if found.suppression.num_classes > 1 else ''}"
    note = (
        f"The loop {loop.frame!r} that suppresses boxes of {classes} runs as one operation: equal on "
        f"{proved.num_samples} samples of boxes, at most {proved.worst:.1g} apart."
    )
    return _Replacement([node], results, note)


def _resize(
    core: ov.Core, graph: Graph, loop: MapLoop, wanted: set[str], in_bfloat16: bool
) -> _Replacement | None:
    lifted = lift(graph, loop, wanted, in_bfloat16=in_bfloat16)
    if lifted is None:
        return None
    num_pictures, worst = map_certificate.certify(core, graph, loop, lifted, in_bfloat16=in_bfloat16)
    note = (
        f"The loop {loop.frame!r} that resizes images runs as one operation: equal on {num_pictures} made-up pictures, "
        f"at most {worst:.1g} of the greatest number apart."
    )
    return _Replacement(lifted.nodes, lifted.results, note)


def _free(graph: Graph, wanted: str) -> str:
    while wanted in graph.nodes:
        wanted += "_"
    return wanted


def _hand_on(node: NodeDef, source: str) -> None:
    """Make a node an Identity of another tensor; its dtype stays."""
    dtype = attribute(node, "dtype").type
    node.op = "Identity"
    del node.input[:]
    node.input.append(source)
    node.attr.clear()
    node.attr["T"].type = dtype


def _remove(graph_def: GraphDef, dead: set[str]) -> None:
    """Remove nodes, and those that take anything from them: no fetch needs them."""
    num_dead = -1
    while num_dead != len(dead):
        num_dead = len(dead)
        dead |= {
            node.name
            for node in graph_def.node
            if any(name.partition(":")[0].removeprefix("^") in dead for name in node.input)
        }
    kept = [node for node in graph_def.node if node.name not in dead]
    del graph_def.node[:]
    graph_def.node.extend(kept)


def _reached(graph: Graph, fetches: Iterable[str]) -> set[str]:
    """Return the names of the nodes that the fetches need, in order or value."""
    found: set[str] = set()
    pending = list(fetches)
    while pending:
        name = pending.pop().partition(":")[0].removeprefix("^")
        node = graph.nodes.get(name)
        if node is not None and name not in found:
            found.add(name)
            pending += node.input
    return found


def _suppressed(node: Any) -> list[ov.Output]:
    """Build the operation's part of the engine's model; the engine's TensorFlow front end calls it."""
    suppression = Suppression.from_json(node.get_attribute(_DESCRIPTION))
    given = {name: node.get_input(index) for index, name in enumerate(node.get_attribute(_GIVEN).split())}
    return [output.output(0) for output in nms_operation.build(suppression, given)]


def _combined(node: Any) -> list[ov.Output]:
    return [output.output(0) for output in combined_nms.build(node)]


def _resized(node: Any) -> list[ov.Output]:
    """Build this one's."""
    made = resize_operation.build(
        node.get_input(0),
        node.get_input(1),
        half_pixel_centers=node.get_attribute("half_pixel_centers"),
        in_integers=node.get_attribute(resize_operation.IN_INTEGERS),
    )
    return [made.output(0)]
