"""What OpenVINO reads otherwise than a model says, by the model's own operations and their attributes: data, and tests.

These are the operations whose meaning is lost when OpenVINO reads a graph; what it then computes in other numbers is in
`arithmetic`. Found by running each against its own runtime, with OpenVINO 2026.4. A test has a model for each
row, and fails when a newer OpenVINO computes it right, so that the row can go.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from elastic_inference.models.source_nodes import SourceNode

Condition = Callable[[SourceNode], bool]
_INTEGERS = ("int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64")
_SMALL_FLOATS = (17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28)  # ONNX numbers of dtypes of 8 bits and fewer
_ONNX_DOMAINS = ("",)


@dataclass(frozen=True)
class Row:
    """One thing that OpenVINO makes otherwise.

    Attributes:
        ops: Names of operations that share it.
        says: What becomes of it, as the end of a sentence that begins with the operation.
        when: Which of them; None: all.
    """

    ops: tuple[str, ...]
    says: str
    when: Condition | None = None


def _has(name: str, *values: Any) -> Condition:
    return lambda node: node.attributes.get(name) in values


def _lacks(name: str, *values: Any) -> Condition:
    return lambda node: node.attributes.get(name, values[0]) not in values


def _takes(index: int) -> Condition:
    return lambda node: node.has_input(index)


def _gives(index: int) -> Condition:
    return lambda node: len(node.outputs) > index and node.outputs[index] != ""


def _any(*conditions: Condition) -> Condition:
    return lambda node: any(condition(node) for condition in conditions)


def _has_window(node: SourceNode) -> bool:
    return any("window" in name for name in node.attributes)


def _ends_in_padding(node: SourceNode) -> bool:
    """Whether a window of a pooling that rounds up may begin in the padding, where it should be left out."""
    kernel = node.attributes.get("kernel_shape") or ()
    strides = node.attributes.get("strides") or [1] * len(kernel)
    pads = node.attributes.get("pads") or [0] * (2 * len(kernel))
    ends = pads[len(kernel) :]
    return node.attributes.get("ceil_mode") == 1 and any(
        stride + end > size for size, stride, end in zip(kernel, strides, ends, strict=False)
    )


_RANDOM = "draws other random numbers"
_PARTLY_USED = "gives other values where not all of its outputs are used"
_UNORDERED = "does not check the order of its segments"
_SMALL = "holds small floats and integers of 4 bits otherwise"

TENSORFLOW_ROWS = (
    Row(("Unique", "UniqueWithCounts", "UniqueV2", "UniqueWithCountsV2"), _PARTLY_USED),
    Row(("CTCGreedyDecoder",), "gives its log probabilities with another rank"),
    Row(("CTCBeamSearchDecoder",), "decodes otherwise"),
    Row(("LRN",), "normalizes over another window"),
    Row(("TopKV2", "TopK"), "orders unsorted results otherwise", _has("sorted", False)),
    Row(("ScatterNd",), "keeps one of the values for one place, where they should be added up"),
    Row(("SparseToDense",), "does not check its indices", _lacks("validate_indices", False)),
    Row(("Div",), "rounds negative integers otherwise", _has("T", *_INTEGERS)),
    Row(("CheckNumerics", "CheckNumericsV2"), "is left out"),
    Row(("EnsureShape",), "is left out"),
    Row(("UnsortedSegmentMax", "UnsortedSegmentMin", "UnsortedSegmentProd"), "ends the process on negative segments"),
    Row(("MatrixInverse",), "gives numbers for a matrix that has no inverse"),
    Row(("InvertPermutation",), "does not check its values"),
    Row(("SegmentSum", "SegmentMax", "SegmentMin", "SegmentMean", "SegmentProd"), _UNORDERED),
    Row(("DynamicPartition",), "does not check its partitions"),
    Row(
        ("Multinomial", "RandomUniform", "RandomUniformInt", "RandomStandardNormal", "TruncatedNormal", "RandomShuffle",
         "RandomGamma", "RandomPoissonV2", "StatelessMultinomial", "StatelessRandomUniform", "StatelessRandomNormal"),
        _RANDOM,
    ),
)  # fmt: skip

ONNX_ROWS = (
    Row(("LSTM", "GRU", "RNN"), "ignores the lengths of its sequences", _takes(4)),
    Row(("RNN",), "computes the batch-first layout otherwise", _has("layout", 1)),
    Row(("Resize",), "ignores antialias", _has("antialias", 1)),
    Row(("Resize",), "ignores exclude_outside", _has("exclude_outside", 1)),
    Row(("Resize",), "ignores keep_aspect_ratio_policy", _lacks("keep_aspect_ratio_policy", "stretch")),
    Row(("Upsample",), "takes the position of pixels otherwise", _lacks("mode", "nearest")),
    Row(("RoiAlign",), "computes mode max otherwise", _has("mode", "max")),
    Row(("MaxPool", "AveragePool", "LpPool"), "counts windows that begin in the padding", _ends_in_padding),
    Row(("SpaceToDepth",), "ignores mode CRD", _has("mode", "CRD")),
    Row(("DFT",), "gives another shape", _any(_has("onesided", 1), _has("inverse", 1))),
    Row(("DynamicQuantizeLinear",), "rounds otherwise"),
    Row(("BitShift",), "shifts signed and 8-bit integers otherwise"),
    Row(("TopK",), "orders equal values otherwise"),
    Row(("Unique",), _PARTLY_USED),
    Row(("Cast", "CastLike", "QuantizeLinear"), _SMALL, _has("to", *_SMALL_FLOATS)),
    Row(("QuantizeLinear", "DequantizeLinear"), _SMALL, _has("output_dtype", *_SMALL_FLOATS)),
    Row(("Attention",), "ignores windows of attention", _any(_gives(3), _has_window)),
    Row(("BatchNormalization",), "does not normalize by the batch", _has("training_mode", 1)),
    Row(
        ("RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Multinomial", "Bernoulli"),
        _RANDOM,
    ),
)  # fmt: skip


def differences(nodes: Iterable[SourceNode], rows: Iterable[Row]) -> list[str]:
    """Return a sentence for each operation that has a row, each kind once."""
    rows_of: dict[str, list[Row]] = {}
    for row in rows:
        for op in row.ops:
            rows_of.setdefault(op, []).append(row)
    found: dict[tuple[str, str], str] = {}
    for node in nodes:
        if node.domain not in _ONNX_DOMAINS:
            continue
        for row in rows_of.get(node.op, ()):
            if row.when is None or row.when(node):
                found.setdefault((node.op, row.says), f"{node.op} ({node.name!r}) {row.says}")
    return list(found.values())
