"""What an ONNX file says of itself, read without onnx and protobuf: its operations, and the files that belong to it."""

from __future__ import annotations

import mmap
import struct
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from elastic_inference.errors import InvalidModel
from elastic_inference.models.protobuf_wire import Value, fields, packed, signed, text
from elastic_inference.models.source_nodes import SourceNode

# Field numbers of onnx.proto.
_MODEL_GRAPH, _MODEL_OPSETS, _MODEL_FUNCTIONS = 7, 8, 25
_FUNCTION_NODE, _FUNCTION_OPSETS = 7, 9
_GRAPH_NODE, _GRAPH_INITIALIZER, _GRAPH_SPARSE_INITIALIZER = 1, 5, 15
_GRAPH_INPUT, _GRAPH_OUTPUT = 11, 12
_VALUE_NAME, _VALUE_TYPE, _TYPE_TENSOR, _TENSOR_SHAPE = 1, 2, 1, 2
_NODE_INPUT, _NODE_OUTPUT, _NODE_NAME, _NODE_OP, _NODE_ATTRIBUTE, _NODE_DOMAIN = 1, 2, 3, 4, 5, 7
_ATTRIBUTE_NAME, _ATTRIBUTE_F, _ATTRIBUTE_I, _ATTRIBUTE_S, _ATTRIBUTE_T, _ATTRIBUTE_G = 1, 2, 3, 4, 5, 6
_ATTRIBUTE_INTS, _ATTRIBUTE_STRINGS, _ATTRIBUTE_TENSORS, _ATTRIBUTE_GRAPHS = 8, 9, 10, 11
_TENSOR_EXTERNAL_DATA, _ENTRY_KEY, _ENTRY_VALUE = 13, 1, 2
_SPARSE_VALUES, _SPARSE_INDICES = 1, 2
_OPSET_DOMAIN, _OPSET_VERSION = 1, 2
_OWN_DOMAIN = "ai.onnx"

Opsets = Mapping[str, int]


def onnx_nodes(path: Path) -> list[SourceNode]:
    """Return the operations of the graph, of the bodies of its branches and loops, and of its functions.

    Raises:
        InvalidModel: The file is not ONNX.
    """
    found: list[SourceNode] = []
    model = _mapped(path)
    try:
        opsets = _opsets(model, _MODEL_OPSETS)
        for graph in _messages(model, _MODEL_GRAPH):
            found += _nodes(graph, _GRAPH_NODE, opsets)
        for function in _messages(model, _MODEL_FUNCTIONS):
            found += _nodes(function, _FUNCTION_NODE, {**opsets, **_opsets(function, _FUNCTION_OPSETS)})
    except InvalidModel as error:
        raise InvalidModel(f"{path} is not an ONNX model, or is cut short: {error}") from error
    return found


def external_data(path: Path) -> tuple[str, ...]:
    """Return the files, as the model names them, that hold tensors of it; none where the file is not ONNX."""
    found: dict[str, None] = {}
    try:
        model = _mapped(path)
        for graph in _messages(model, _MODEL_GRAPH):
            found |= dict.fromkeys(_locations_in_graph(graph))
        for function in _messages(model, _MODEL_FUNCTIONS):
            found |= dict.fromkeys(_locations_in_nodes(function, _FUNCTION_NODE))
    except InvalidModel:  # the engine that reads it says so
        return ()
    return tuple(found)


def check_external_data(path: Path, files: Collection[str]) -> None:
    """Refuse a model that would read files which are not its own.

    Args:
        files: The model's files, relative to its folder.

    Raises:
        InvalidModel: Names the file.
    """
    for location in external_data(path):
        if location not in files:
            raise InvalidModel(
                f"{path} names the file {location!r} for its data, which is not one of its own"
            )


def unranked(path: Path) -> frozenset[str]:
    """Names of the graph's inputs and outputs that have a dtype but no shape, not even a rank."""
    found = set()
    for graph in _messages(_mapped(path), _MODEL_GRAPH):
        for number in (_GRAPH_INPUT, _GRAPH_OUTPUT):
            for value in _messages(graph, number):
                for kind in _messages(value, _VALUE_TYPE):
                    for tensor in _messages(kind, _TYPE_TENSOR):
                        if not any(field == _TENSOR_SHAPE for field, _ in fields(tensor)):
                            found.add(text(dict(fields(value)).get(_VALUE_NAME, 0)))
    return frozenset(found)


