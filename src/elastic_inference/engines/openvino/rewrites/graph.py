"""A GraphDef as the rewrites look at it: nodes by name, tensors without control inputs, constants as arrays."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from elastic_inference.models.graph_pb2 import AttrValue, GraphDef, NodeDef, TensorProto
from elastic_inference.models.operations import DTYPE_NAMES

Array = npt.NDArray[Any]
Tensor = tuple[str, int]
"""Name of a node, and which of its outputs."""

_VALUE_FIELDS = ("float_val", "double_val", "int_val", "int64_val", "bool_val")


class Graph:
    """The nodes of a graph; nothing is changed here."""

    def __init__(self, graph_def: GraphDef) -> None:
        self.graph_def = graph_def
        self.nodes: dict[str, NodeDef] = {node.name: node for node in graph_def.node}

    @cached_property
    def consumers(self) -> dict[str, list[NodeDef]]:
        """Nodes that take a value of the node of this name, control inputs aside."""
        found: dict[str, list[NodeDef]] = {}
        for node in self.graph_def.node:
            for name, _ in inputs_of(node):
                found.setdefault(name, []).append(node)
        return found

    def through(self, tensor: Tensor, *ops: str) -> Tensor:
        """Return where the tensor comes from, past operations that only hand it on and those named `ops`."""
        seen: set[Tensor] = set()
        while tensor not in seen:
            seen.add(tensor)  # a damaged graph may hand a tensor on to itself
            node = self.nodes.get(tensor[0])
            if node is None or node.op not in ("Identity", *ops):
                break
            given = inputs_of(node)
            if not given:
                break
            tensor = given[0]
        return tensor

    def constant(self, tensor: Tensor) -> Array | None:
        """Return the value of a tensor that is a constant, past Identity and Enter; None for any other."""
        node = self.nodes.get(self.through(tensor, "Enter")[0])
        return None if node is None or node.op != "Const" else array_of(attribute(node, "value").tensor)

    def is_constant(self, tensor: Tensor, value: int | float | Sequence[int]) -> bool:
        """Whether a tensor is a constant of exactly this value and rank."""
        found = self.constant(tensor)
        return (
            found is not None and found.shape == np.shape(value) and bool((found == np.asarray(value)).all())
        )

    def ancestors(self, tensors: Iterable[Tensor], stop: Iterable[Tensor] = ()) -> set[str]:
        """Return the names of the nodes that the tensors need, but for those behind the tensors `stop`."""
        ends, pending, found = set(stop), list(tensors), set[str]()
        while pending:
            tensor = pending.pop()
            node = self.nodes.get(tensor[0])
            if tensor in ends or node is None or node.name in found:
                continue
            found.add(node.name)
            pending += inputs_of(node)
        return found


def inputs_of(node: NodeDef) -> list[Tensor]:
    """Return the tensors whose values a node takes."""
    return [tensor_of(name) for name in node.input if not name.startswith("^")]


def tensor_of(name: str) -> Tensor:
    """Read `node` or `node:1`."""
    node, _, index = name.partition(":")
    return node, int(index or 0)


def name_of(tensor: Tensor) -> str:
    """Return the reverse of `tensor_of`."""
    return f"{tensor[0]}:{tensor[1]}" if tensor[1] else tensor[0]


def attribute(node: NodeDef, name: str) -> AttrValue:
    """Return an attribute, an empty one where the node has none; asking the message itself would add it."""
    return node.attr[name] if name in node.attr else AttrValue()


def dtype_of(value: AttrValue) -> np.dtype[Any] | None:
    """Return numpy's dtype of an attribute; None for what numpy lacks."""
    try:
        return np.dtype(DTYPE_NAMES.get(value.type, ""))
    except TypeError:
        return None


def array_of(tensor: TensorProto) -> Array | None:
    """Return a constant's value; None for strings and what numpy lacks."""
    try:
        dtype = np.dtype(DTYPE_NAMES.get(tensor.dtype, ""))
    except TypeError:
        return None
    shape = tuple(dim.size for dim in tensor.tensor_shape.dim)
    count = int(np.prod(shape, dtype=np.int64))
    try:
        if tensor.tensor_content:
            return np.frombuffer(tensor.tensor_content, dtype).reshape(shape)
        values = next((list(getattr(tensor, f)) for f in _VALUE_FIELDS if len(getattr(tensor, f))), [0])
        values += values[-1:] * (count - len(values))
        return np.array(values, dtype).reshape(shape)
    except (ValueError, OverflowError):  # a damaged constant
        return None
