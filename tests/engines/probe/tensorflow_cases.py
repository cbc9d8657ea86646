"""TensorFlow graphs of one operation, for each thing that OpenVINO is known to make otherwise."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from elastic_inference.engines.tensorflow_library import import_tensorflow
from tests.engines.probe.case import Case

Make = Callable[..., Any]
Values = Sequence[tuple[str, Any]]
LARGE = (1 << 24) + 1  # the first integer that float32 does not hold
NAN = np.nan


def graph(make: Make, dtypes: Sequence[str], ranks: Sequence[int]) -> Callable[[Path], Path]:
    """A writer of a frozen graph `x0`, `x1`, ... -> `y0`, `y1`, ...; axes are open."""

    def write(folder: Path) -> Path:
        tf = import_tensorflow()
        with tf.Graph().as_default() as made:
            inputs = [
                tf.compat.v1.placeholder(dtype, [None] * rank, name=f"x{index}")
                for index, (dtype, rank) in enumerate(zip(dtypes, ranks, strict=True))
            ]
            results = make(tf, *inputs)
            for index, result in enumerate(results if isinstance(results, list) else [results]):
                tf.identity(result, name=f"y{index}")
        path = folder / "graph.pb"
        path.write_bytes(made.as_graph_def().SerializeToString())
        return path

    return write


def case(name: str, make: Make, values: Values, says: str = "") -> Case:
    """A case of a graph; `values` are (dtype, nested list) of each input."""
    arrays = [np.array(value, dtype, order="C") for dtype, value in values]
    write = graph(make, [dtype for dtype, _ in values], [array.ndim for array in arrays])
    return Case(name, write, {f"x{i}": array for i, array in enumerate(arrays)}, says)


def _op(name: str, *names: str, **attributes: Any) -> Make:
    """The raw operation `name` with its inputs by name."""
    return lambda tf, *inputs: getattr(tf.raw_ops, name)(
        **dict(zip(names, inputs, strict=True)), **attributes
    )


def _asserted(tf: Any, x: Any) -> Any:
    @tf.function
    def checked(value: Any) -> Any:
        tf.debugging.assert_positive(value)
        return value * 2.0

    return checked(x)


def _mean_of_positive(tf: Any, x: Any) -> Any:
    return tf.reduce_mean(tf.boolean_mask(x, x > 0))


def _greedy(tf: Any, x: Any, lengths: Any) -> Any:
    _, probabilities = tf.nn.ctc_greedy_decoder(x, lengths)
    return probabilities


ROWS = (
    case("Assert", _asserted, [("float32", [-1])], "Assert"),
    case("mean of nothing", _mean_of_positive, [("float32", [-1, -2])], "no elements"),
    case("Unique", lambda tf, x: tf.unique(x).y, [("int32", [5, 1, 5, 3])], "Unique"),
    case("UniqueWithCounts", lambda tf, x: tf.unique_with_counts(x).y, [("int32", [5, 1, 5, 3])], "Unique"),
    case("CTCGreedyDecoder", _greedy, [("float32", np.eye(4)[:, None, :]), ("int32", [4])], "CTCGreedyDecoder"),
    case("LRN", _op("LRN", "input"), [("float32", np.arange(8.0).reshape(1, 1, 1, 8))], "LRN"),
    case("TopK unsorted", lambda tf, x: tf.math.top_k(tf.reshape(x, [2, 5]), 3, sorted=False).indices,
         [("float32", [[1, 3, 2, 9, 4], [2, 2, 2, 1, 0]])], "TopKV2"),
    case("TopK of too few", lambda tf, x: tf.math.top_k(x, 2).values, [("float32", [[1.0]])], "enough elements"),
    case("ScatterNd", lambda tf, i, u: tf.scatter_nd(i, u, [4]),
         [("int32", [[1], [1]]), ("float32", [1, 2])], "ScatterNd"),
    case("SparseToDense", lambda tf, i, v: tf.raw_ops.SparseToDense(
        sparse_indices=i, output_shape=[4], sparse_values=v, default_value=0.0),
         [("int32", [[2], [0]]), ("float32", [1, 2])], "SparseToDense"),
    case("Div int32", _op("Div", "x", "y"), [("int32", [-7, 7]), ("int32", [2, -2])], "Div"),
    case("UnsortedSegmentMax", lambda tf, x, i: tf.math.unsorted_segment_max(x, i, 3),
         [("float32", [1, 2, 3]), ("int32", [0, -1, 2])], "UnsortedSegmentMax"),
    case("MatrixInverse", _op("MatrixInverse", "input"), [("float32", [[1, 1], [1, 1]])], "no inverse"),
    case("InvertPermutation", _op("InvertPermutation", "x"), [("int32", [0, 0, 1])], "InvertPermutation"),
    case("SegmentSum", _op("SegmentSum", "data", "segment_ids"),
         [("float32", [1, 2, 3]), ("int32", [1, 0, 0])], "SegmentSum"),
    case("DynamicPartition", lambda tf, x, p: list(tf.dynamic_partition(x, p, 2)),
         [("float32", [1, 2]), ("int32", [0, 7])], "DynamicPartition"),
    case("Multinomial", lambda tf, x: tf.random.categorical(x, 64), [("float32", [[1, 2, 3]])], "random"),
    case("Tile of four axes", lambda tf, x, n: tf.tile(x, tf.reshape(n, [4])),
         [("float32", np.random.default_rng(0).random([2, 3, 2, 3])), ("int32", [9, 9, 9, 4])], "other memory"),
)  # fmt: skip


def _integers() -> Iterator[Case]:
    """One for each row of `kernels.ARITHMETIC` that a TensorFlow operation becomes."""
    for op in ("AddV2", "Sub", "Mul", "Maximum", "BitwiseAnd", "BitwiseOr", "BitwiseXor"):
        yield case(f"{op} of a constant beyond int32", _beyond(op), [("int64", [3])], "int32")
    yield case("Minimum beyond int32", lambda tf, x: tf.minimum(x, tf.constant([-3_000_000_000], "int64")),
               [("int64", [3])], "int32")  # fmt: skip
    for dtype, value in (("int8", 100), ("uint8", 200)):
        for op in ("AddV2", "Mul"):
            yield case(f"{op} {dtype}", _op(op, "x", "y"), [(dtype, [value]), (dtype, [value])], "saturation")
        yield case(f"Sum {dtype}", _op("Sum", "input", axis=[0]), [(dtype, [value, value])], "saturation")
    yield case("Sub uint8", _op("Sub", "x", "y"), [("uint8", [3]), ("uint8", [5])], "saturation")
    yield case("Neg int8", _op("Neg", "x"), [("int8", [-128])], "saturation")
    yield case("Abs int8", _op("Abs", "x"), [("int8", [-128])], "saturation")
    yield case("Prod int64", _op("Prod", "input", axis=[0]), [("int64", [1 << 20, 1 << 20])], "int32")
    yield case("Cumsum int64", _op("Cumsum", "x", axis=0), [("int64", [1 << 30] * 4)], "int32")
    yield case("LeftShift int64", lambda tf, x: tf.bitwise.left_shift(x, tf.constant([40], "int64")),
               [("int64", [3])], "int32")  # fmt: skip
    yield case("Sub float64", _op("Sub", "x", "y"), [("float64", [2e9 + 1]), ("float64", [2e9])], "float32")
    for op in ("Sum", "Max", "Mean"):
        yield case(f"{op} int32", _op(op, "input", axis=[0]), [("int32", [LARGE, LARGE, LARGE])], "float32")
    yield case("Min int32", _op("Min", "input", axis=[0]), [("int32", [LARGE])], "float32")
    yield case("L2 int32", _op("EuclideanNorm", "input", axis=[0]), [("int32", [1 << 20])], "float32")
    yield case("L1 int32", lambda tf, x: tf.reduce_sum(tf.abs(x)), [("int32", [LARGE, 1, 1])], "float32")
    yield case("MatMul int32", _op("MatMul", "a", "b"), [("int32", [[LARGE]]), ("int32", [[1]])], "float32")
    yield case("Pow int32", _op("Pow", "x", "y"), [("int32", [7]), ("int32", [11])], "float32")
    yield case("Relu int32", _op("Relu", "features"), [("int32", [LARGE])], "float32")
    yield case("FloorDiv by zero", _op("FloorDiv", "x", "y"), [("int32", [1]), ("int32", [0])], "division")
    yield case(
        "FloorMod int32", _op("FloorMod", "x", "y"), [("int32", [-(1 << 31)]), ("int32", [3])], "division"
    )
    yield case(
        "Mod int32", _op("TruncateMod", "x", "y"), [("int32", [-(1 << 31)]), ("int32", [3])], "division"
    )
    for op in ("Equal", "NotEqual", "Less", "LessEqual"):
        yield case(f"{op} int32", _op(op, "x", "y"),
                   [("int32", [1 << 24, LARGE]), ("int32", [LARGE, 1 << 24])], "float32")  # fmt: skip
    for dtype in ("int64", "uint32"):
        yield case(f"Cast to {dtype}", _op("Cast", "x", DstT=dtype), [("float32", [3e9])], "int32")
    for dtype in ("int8", "uint8"):
        yield case(f"Cast to {dtype}", _op("Cast", "x", DstT=dtype), [("float32", [300.0])], "saturation")


def _beyond(op: str) -> Make:
    return lambda tf, x: getattr(tf.raw_ops, op)(x=x, y=tf.constant([3_000_000_000], "int64"))


INTEGERS = tuple(_integers())

# The model is taken, and the call is not answered with another number.
CALLS = (
    *(
        case(f"{op} of NaN", _op(op, name), [("float32", [[1.0, NAN, -2.0]])])
        for op, name in (("Relu", "features"), ("Relu6", "features"), ("Exp", "x"), ("Expm1", "x"),
                         ("LogSoftmax", "logits"))
    ),
    *(
        case(f"{op} of NaN", _op(op, "input", axis=[1]), [("float32", [[1.0, NAN, -3.0]])])
        for op in ("Max", "Min")
    ),
    *(
        case(f"{op} of NaN", _op(op, "x", "y"), [("float32", [NAN]), ("float32", [2.0])])
        for op in ("Maximum", "Minimum", "Greater", "GreaterEqual")
    ),
    case("ArgMax of NaN", _op("ArgMax", "input", dimension=1), [("float32", [[1, NAN, 5]])]),
    case("Clip of NaN", lambda tf, x: tf.clip_by_value(x, -1.0, 1.0), [("float32", [NAN])]),
    case("Cast of NaN", _op("Cast", "x", DstT="bool"), [("float32", [NAN])]),
    case("Max of infinities", _op("Max", "input", axis=[1]), [("float32", [[-np.inf, -np.inf]])]),
    case("LogSoftmax of infinities", _op("LogSoftmax", "logits"), [("float32", [[np.inf, 1.0]])]),
    case("Mean of an empty input", _op("Mean", "input", axis=[1]), [("float32", np.zeros([2, 0]))]),
    case("Max of an empty input", _op("Max", "input", axis=[1]), [("float32", np.zeros([2, 0]))]),
    case("MaxPool of an empty input",
         lambda tf, x: tf.nn.max_pool2d(tf.reshape(x, [-1, 3, 3, 1]), 2, 2, "SAME"),
         [("float32", np.zeros([0, 3, 3, 1]))]),
    case("Gather beyond the end", lambda tf, i: tf.gather(tf.constant([[1.0], [2.0]]), i), [("int32", [5])]),
    case("Gather before the start", lambda tf, i: tf.gather(tf.constant([[1.0], [2.0]]), i), [("int32", [-1])]),
    case("int64 beyond int32", lambda tf, x: tf.identity(tf.reshape(x, [-1])), [("int64", [1 << 40])]),
    case("failed assertion", lambda tf, x: _with_assert(tf, x), [("float32", [-1.0])]),
    case("TopK of equal values", lambda tf, x: tf.math.top_k(x, 4).indices[:, :4],
         [("float32", np.tile([0, 1, 1, 0], [1, 5]))], "enough elements"),
)  # fmt: skip


def _with_assert(tf: Any, x: Any) -> Any:
    with tf.control_dependencies([tf.raw_ops.Assert(condition=tf.reduce_all(x > 0), data=["positive"])]):
        return tf.identity(x * 2.0)


# Ordinary models, which stay on OpenVINO.
TAKEN = (
    case("embedding", lambda tf, i: tf.gather(tf.constant([[1.0], [2.0]]), i), [("int64", [0, 1])]),
    case("mask of ids", lambda tf, i: tf.cast(tf.not_equal(i, 0), "float32") * -1e4, [("int64", [0, 7])]),
    case("count of ids", lambda tf, i: tf.reduce_sum(tf.cast(i > 0, "int64")), [("int64", [0, 7])]),
    case("positions", lambda tf, i: tf.cumsum(tf.cast(tf.not_equal(i, 0), "int32")) + 1, [("int32", [0, 7])]),
    case("ArgMax", lambda tf, x: tf.argmax(x, 1) + 1, [("float32", [[1, 2, 3]])]),
    case("shape arithmetic", lambda tf, x: tf.reshape(x, [tf.shape(x, "int64")[0] * 2, -1]),
         [("float32", [[1, 2], [3, 4]])]),
    case("picture", lambda tf, x: tf.cast(tf.clip_by_value(tf.cast(x, "float32") * 1.5, 0.0, 255.0), "uint8"),
         [("uint8", [[1, 200]])]),
    case("loop", lambda tf, x: tf.while_loop(lambda i, _: i < 3, lambda i, v: (i + 1, v * 2.0), (0, x))[1],
         [("float32", [1.0])]),
    case("hour of the day", lambda tf, x: tf.cast(tf.cast(x, "float32") / 3600.0, "int32"), [("int32", [7200])]),
)  # fmt: skip
