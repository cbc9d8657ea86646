"""The files of its own that a SavedModel reads when it is loaded, such as vocabularies."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import PurePosixPath

from elastic_inference.errors import InvalidModel
from elastic_inference.models.graph_pb2 import FunctionDef, MetaGraphDef, NodeDef
from elastic_inference.models.package import ModelPackage
from elastic_inference.models.protobuf_wire import fields, text
from elastic_inference.models.soundness import called_functions

# Field numbers of MetaGraphDef, AssetFileDef and TensorInfo in TensorFlow's meta_graph.proto.
_ASSETS, _ASSET_TENSOR, _ASSET_FILE, _TENSOR_NAME = 6, 1, 2, 1
_READERS = {
    "InitializeTableFromTextFile": 1,
    "InitializeTableFromTextFileV2": 1,
}  # op -> input that names the file
_HANDS_ON = ("Identity",)


def asset_tensors(meta_graph: MetaGraphDef, package: ModelPackage) -> dict[str, str]:
    """Find the tensors that hold names of the model's own files -> those files, relative to the model.

    Raises:
        InvalidModel: A file is not in the folder `assets`, or not there.
    """
    found = {}
    files = {file.path for file in package.files}
    for number, value in fields(memoryview(meta_graph.SerializeToString())):
        if number != _ASSETS or isinstance(value, int):
            continue
        asset = dict(fields(value))
        tensor = asset.get(_ASSET_TENSOR, memoryview(b""))
        name = text(asset.get(_ASSET_FILE, 0))
        path = PurePosixPath("assets") / name
        if isinstance(tensor, int) or ".." in path.parts or str(path) not in files:
            raise InvalidModel(
                f"{package.main_path} names the asset {name!r}, which is not in its folder assets"
            )
        found[text(dict(fields(tensor)).get(_TENSOR_NAME, 0)).partition(":")[0]] = str(path)
    return found


def reads_assets_only(
    op: str, nodes: Iterable[NodeDef], library: Mapping[str, FunctionDef], assets: Iterable[str]
) -> bool:
    """Whether every operation `op` that runs takes the name of its file from one of these tensors.

    Args:
        nodes: The nodes of the graph that run.
    """
    position = _READERS.get(op)
    if position is None:
        return False
    nodes = list(nodes)
    names = _with_variables({name: name for name in assets}, nodes)
    return all(_origins(op, position, nodes, library, {}, names, depth=0))


def _with_variables(assets: dict[str, str], nodes: list[NodeDef]) -> dict[str, str]:
    """Add to the asset tensors those that read a variable which holds nothing else and is handed to nobody."""
    holders: dict[str, str | None] = {}
    for node in nodes:
        inputs = [name.partition(":")[0] for name in node.input if not name.startswith("^")]
        if node.op == "AssignVariableOp" and len(inputs) > 1:
            held = assets.get(inputs[1])
            holders[inputs[0]] = held if holders.get(inputs[0], held) == held else None
            inputs = inputs[1:]
        elif node.op in ("ReadVariableOp", "VarIsInitializedOp"):
            continue
        holders.update({name: None for name in inputs if name in holders or _is_variable(name, nodes)})
    read = {
        node.name: holders.get(node.input[0].partition(":")[0])
        for node in nodes
        if node.op == "ReadVariableOp"
    }
    return assets | {name: held for name, held in read.items() if held is not None}


def _is_variable(name: str, nodes: list[NodeDef]) -> bool:
    return any(node.name == name and node.op == "VarHandleOp" for node in nodes)


def _origins(
    op: str,
    position: int,
    nodes: list[NodeDef],
    library: Mapping[str, FunctionDef],
    arguments: Mapping[str, str | None],
    assets: Mapping[str, str],
    depth: int,
) -> list[bool]:
    """For each `op` among the nodes and the functions that they call, whether its file is an asset."""
    by_name = {node.name: node for node in nodes}

    def origin(tensor: str) -> str | None:
        name = tensor.partition(":")[0]
        while name in by_name and by_name[name].op in _HANDS_ON and by_name[name].input:
            name = by_name[name].input[0].partition(":")[0]
        if name in arguments:
            return arguments[name]
        return assets.get(name) if depth == 0 else None

    found = []
    for node in nodes:
        inputs = [name for name in node.input if not name.startswith("^")]
        if node.op == op:
            found.append(position < len(inputs) and origin(inputs[position]) is not None)
        called = {name for value in node.attr.values() for name in called_functions(value)} | {node.op}
        for name in called & library.keys():
            function = library[name]
            given = [origin(tensor) for tensor in inputs]
            known = dict(zip((arg.name for arg in function.signature.input_arg), given, strict=False))
            found += _origins(op, position, list(function.node_def), library, known, assets, depth + 1)
    return found
