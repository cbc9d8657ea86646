"""How OpenVINO's CPU plugin computes operations on integers and NaN: tables of what `arithmetic` looks for.

Seen with OpenVINO 2026.4: int64, uint64 and uint32 are computed in int32 and float64 in float32; sums of int8 and uint8
saturate where others wrap; some operations take integers through float32, which holds them up to 2**24; and NaN gets
lost. A test has a model for each row, which fails when a newer OpenVINO computes it right.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum

from elastic_inference.engines import value_bounds as bounds
from elastic_inference.engines.value_bounds import ANYTHING, Bound

INT32 = (-(2.0**31), 2.0**31 - 1)
FLOAT32_INTEGERS = 2.0**24
RANGES = {
    "i8": (-128.0, 127.0), "u8": (0.0, 255.0), "i16": (-32768.0, 32767.0), "u16": (0.0, 65535.0),
    "i32": INT32, "u32": (0.0, 2.0**32 - 1), "i64": (-(2.0**63), 2.0**63 - 1), "u64": (0.0, 2.0**64 - 1),
    "boolean": (0.0, 1.0),
}  # fmt: skip
# What an operation's result is held in; the others wrap as they should.
HELD_IN = {"i64": INT32, "u64": INT32, "u32": INT32, "i8": RANGES["i8"], "u8": RANGES["u8"]}
HOW = {
    "i64": "in int32", "u64": "in int32", "u32": "in int32",
    "i8": "with saturation, where it should wrap", "u8": "with saturation, where it should wrap",
}  # fmt: skip
NAMES = {
    "i8": "int8", "u8": "uint8", "i16": "int16", "u16": "uint16", "i32": "int32", "u32": "uint32",
    "i64": "int64", "u64": "uint64", "f64": "float64", "f16": "float16", "bf16": "bfloat16",
}  # fmt: skip


class Kernel(Enum):
    """How the plugin computes an operation on integers."""

    INTEGER = "as integers, of 32 bits at most"
    FLOAT32 = "through float32"
    DIVISION = "through float32, and division by zero gives a number"
    COMPARISON = "through float32, which takes large numbers for equal"  # one small side makes it right


@dataclass(frozen=True)
class Arithmetic:
    """One row: an operation on integers.

    Attributes:
        result: The bound of its result from those of its inputs, and how many numbers a reduction takes together.
        num_operands: How many of its inputs are numbers that it computes with.
    """

    kernel: Kernel
    result: Callable[[Sequence[Bound], int | None], Bound]
    num_operands: int = 1


def _pair(kernel: Kernel, operation: Callable[[Bound, Bound], Bound]) -> Arithmetic:
    return Arithmetic(kernel, lambda inputs, _: operation(inputs[0], inputs[1]), num_operands=2)


def _first(inputs: Sequence[Bound], _: int | None) -> Bound:
    return inputs[0]


def _product(a: Bound) -> Bound:
    if a.factor is not None or a.is_constant:
        return a
    return a if a.magnitude <= 1 else ANYTHING


ARITHMETIC: dict[str, Arithmetic] = {
    "Add": _pair(Kernel.INTEGER, bounds.add),
    "Subtract": _pair(Kernel.INTEGER, lambda a, b: bounds.add(a, bounds.negate(b))),
    "Multiply": _pair(Kernel.INTEGER, bounds.multiply),
    "Negative": Arithmetic(Kernel.INTEGER, lambda inputs, _: bounds.negate(inputs[0])),
    "Abs": Arithmetic(Kernel.INTEGER, lambda inputs, _: bounds.absolute(inputs[0])),
    "Maximum": _pair(Kernel.INTEGER, bounds.maximum),
    "Minimum": _pair(Kernel.INTEGER, bounds.minimum),
    "ReduceProd": Arithmetic(Kernel.INTEGER, lambda inputs, _: _product(inputs[0])),
    "CumSum": Arithmetic(Kernel.INTEGER, lambda inputs, _: bounds.sum_of(inputs[0], None)),
    "BitwiseAnd": _pair(Kernel.INTEGER, bounds.join),
    "BitwiseOr": _pair(Kernel.INTEGER, bounds.join),
    "BitwiseXor": _pair(Kernel.INTEGER, bounds.join),
    "BitwiseLeftShift": _pair(Kernel.INTEGER, lambda a, b: bounds.multiply(a, bounds.power(Bound(2, 2), b))),
    "ReduceSum": Arithmetic(Kernel.FLOAT32, lambda inputs, count: bounds.sum_of(inputs[0], count)),
    "ReduceMean": Arithmetic(Kernel.FLOAT32, lambda inputs, count: bounds.sum_of(inputs[0], count)),
    "ReduceMax": Arithmetic(Kernel.FLOAT32, _first),
    "ReduceMin": Arithmetic(Kernel.FLOAT32, _first),
    "ReduceL1": Arithmetic(Kernel.FLOAT32, lambda inputs, count: bounds.sum_of(inputs[0], count)),
    "ReduceL2": Arithmetic(
        Kernel.FLOAT32, lambda inputs, count: bounds.sum_of(bounds.multiply(inputs[0], inputs[0]), count)
    ),
    "MatMul": _pair(Kernel.FLOAT32, lambda a, b: bounds.sum_of(bounds.multiply(a, b), None)),
    "Power": _pair(Kernel.FLOAT32, bounds.power),
    "SquaredDifference": _pair(
        Kernel.FLOAT32, lambda a, b: bounds.power(bounds.add(a, bounds.negate(b)), Bound(2, 2))
    ),
    "Relu": Arithmetic(Kernel.FLOAT32, lambda inputs, _: bounds.maximum(inputs[0], Bound(0, 0))),
    "Clamp": Arithmetic(Kernel.FLOAT32, _first),
    "TopK": Arithmetic(Kernel.FLOAT32, _first),
    "Divide": _pair(Kernel.DIVISION, bounds.divide),
    "FloorMod": _pair(Kernel.DIVISION, bounds.remainder),
    "Mod": _pair(Kernel.DIVISION, bounds.remainder),
    **{
        name: _pair(Kernel.COMPARISON, lambda _, __: Bound(0, 1))
        for name in ("Equal", "NotEqual", "Less", "LessEqual", "Greater", "GreaterEqual")
    },
}
"""Operations on integers by OpenVINO's name; others hand numbers on, or their results are sizes or anything."""

