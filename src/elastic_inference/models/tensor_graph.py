"""A TensorFlow graph as nodes by name: what a named tensor is and what a set of tensors needs.

Knows messages and names, no files, no signatures and no engine.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from elastic_inference.errors import InvalidInput, TensorNotFound, UnsupportedModel
from elastic_inference.models.graph_pb2 import AttrValue, GraphDef, NodeDef, TensorShapeProto
from elastic_inference.models.operations import output_dtypes
from elastic_inference.tensors import WIRE_NAMES, TensorSpec

# TensorFlow's engines are fed by numpy, which has no bfloat16.
FEEDABLE = tuple(name for name in WIRE_NAMES if name != "bfloat16")
_PLACEHOLDERS = ("Placeholder", "PlaceholderV2")
_HANDS_ON = ("Identity", "StopGradient", "PreventGradient", "Snapshot", "PlaceholderWithDefault")
_FIRST_PRODUCER_WITH_SCALAR_PLACEHOLDERS = 24  # before it, shape () of a placeholder meant "unknown"


@dataclass(frozen=True)
class Reach:
    """What some tensors need.

    Attributes:
        nodes: Names of the nodes that have to run.
        fed: Those of the fed tensors that are needed.
    """

    nodes: frozenset[str]
    fed: frozenset[str]


class TensorGraph:
    """The nodes of one GraphDef, by name."""

    def __init__(self, graph_def: GraphDef) -> None:
        self.graph_def = graph_def
        self.nodes: dict[str, NodeDef] = {node.name: node for node in graph_def.node}

    def tensor(self, name: str) -> TensorSpec:
        """Return the tensor `operation:index`.

        Raises:
            InvalidInput: The name is an operation's or malformed; the text is TensorFlow's.
            TensorNotFound: There is no such tensor; the text is TensorFlow's.
            UnsupportedModel: Its dtype is one that no request can carry.
        """
        node, index = self._find(name)
        dtypes = output_dtypes(node)
        if dtypes is None:
            raise UnsupportedModel(
                f"tensor {name!r} comes from operation {node.op!r}, which this version does not know"
            )
        if index >= len(dtypes):
            raise TensorNotFound(
                f"The name {name!r} refers to a Tensor which does not exist. The operation, {node.name!r}, exists "
                f"but only has {len(dtypes)} outputs."
            )
        if dtypes[index].removesuffix("_ref") not in FEEDABLE:
            raise UnsupportedModel(
                f"tensor {name!r} has dtype {dtypes[index]}; supported are {', '.join(FEEDABLE)}"
            )
        return TensorSpec(name, dtypes[index], self._shape(node, index))

    def _find(self, name: str) -> tuple[NodeDef, int]:
        operation, colon, index = name.rpartition(":")
        if not colon:
            if name in self.nodes:
                raise InvalidInput(
                    f"The name {name!r} refers to an Operation, not a Tensor. Tensor names must be of the form "
                    '"<op_name>:<output_index>".'
                )
            raise InvalidInput(
                f"The name {name!r} looks like an (invalid) Operation name, not a Tensor. Tensor names must be of "
                'the form "<op_name>:<output_index>".'
            )
        if not (index.isascii() and index.isdigit()) or ":" in operation:
            raise InvalidInput(
                f"The name {name!r} looks a like a Tensor name, but is not a valid one. Tensor names must be of the "
                'form "<op_name>:<output_index>".'
            )
        if operation not in self.nodes:
            raise TensorNotFound(
                f"The name {name!r} refers to a Tensor which does not exist. The operation, {operation!r}, does not "
                "exist in the graph."
            )
        return self.nodes[operation], int(index)

    def _shape(self, node: NodeDef, index: int) -> tuple[int | None, ...] | None:
        shapes = node.attr["_output_shapes"].list.shape if "_output_shapes" in node.attr else ()
        if index < len(shapes):
            return shape_of(shapes[index])
        if "shape" not in node.attr or node.op not in (
            *_PLACEHOLDERS,
            "VariableV2",
            "PlaceholderWithDefault",
        ):
            return None
        shape = shape_of(node.attr["shape"].shape)
        producer = self.graph_def.versions.producer
        if shape == () and node.op == "Placeholder" and producer < _FIRST_PRODUCER_WITH_SCALAR_PLACEHOLDERS:
            return None
        return shape

    def reach(self, fetches: Iterable[str], fed: Iterable[str]) -> Reach:
        """Return the nodes that must run to compute `fetches` when the tensors `fed` are given.

        Args:
            fetches: Tensor names.
            fed: Tensor names.
        """
        given = {_normal(name) for name in fed}
        used: set[str] = set()
        nodes: set[str] = set()
        pending = [_normal(name) for name in fetches]
        while pending:
            tensor = pending.pop()
            if tensor in given:
                used.add(tensor)
                continue
            name = tensor.partition(":")[0].removeprefix("^")
            node = self.nodes.get(name)
            if node is None or name in nodes or (tensor.startswith("^") and f"{name}:0" in given):
                continue
            nodes.add(name)
            pending += map(_normal, node.input)
        return Reach(frozenset(nodes), frozenset(used))

    def origin(self, name: str, fed: Collection[str]) -> str | None:
        """Return the tensor of `fed` whose value the tensor `name` has, past operations that only hand it on."""
        passed = set()
        while name not in fed:
            node = self.nodes.get(name.rpartition(":")[0])
            if node is None or node.op not in _HANDS_ON or not node.input or name in passed:
                return None
            passed.add(name)  # a damaged graph may hand a tensor on to itself
            name = _normal(node.input[0])
        return name

    def skeleton(self, names: Iterable[str]) -> TensorGraph:
        """Return a graph of the nodes `names` without most attributes, so that constants need not stay in memory.

        It answers `reach`, `origin`, `placeholders` and `tensor` of placeholders.
        """
        kept = GraphDef(versions=self.graph_def.versions)
        for name in names:
            node = self.nodes[name]
            attributes = node.attr if node.op in _PLACEHOLDERS else {}
            kept.node.add(name=node.name, op=node.op, input=node.input, attr=attributes)
        return TensorGraph(kept)

    def placeholders(self, names: Iterable[str] | None = None) -> list[NodeDef]:
        """Return the placeholders among the nodes called `names` (None: all), in the graph's order."""
        wanted = None if names is None else set(names)
        return [
            node
            for node in self.graph_def.node
            if node.op in _PLACEHOLDERS and (wanted is None or node.name in wanted)
        ]

    def terminal_nodes(self) -> list[NodeDef]:
        """Nodes that have outputs, none of which another node takes; in the graph's order."""
        taken = {i.partition(":")[0].removeprefix("^") for node in self.graph_def.node for i in node.input}
        return [node for node in self.graph_def.node if node.name not in taken and output_dtypes(node)]


def shape_of(message: TensorShapeProto) -> tuple[int | None, ...] | None:
    """One entry an axis, None where it is open; None as a whole where the rank is open."""
    if message.unknown_rank:
        return None
    return tuple(None if dim.size < 0 else dim.size for dim in message.dim)


def shape_attribute(shape: tuple[int | None, ...] | None) -> AttrValue:
    """Return the reverse of `shape_of`, as a node's attribute."""
    value = AttrValue()
    value.shape.unknown_rank = shape is None
    for size in shape or ():
        value.shape.dim.add(size=-1 if size is None else size)
    return value


def _normal(name: str) -> str:
    return name if ":" in name or name.startswith("^") else f"{name}:0"