def _mapped(path: Path) -> memoryview:
    """Return the file's bytes; freed with the last view of them, since an mmap cannot be closed under one."""
    with open(path, "rb") as file:
        try:
            return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        except ValueError as error:
            raise InvalidModel(f"model file {path} is empty") from error


def _messages(message: Value, wanted: int) -> Iterator[memoryview]:
    """Yield the values of a repeated message field."""
    if isinstance(message, int):
        raise InvalidModel("not an ONNX model: a message was expected")
    for number, value in fields(message):
        if number == wanted and not isinstance(value, int):
            yield value


def _opsets(message: Value, number: int) -> Opsets:
    sets = [dict(fields(value)) for value in _messages(message, number)]
    return {_domain(s.get(_OPSET_DOMAIN, 0)): signed(s.get(_OPSET_VERSION, 0)) for s in sets}


def _domain(value: Value) -> str:
    name = text(value)
    return "" if name == _OWN_DOMAIN else name


def _nodes(graph: Value, number: int, opsets: Opsets) -> Iterator[SourceNode]:
    for message in _messages(graph, number):
        node: dict[int, list[Any]] = {}
        for field, value in fields(message):
            node.setdefault(field, []).append(value)
        outputs = [text(value) for value in node.get(_NODE_OUTPUT, ())]
        domain = _domain(node.get(_NODE_DOMAIN, [0])[0])
        yield SourceNode(
            text(node.get(_NODE_OP, [0])[0]),
            text(node.get(_NODE_NAME, [0])[0]) or "".join(outputs[:1]),
            domain,
            dict(map(_attribute, node.get(_NODE_ATTRIBUTE, ()))),
            [text(value) for value in node.get(_NODE_INPUT, ())],
            outputs,
            opsets.get(domain, 0),
        )
        for attribute in node.get(_NODE_ATTRIBUTE, ()):
            for kind in (_ATTRIBUTE_G, _ATTRIBUTE_GRAPHS):
                for body in _messages(attribute, kind):
                    yield from _nodes(body, _GRAPH_NODE, opsets)


def _attribute(message: Value) -> tuple[str, Any]:
    name = ""
    result: Any = None
    if isinstance(message, int):
        raise InvalidModel("not an ONNX model: an attribute was expected")
    for number, value in fields(message):
        if number == _ATTRIBUTE_NAME:
            name = text(value)
        elif number == _ATTRIBUTE_I:
            result = signed(value)
        elif number == _ATTRIBUTE_F and not isinstance(value, int):
            result = struct.unpack("<f", value)[0]
        elif number == _ATTRIBUTE_S:
            result = text(value)
        elif number == _ATTRIBUTE_INTS:
            result = [*(result or ()), *packed(value)]
        elif number == _ATTRIBUTE_STRINGS:
            result = [*(result or ()), text(value)]
    return name, result


def _locations_in_graph(graph: Value) -> Iterator[str]:
    for tensor in _messages(graph, _GRAPH_INITIALIZER):
        yield from _locations(tensor)
    for sparse in _messages(graph, _GRAPH_SPARSE_INITIALIZER):
        for number in (_SPARSE_VALUES, _SPARSE_INDICES):
            for tensor in _messages(sparse, number):
                yield from _locations(tensor)
    yield from _locations_in_nodes(graph, _GRAPH_NODE)


def _locations_in_nodes(message: Value, number: int) -> Iterator[str]:
    for node in _messages(message, number):
        for attribute in _messages(node, _NODE_ATTRIBUTE):
            for kind in (_ATTRIBUTE_T, _ATTRIBUTE_TENSORS):
                for tensor in _messages(attribute, kind):
                    yield from _locations(tensor)
            for kind in (_ATTRIBUTE_G, _ATTRIBUTE_GRAPHS):
                for body in _messages(attribute, kind):
                    yield from _locations_in_graph(body)


def _locations(tensor: memoryview) -> Iterator[str]:
    for entry in _messages(tensor, _TENSOR_EXTERNAL_DATA):
        pair = dict(fields(entry))
        if text(pair.get(_ENTRY_KEY, 0)) == "location":
            yield text(pair.get(_ENTRY_VALUE, 0))
