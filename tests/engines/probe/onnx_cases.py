"""ONNX graphs of one operation, for each thing that OpenVINO is known to make otherwise."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from tests.engines.probe.case import Case

OPSET = 19
LARGE = (1 << 24) + 1
Constant = np.ndarray[Any, Any]


def graph(
    nodes: Sequence[Any],
    inputs: dict[str, Any],
    outputs: dict[str, Any],
    constants: dict[str, Any],
    opset: int = OPSET,
) -> Callable[[Path], Path]:
    """A writer of a model; axes are open. `outputs` is alias -> numpy dtype."""

    def write(folder: Path) -> Path:
        value, of_dtype = helper.make_tensor_value_info, helper.np_dtype_to_tensor_dtype
        made = helper.make_graph(
            list(nodes),
            "probe",
            [
                value(alias, of_dtype(array.dtype), [f"{alias}{axis}" for axis in range(array.ndim)])
                for alias, array in inputs.items()
            ],
            [value(alias, of_dtype(np.dtype(dtype)), None) for alias, dtype in outputs.items()],
            [numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()],
        )
        path = folder / "probe.onnx"
        onnx.save(
            helper.make_model(made, opset_imports=[helper.make_opsetid("", opset)], ir_version=9), str(path)
        )
        return path

    return write


def case(
    op: str,
    values: dict[str, tuple[str, Any]],
    says: str,
    *,
    name: str = "",
    constants: dict[str, Any] | None = None,
    order: Sequence[str] = (),
    outputs: dict[str, str] | None = None,
    opset: int = OPSET,
    **attributes: Any,
) -> Case:
    """A case of one node; `order` names its inputs, "" for those that it leaves out."""
    arrays = {alias: np.array(value, dtype, order="C") for alias, (dtype, value) in values.items()}
    outputs = outputs or {"y": next(iter(values.values()))[0]}
    node = helper.make_node(op, list(order) or [*values, *(constants or {})], list(outputs), **attributes)
    write = graph([node], arrays, outputs, constants or {}, opset)
    return Case(name or f"{op} {' '.join(attributes)}".strip(), write, arrays, says)


_PICTURE = np.random.default_rng(0).random([1, 1, 16, 16], np.float32)
_SEQUENCE = np.ones([4, 2, 3], np.float32)
_RNG = np.random.default_rng(1)
_SIZES = np.array([1, 1, 5, 5])


def _recurrent(op: str, gates: int) -> Case:
    weights = {
        "w": _RNG.random([1, gates * 2, 3], np.float32),
        "r": _RNG.random([1, gates * 2, 2], np.float32),
    }
    return case(
        op, {"x": ("float32", _SEQUENCE), "lengths": ("int32", [4, 2])}, "lengths",
        name=f"{op} lengths", constants=weights, order=["x", "w", "r", "", "lengths"], hidden_size=2,
    )  # fmt: skip


def _resize(says: str, **attributes: Any) -> Case:
    return case(
        "Resize", {"x": ("float32", _PICTURE)}, says, name=f"Resize {' '.join(attributes)}",
        constants={"sizes": _SIZES}, order=["x", "", "", "sizes"], **attributes,
    )  # fmt: skip


ROWS = (
    _recurrent("LSTM", 4),
    _recurrent("GRU", 3),
    _recurrent("RNN", 1),
    _resize("antialias", antialias=1, mode="linear"),
    case("Resize", {"x": ("float32", np.arange(16.0).reshape(1, 1, 4, 4))}, "exclude_outside",
         name="Resize exclude_outside", constants={"scales": np.array([1, 1, 2, 2], np.float32)},
         order=["x", "", "scales"], mode="cubic", cubic_coeff_a=-0.5, exclude_outside=1),
    case("Resize", {"x": ("float32", _PICTURE)}, "keep_aspect_ratio_policy", name="Resize keep_aspect_ratio_policy",
         constants={"sizes": np.array([7, 8])}, order=["x", "", "", "sizes"], axes=[2, 3],
         keep_aspect_ratio_policy="not_larger", mode="nearest"),
    case("RoiAlign", {"x": ("float32", _PICTURE)}, "RoiAlign", name="RoiAlign max",
         constants={"rois": np.array([[0, 0, 9, 9]], np.float32), "batch": np.array([0])},
         mode="max", output_height=3, output_width=3, sampling_ratio=2),
    case("MaxPool", {"x": ("float32", _PICTURE[..., :2, :2])}, "padding", name="MaxPool ceil_mode",
         kernel_shape=[1, 1], strides=[2, 2], ceil_mode=1),
    case("DynamicQuantizeLinear", {"x": ("float32", [0, 2, -3, -2.5, 1.34, 0.5])}, "rounds",
         outputs={"y": "uint8", "scale": "float32", "zero": "uint8"}),
    case("BitShift", {"x": ("uint8", [200, 3])}, "shifts", constants={"n": np.array([1, 1], np.uint8)},
         direction="LEFT"),
    case("Unique", {"x": ("int64", [5, 1, 5, 3])}, "Unique", sorted=0),
    case("RandomUniformLike", {"x": ("float32", np.ones([4]))}, "random", seed=1.0),
)  # fmt: skip


def _integers() -> Iterator[Case]:
    pair = {"a": ("uint8", [200, 3]), "b": ("uint8", [100, 4])}
    for op in ("Add", "Mul"):
        yield case(op, pair, "saturation", name=f"{op} uint8")
    yield case("Sub", {"a": ("uint8", [3]), "b": ("uint8", [4])}, "saturation", name="Sub uint8")
    yield case(
        "Mul", {"a": ("int64", [3000])}, "int32", name="Mul int64", constants={"k": np.array([3_000_000])}
    )
    yield case("Div", {"a": ("uint8", [7]), "b": ("uint8", [2])}, "saturation", name="Div uint8")
    yield case("ReduceSum", {"a": ("int64", [LARGE, 1, 1])}, "computed", name="ReduceSum int64", keepdims=0)


INTEGERS = tuple(_integers())
CALLS: tuple[Case, ...] = (
    case("Relu", {"x": ("float32", [np.nan, 1])}, "", name="Relu of NaN"),
    case("Max", {"a": ("float32", [np.nan]), "b": ("float32", [2])}, "", name="Max of NaN"),
    case("ReduceMax", {"x": ("float32", [[-np.inf, -np.inf]])}, "", name="ReduceMax of infinities", axes=[1], opset=13),
    case("ReduceMean", {"x": ("float32", np.zeros([2, 0]))}, "", name="ReduceMean of nothing", axes=[1], opset=13),
    case("TopK", {"x": ("float32", [[0, 1, 1, 0, 1, 0, 0, 1, 1, 2]])}, "enough elements", name="TopK of equal values",
         constants={"k": np.array([4])}, outputs={"v": "float32", "i": "int64"}),
)  # fmt: skip
TAKEN: tuple[Case, ...] = (
    case("Gather", {"i": ("int64", [0, -1])}, "", name="embedding", constants={"table": np.eye(3, dtype=np.float32)},
         order=["table", "i"], outputs={"y": "float32"}),
    case("Cast", {"mask": ("int64", [0, 1])}, "", name="mask", to=1, outputs={"y": "float32"}),
    case("Resize", {"x": ("float32", _PICTURE)}, "", name="plain Resize", constants={"sizes": _SIZES},
         order=["x", "", "", "sizes"], mode="linear", antialias=0),
)  # fmt: skip
