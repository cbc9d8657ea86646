"""ONNX models of known cost with made-up weights: right for speed, meaningless as models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from onnx import NodeProto, TensorProto, checker, helper, numpy_helper, save

_OPSET = 17
_STAGES = ((64, 3), (128, 4), (256, 6), (512, 3))  # of ResNet-50: width and number of blocks


class _Graph:
    """Nodes one after the other, and their weights."""

    def __init__(self) -> None:
        self._random = np.random.default_rng(1)
        self._nodes: list[NodeProto] = []
        self._weights: list[TensorProto] = []

    def op(self, op: str, *inputs: str, **attributes: Any) -> str:
        """Add an operation; the name of its output."""
        name = f"{op.lower()}_{len(self._nodes)}"
        self._nodes.append(helper.make_node(op, [*inputs], [name], name=name, **attributes))
        return name

    def weight(self, *shape: int) -> str:
        """Add a tensor whose products neither grow nor fade from layer to layer."""
        name = f"weight_{len(self._weights)}"
        fan_in = int(np.prod(shape[1:])) if len(shape) > 2 else shape[0]
        values = self._random.standard_normal(shape, np.float32) * np.float32((2 / fan_in) ** 0.5)
        self._weights.append(numpy_helper.from_array(values, name))
        return name

    def save(self, path: Path, inputs: tuple[Any, ...], output: str, outputs: tuple[Any, ...]) -> Path:
        """Write the model from `x` to `y`, whose shapes are given."""
        self._nodes.append(helper.make_node("Identity", [output], ["y"]))
        graph = helper.make_graph(
            self._nodes,
            path.stem,
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, inputs)],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, outputs)],
            self._weights,
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=8)
        checker.check_model(model)
        save(model, str(path))
        return path


def dense(path: Path, width: int = 2048, num_layers: int = 4) -> Path:
    """`y` float32[N, width] of `x` float32[N, width]: a run reads all weights (67 MB), however few rows it has."""
    graph, last = _Graph(), "x"
    for _ in range(num_layers):
        last = graph.op("Relu", graph.op("MatMul", last, graph.weight(width, width)))
    return graph.save(path, ("N", width), last, ("N", width))


def resnet50(path: Path) -> Path:
    """`y` float32[N, 1000] of `x` float32[N, 3, 224, 224]: ResNet-50 v1.5, batch normalization folded."""
    graph = _Graph()

    def convolution(last: str, num_in: int, num_out: int, size: int, stride: int = 1) -> str:
        pad = size // 2
        return graph.op(
            "Conv", last, graph.weight(num_out, num_in, size, size), strides=[stride] * 2, pads=[pad] * 4
        )

    last = graph.op("Relu", convolution("x", 3, 64, 7, 2))
    last = graph.op("MaxPool", last, kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4)
    num_channels = 64
    for width, num_blocks in _STAGES:
        for block in range(num_blocks):
            stride = 2 if block == 0 and width > 64 else 1
            branch = graph.op("Relu", convolution(last, num_channels, width, 1))
            branch = graph.op("Relu", convolution(branch, width, width, 3, stride))
            branch = convolution(branch, width, 4 * width, 1)
            if block == 0:
                last = convolution(last, num_channels, 4 * width, 1, stride)
            last, num_channels = graph.op("Relu", graph.op("Add", branch, last)), 4 * width
    pooled = graph.op("Flatten", graph.op("GlobalAveragePool", last))
    logits = graph.op("MatMul", pooled, graph.weight(num_channels, 1000))
    return graph.save(path, ("N", 3, 224, 224), graph.op("Softmax", logits, axis=-1), ("N", 1000))
