"""SavedModels of one architecture with their own weights, written without TensorFlow."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from elastic_inference.models import graph_pb2
from tests.integration.tiny_model import DTYPES, operation, placeholder

NUM_INPUTS, NUM_OUTPUTS = 4, 3
SIGNATURES = ("serving_default", "shifted", "both")


def weights(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """float32[4, 3] and float32[3] of the model of this seed."""
    rng = np.random.default_rng(seed)
    shapes = ((NUM_INPUTS, NUM_OUTPUTS), (NUM_OUTPUTS,))
    return rng.standard_normal(shapes[0], np.float32), rng.standard_normal(shapes[1], np.float32)


def expected(seed: int, signature: str, x: np.ndarray) -> dict[str, np.ndarray]:
    """What the model of this seed answers."""
    w, b = weights(seed)
    plain, shifted = x @ w, x @ w + b
    return {
        "serving_default": {"outputs": plain},
        "shifted": {"outputs": shifted},
        "both": {"plain": plain, "shifted": shifted},
    }[signature]


def write_saved_model(folder: Path, seed: int) -> Path:
    """Write the model of this seed: `x` float32[?, 4]; outputs as `expected` has them."""
    w, b = weights(seed)
    product = operation("product", "MatMul", ["x", "w"], "float32")
    for name in ("transpose_a", "transpose_b"):
        product.attr[name].b = False
    nodes = [
        placeholder("x", "float32", [-1, NUM_INPUTS]),
        _constant("w", w),
        _constant("b", b),
        product,
        operation("sum", "AddV2", ["product", "b"], "float32"),
    ]
    model = graph_pb2.SavedModel(saved_model_schema_version=1)
    meta_graph = model.meta_graphs.add()
    meta_graph.meta_info_def.tags.append("serve")
    meta_graph.graph_def.node.extend(nodes)
    meta_graph.graph_def.versions.producer = 1087
    outputs = {
        "serving_default": {"outputs": "product"},
        "shifted": {"outputs": "sum"},
        "both": {"plain": "product", "shifted": "sum"},
    }
    for key, names in outputs.items():
        signature = meta_graph.signature_def[key]
        _describe(signature.inputs["x"], "x", NUM_INPUTS)
        for alias, name in names.items():
            _describe(signature.outputs[alias], name, NUM_OUTPUTS)
    folder.mkdir(parents=True)
    (folder / "saved_model.pb").write_bytes(model.SerializeToString())
    return folder


def _describe(info: graph_pb2.TensorInfo, name: str, width: int) -> None:
    info.name, info.dtype = f"{name}:0", DTYPES["float32"]
    info.tensor_shape.dim.extend(graph_pb2.TensorShapeProto.Dim(size=size) for size in (-1, width))


def _constant(name: str, value: np.ndarray) -> graph_pb2.NodeDef:
    node = graph_pb2.NodeDef(name=name, op="Const")
    node.attr["dtype"].type = DTYPES["float32"]
    shape = graph_pb2.TensorShapeProto(
        dim=[graph_pb2.TensorShapeProto.Dim(size=size) for size in value.shape]
    )
    # Our messages leave constants out: TensorProto's dtype (1), shape (2) and content (4) in AttrValue's field 8.
    tensor = (
        bytes([0x08, DTYPES["float32"]]) + _field(2, shape.SerializeToString()) + _field(4, value.tobytes())
    )
    node.attr["value"].MergeFromString(_field(8, tensor))
    return node


def _field(number: int, content: bytes) -> bytes:
    assert len(content) < 128  # so that its length is one byte
    return bytes([number << 3 | 2, len(content)]) + content