HANDS_ON = frozenset({
    "Reshape", "Transpose", "Squeeze", "Unsqueeze", "Gather", "GatherND", "GatherElements", "Slice",
    "StridedSlice", "Split", "VariadicSplit", "Broadcast", "Tile", "Reverse", "Roll", "ReverseSequence",
    "DepthToSpace", "SpaceToDepth", "BatchToSpace", "SpaceToBatch", "Result", "MaxPool", "Floor", "Ceiling",
    "Round", "Identity", "ShuffleChannels", "ExtractImagePatches", "Col2Im",
})  # fmt: skip
JOINS = {
    "Concat": None, "Select": (1, 2), "Pad": (0, 3), "ScatterUpdate": (0, 2), "ScatterNDUpdate": (0, 2),
    "ScatterElementsUpdate": (0, 2), "OneHot": (2, 3),
}  # fmt: skip
SIZES = frozenset({
    "ShapeOf", "Rank", "NonZero", "NonMaxSuppression", "MulticlassNms", "MatrixNms", "Range", "Bucketize",
    "SearchSorted", "Unique", "CTCGreedyDecoderSeqLen",
})  # fmt: skip
FLOAT_RANGES = {
    "Sigmoid": Bound(0, 1), "Softmax": Bound(0, 1), "SoftMax": Bound(0, 1), "Tanh": Bound(-1, 1),
    "HardSigmoid": Bound(0, 1), "Sin": Bound(-1, 1), "Cos": Bound(-1, 1),
}  # fmt: skip
KEEPS_NAN = frozenset({
    "Parameter", "Constant", "Result", "Add", "Subtract", "Multiply", "Divide", "Negative", "Abs", "MatMul",
    "Convolution", "GroupConvolution", "ConvolutionBackpropData", "Reshape", "Transpose", "Squeeze",
    "Unsqueeze", "Concat", "Slice", "StridedSlice", "Split", "VariadicSplit", "Broadcast", "Tile", "Pad",
    "Gather", "GatherND", "ShapeOf", "Identity", "Sqrt", "ReduceSum", "Sigmoid", "Tanh", "Reverse", "CumSum",
})  # fmt: skip
"""Operations that give NaN for NaN; of the others some do not, and a model that has one may lose NaN."""
