"""Frozen graphs of a few nodes, written without TensorFlow."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from elastic_inference.models import graph_pb2

# TensorFlow's DataType numbers.
DTYPES = {
    "float32": 1, "float64": 2, "int32": 3, "uint8": 4, "int16": 5, "int8": 6, "string": 7, "int64": 9,
    "bool": 10, "uint16": 17, "float16": 19, "uint32": 22, "uint64": 23,
}  # fmt: skip


def placeholder(name: str, dtype: str, shape: Sequence[int]) -> graph_pb2.NodeDef:
    """An input; -1 in the shape is an open size."""
    node = graph_pb2.NodeDef(name=name, op="Placeholder")
    node.attr["dtype"].type = DTYPES[dtype]
    node.attr["shape"].shape.dim.extend(graph_pb2.TensorShapeProto.Dim(size=size) for size in shape)
    return node


def operation(name: str, op: str, inputs: Sequence[str], dtype: str) -> graph_pb2.NodeDef:
    """An operation with one type attribute `T`."""
    node = graph_pb2.NodeDef(name=name, op=op, input=inputs)
    node.attr["T"].type = DTYPES[dtype]
    return node


def write_graph(path: Path, nodes: Sequence[graph_pb2.NodeDef]) -> Path:
    """Write the nodes as a frozen graph."""
    graph = graph_pb2.GraphDef(node=nodes)
    graph.versions.producer = 1087
    path.write_bytes(graph.SerializeToString())
    return path


def write_doubling_graph(path: Path) -> Path:
    """`y:0` = `x:0` + `x:0` over int32[?]."""
    return write_graph(path, [placeholder("x", "int32", [-1]), operation("y", "AddV2", ["x", "x"], "int32")])


def write_logical_graph(path: Path) -> Path:
    """`not:0` = not `flag:0` over bool[?]."""
    negation = graph_pb2.NodeDef(name="not", op="LogicalNot", input=["flag"])
    return write_graph(path, [placeholder("flag", "bool", [-1]), negation])
