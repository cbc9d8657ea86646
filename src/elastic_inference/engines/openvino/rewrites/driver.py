"""Rewrites a graph before the engine reads it: looks for patterns, proves each one found, and says what came of it."""

from __future__ import annotations

import functools
from collections.abc import Collection, Iterable

import openvino as ov
from openvino.frontend.tensorflow import ConversionExtension

from elastic_inference.engines.openvino.rewrites import certificate, nms_operation
from elastic_inference.engines.openvino.rewrites.graph import Graph, attribute, name_of
from elastic_inference.engines.openvino.rewrites.maps import find_maps
from elastic_inference.engines.openvino.rewrites.multiclass_nms import (
    Match,
    NoMatch,
    Suppression,
    match,
    sources,
)
from elastic_inference.models.graph_pb2 import GraphDef, NodeDef

REWRITES_VERSION = 1
"""Changes whenever a rewrite computes, or is taken, otherwise: compiled models are kept under it."""
_DESCRIPTION = "description"


def install(core: ov.Core) -> None:
    """Teach a core the operations that the rewrites put into graphs."""
    core.add_extension(ConversionExtension(nms_operation.OPERATION, _converted))


def rewrite(core: ov.Core, graph_def: GraphDef, fetches: Collection[str]) -> tuple[str, ...]:
    """Replace what can be proved equal, in place.

    Args:
        core: Compiles what takes a pattern's place, for its proof.
        fetches: Names of the tensors whose values will be asked for.

    Returns:
        A sentence for each pattern that was found: that it was taken, or that it was left, and why.
    """
    graph = Graph(graph_def)
    notes: list[str] = []
    before = _reached(graph, fetches)
    for loop in find_maps(graph):
        if not any(tensor[0] in before for tensor in loop.results):
            continue
        try:
            found = match(graph, loop)
            if found is None:
                continue
            proved = certificate.certify(core, graph, found)
        except NoMatch as error:
            notes.append(f"The loop {loop.frame!r} that suppresses boxes was left as it is: {error}.")
            continue
        _replace(graph, found, proved)
        notes.append(_taken(found, proved))
    if any(node.op == nms_operation.OPERATION for node in graph_def.node):
        _remove(graph_def, before - _reached(Graph(graph_def), fetches))
    return tuple(notes)


def _taken(found: Match, proved: certificate.Certificate) -> str:
    classes = f"{found.suppression.num_classes} class{'es' if found.suppression.num_classes > 1 else ''}"
    return (
        f"The loop {found.loop.frame!r} that suppresses boxes of {classes} runs as one operation: equal on "
        f"{proved.num_samples} samples of boxes, at most {proved.worst:.1g} apart."
    )


def _replace(graph: Graph, found: Match, proved: certificate.Certificate) -> None:
    """Add the operation, and make the tensors in which the loop's results stood hand on its outputs."""
    name = f"elastic_inference/{found.loop.frame}"
    while name in graph.nodes:
        name += "_"
    operation = graph.graph_def.node.add(
        name=name, op=nms_operation.OPERATION, input=[name_of(tensor) for tensor in sources(found).values()]
    )
    operation.attr[_DESCRIPTION].s = proved.suppression.to_json().encode()
    operation.attr["given"].s = " ".join(sources(found)).encode()
    graph.nodes[name] = operation
    for (result, _), output in zip(found.loop.results, proved.outputs, strict=True):
        _hand_on(graph.nodes[result], f"{name}:{output}" if output else name)


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


def _converted(node: object) -> list[ov.Output]:
    """Build the operation's part of the engine's model; the engine's TensorFlow front end calls it."""
    text = functools.partial(getattr, node)("get_attribute")
    suppression = Suppression.from_json(text(_DESCRIPTION))
    names = text("given").split()
    given = {name: node.get_input(index) for index, name in enumerate(names)}  # type: ignore[attr-defined]
    return [output.output(0) for output in nms_operation.build(suppression, given)]
