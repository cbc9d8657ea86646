"""The operations that a TensorFlow graph runs for its outputs, the bodies of functions, branches and loops included."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from elastic_inference.models.graph_pb2 import AttrValue, NodeDef
from elastic_inference.models.operations import dtype_name
from elastic_inference.models.resolve import ResolvedGraph
from elastic_inference.models.soundness import called_functions
from elastic_inference.models.source_nodes import SourceNode


def tensorflow_nodes(resolved: ResolvedGraph) -> Iterator[SourceNode]:
    """Return what runs for the outputs: the nodes that they need with all inputs fed, and the functions called."""
    fed = [spec.name for spec in resolved.inputs.values()]
    reach = resolved.graph.reach((spec.name for spec in resolved.outputs.values()), fed)
    return (
        _tensorflow_node(node)
        for node in with_functions(resolved, (resolved.graph.nodes[n] for n in reach.nodes))
    )


def with_functions(resolved: ResolvedGraph, nodes: Iterable[NodeDef]) -> Iterator[NodeDef]:
    """Yield the nodes, and those of every function that they call, directly or not."""
    library = {f.signature.name: f.node_def for f in resolved.graph.graph_def.library.function}
    entered: set[str] = set()
    pending = list(nodes)
    while pending:
        node = pending.pop()
        yield node
        called = {name for value in node.attr.values() for name in called_functions(value)} | {node.op}
        for name in called & library.keys() - entered:
            entered.add(name)
            pending += library[name]


def _tensorflow_node(node: NodeDef) -> SourceNode:
    return SourceNode(
        node.op,
        node.name,
        attributes={name: _attribute(value) for name, value in node.attr.items() if name[0] != "_"},
        inputs=[name for name in node.input if not name.startswith("^")],
    )


def _attribute(value: AttrValue) -> Any:
    match value.WhichOneof("value"):
        case "s":
            return value.s.decode(errors="replace")
        case "i":
            return value.i
        case "b":
            return value.b
        case "type":
            return dtype_name(value.type)
        case "list":
            return [*value.list.i, *(text.decode(errors="replace") for text in value.list.s)]
    return None
