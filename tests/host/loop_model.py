"""An ONNX model that runs for as long as its input says."""

from __future__ import annotations

from pathlib import Path

import pytest


def write_loop_model(path: Path) -> Path:
    """`count` (int64) is the number of steps, `sum` what they add up to: the same number."""
    onnx = pytest.importorskip("onnx", reason="needs onnx")
    make, types = onnx.helper, onnx.TensorProto
    body = make.make_graph(
        [
            make.make_node("Identity", ["goes_on"], ["goes_on_out"]),
            make.make_node("Add", ["so_far", "one"], ["so_far_out"]),
        ],
        "body",
        [
            make.make_tensor_value_info("step", types.INT64, []),
            make.make_tensor_value_info("goes_on", types.BOOL, []),
            make.make_tensor_value_info("so_far", types.INT64, []),
        ],
        [
            make.make_tensor_value_info("goes_on_out", types.BOOL, []),
            make.make_tensor_value_info("so_far_out", types.INT64, []),
        ],
        [make.make_tensor("one", types.INT64, [], [1])],
    )
    graph = make.make_graph(
        [make.make_node("Loop", ["count", "", "zero"], ["sum"], body=body)],
        "loop",
        [make.make_tensor_value_info("count", types.INT64, [])],
        [make.make_tensor_value_info("sum", types.INT64, [])],
        [make.make_tensor("zero", types.INT64, [], [0])],
    )
    model = make.make_model(graph, opset_imports=[make.make_opsetid("", 17)], ir_version=8)
    path.write_bytes(model.SerializeToString())
    return path
