"""What a part of a TensorFlow graph computes, one operation after the other, in numpy.

The part is the body of a loop over images: a few thousand operations on small tensors and no weights. It is evaluated
as it stands in the model, so that what takes its place can be held against it without TensorFlow and without the
engine's own reading of it. Operations that are not listed here are not evaluated, and such a part is left as it is.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from elastic_inference.engines.openvino.rewrites.graph import (
    Array,
    Graph,
    Tensor,
    array_of,
    attribute,
    dtype_of,
    inputs_of,
)
from elastic_inference.models.graph_pb2 import NodeDef

Kernel = Callable[[NodeDef, Sequence[Array]], Sequence[Array]]
_MAX_ELEMENTS = 1 << 24  # of a tensor; a damaged constant could ask for any size
_MOST_OUTPUTS = 3  # of an operation that does not say how many it has


class NotEvaluated(Exception):
    """The part has an operation or values that are not evaluated here; the text says which."""


class Evaluation:
    """A part of a graph, to be evaluated several times.

    Args:
        outputs: What to compute.
        feeds: Tensors whose values will be given.

    Raises:
        NotEvaluated: It has operations that are not evaluated here, or goes in circles.
    """

    def __init__(self, graph: Graph, outputs: Iterable[Tensor], feeds: Iterable[Tensor]) -> None:
        self._outputs = list(outputs)
        nodes = _in_order(graph, self._outputs, set(feeds))
        unknown = sorted({node.op for node in nodes} - KERNELS.keys() - {"Const", "Switch", "Merge"})
        if unknown:
            raise NotEvaluated(f"it has operations that are not evaluated: {', '.join(unknown)}")
        self._constants = {(node.name, 0): _constant(node) for node in nodes if node.op == "Const"}
        self._steps = [(node, node.op, inputs_of(node)) for node in nodes if node.op != "Const"]

    def run(self, feeds: Mapping[Tensor, Array]) -> list[Array]:
        """Return the outputs.

        Raises:
            NotEvaluated: The values do not fit the operations.
        """
        known: dict[Tensor, Array | None] = {
            **feeds,
            **self._constants,
        }  # None: in a branch that is not taken
        with np.errstate(all="ignore"):
            for node, op, inputs in self._steps:
                try:
                    _run(node, op, [known[tensor] for tensor in inputs], known)
                except (ValueError, IndexError, TypeError, ArithmeticError, MemoryError, KeyError) as error:
                    raise NotEvaluated(f"{node.name!r} ({op}) does not take the samples: {error}") from error
        results = [known[tensor] for tensor in self._outputs]
        if any(result is None for result in results):
            raise NotEvaluated("an output comes from a branch that is not taken")
        return [result for result in results if result is not None]


def _run(node: NodeDef, op: str, given: list[Array | None], known: dict[Tensor, Array | None]) -> None:
    """Run one operation and write down what it gives."""
    if op == "Merge":
        known[node.name, 0] = next((value for value in given if value is not None), None)
    elif op == "Switch":
        value, taken = given
        is_true = taken is not None and bool(taken.reshape(()))
        known[node.name, 0] = None if is_true or taken is None else value
        known[node.name, 1] = value if is_true else None
    elif None in [value if value is None else 0 for value in given]:
        count = max(_MOST_OUTPUTS, int(attribute(node, "num").i), int(attribute(node, "num_split").i))
        known.update({(node.name, index): None for index in range(count)})
    else:
        for index, result in enumerate(KERNELS[op](node, given)):  # type: ignore[arg-type]
            if result.size > _MAX_ELEMENTS:
                raise ValueError(f"it has {result.size} elements")
            known[node.name, index] = result


def _in_order(graph: Graph, outputs: Iterable[Tensor], feeds: set[Tensor]) -> list[NodeDef]:
    """Return the nodes that the outputs need, each after those whose values it takes."""
    order: list[NodeDef] = []
    state: dict[str, bool] = {}  # False: begun, True: in the order
    pending = [tensor for tensor in outputs if tensor not in feeds]
    while pending:
        tensor = pending[-1]
        node = graph.nodes.get(tensor[0])
        if node is None:
            raise NotEvaluated(f"there is no node {tensor[0]!r}")
        wanted = [t for t in inputs_of(node) if t not in feeds and not state.get(t[0], False)]
        if state.get(node.name) or not wanted:
            pending.pop()
            if not state.get(node.name):
                state[node.name] = True
                order.append(node)
        elif node.name in state:
            raise NotEvaluated(f"its operations go in a circle at {node.name!r}")
        else:
            state[node.name] = False
            pending += wanted
    return order


def _constant(node: NodeDef) -> Array:
    value = array_of(attribute(node, "value").tensor)
    return (
        np.zeros(0, np.int32) if value is None else value
    )  # texts of assertions, which nothing computes with


def _of(function: Callable[..., Any]) -> Kernel:
    """Return a kernel of a function of the inputs alone; several outputs are a list."""

    def kernel(_: NodeDef, inputs: Sequence[Array]) -> Sequence[Array]:
        result = function(*inputs)
        return result if isinstance(result, list) else [np.asarray(result)]

    return kernel


def _same(function: np.ufunc) -> Kernel:
    """Return a kernel whose result has the dtype of its last input."""
    return _of(lambda *inputs: np.asarray(_applied(function, inputs)).astype(inputs[-1].dtype, copy=False))


def _test(function: np.ufunc) -> Kernel:
    return _of(lambda *inputs: np.asarray(_applied(function, inputs), dtype=np.bool_))


def _applied(function: np.ufunc, inputs: Sequence[Array]) -> Any:
    if len(inputs) != function.nin:  # numpy would write its result into one more
        raise ValueError(f"{len(inputs)} inputs for {function.nin}")
    return function(*inputs)


def _int_of(value: Array) -> int:
    """Read a tensor of one number."""
    return int(value.reshape(()))


def _int(node: NodeDef, values: Any) -> Array:
    """Sizes and positions, in the dtype that the node names."""
    return np.asarray(values, dtype_of(attribute(node, "out_type")) or np.int32)


def _strided_slice(node: NodeDef, inputs: Sequence[Array]) -> list[Array]:
    value, begin, end, strides = inputs
    masks = {
        name: int(attribute(node, f"{name}_mask").i)
        for name in ("begin", "end", "ellipsis", "new_axis", "shrink_axis")
    }
    index: list[Any] = []
    for axis in range(len(begin)):
        bit = 1 << axis
        if masks["ellipsis"] & bit:
            index.append(Ellipsis)
        elif masks["new_axis"] & bit:
            index.append(np.newaxis)
        elif masks["shrink_axis"] & bit:
            index.append(int(begin[axis]))
        else:
            first = None if masks["begin"] & bit else int(begin[axis])
            last = None if masks["end"] & bit else int(end[axis])
            index.append(slice(first, last, int(strides[axis])))
    return [np.asarray(value[tuple(index)])]


def _slice(value: Array, begin: Array, size: Array) -> Array:
    if len(begin) != value.ndim or len(size) != value.ndim:
        raise ValueError(f"a slice of {len(begin)} axes from a tensor of {value.ndim}")
    starts = [int(start) for start in begin]
    ends = [
        length if int(count) < 0 else start + int(count)
        for start, count, length in zip(starts, size, value.shape, strict=True)
    ]
    if any(end > length for end, length in zip(ends, value.shape, strict=True)):
        raise ValueError("a slice beyond the end")
    return value[tuple(slice(start, end) for start, end in zip(starts, ends, strict=True))]


def _squeeze(node: NodeDef, inputs: Sequence[Array]) -> list[Array]:
    axes = tuple(int(axis) for axis in attribute(node, "squeeze_dims").list.i)
    return [np.squeeze(inputs[0], axes or None)]


def _unpack(node: NodeDef, inputs: Sequence[Array]) -> list[Array]:
    axis, count = int(attribute(node, "axis").i), int(attribute(node, "num").i)
    if inputs[0].shape[axis] != count:
        raise ValueError(f"{inputs[0].shape[axis]} parts where {count} are wanted")
    return list(np.moveaxis(inputs[0], axis, 0))


def _gather(node: NodeDef, inputs: Sequence[Array]) -> list[Array]:
    axis = _int_of(inputs[2]) if len(inputs) > 2 else 0
    if int(attribute(node, "batch_dims").i) or (inputs[1].size and int(inputs[1].min()) < 0):
        raise ValueError("batch_dims or negative positions")
    return [np.take(inputs[0], inputs[1], axis)]


def _top_k(values: Array, count: Array) -> list[Array]:
    if _int_of(count) > values.shape[-1]:
        raise ValueError(f"the largest {count} of {values.shape[-1]}")
    order = np.argsort(-values, axis=-1, kind="stable")[..., : _int_of(count)]
    return [np.take_along_axis(values, order, -1), order.astype(np.int32)]


def _reduced(function: Callable[..., Any]) -> Kernel:
    def kernel(node: NodeDef, inputs: Sequence[Array]) -> list[Array]:
        axes = tuple(int(axis) for axis in inputs[1].reshape(-1))
        result = function(inputs[0], axis=axes, keepdims=bool(attribute(node, "keep_dims").b))
        return [np.asarray(result).astype(inputs[0].dtype, copy=False)]

    return kernel


def _select(node: NodeDef, inputs: Sequence[Array]) -> list[Array]:
    condition, yes, no = inputs
    if (
        node.op == "Select" and condition.ndim == 1 and yes.ndim > 1
    ):  # a row each, as TensorFlow's first version has it
        condition = condition.reshape(-1, *[1] * (yes.ndim - 1))
    return [np.where(condition, yes, no).astype(yes.dtype, copy=False)]


def _fill(shape: Array, value: Array) -> Array:
    if math.prod(_sizes(shape)) > _MAX_ELEMENTS:
        raise ValueError(f"it has {math.prod(_sizes(shape))} elements")
    return np.full(_sizes(shape), value, value.dtype)


def _sizes(vector: Array) -> tuple[int, ...]:
    return tuple(int(size) for size in vector)


def _cast(node: NodeDef, inputs: Sequence[Array]) -> list[Array]:
    dtype = dtype_of(attribute(node, "DstT"))
    if dtype is None:
        raise TypeError("a cast to what numpy lacks")
    return [inputs[0].astype(dtype)]


def _non_max_suppression(node: NodeDef, inputs: Sequence[Array]) -> list[Array]:
    """Take boxes by descending score, equal ones by position, that overlap none taken before by more than allowed."""
    boxes, scores, most, overlap = inputs[0], inputs[1], _int_of(inputs[2]), inputs[3]
    threshold = inputs[4] if len(inputs) > 4 else np.float32(-math.inf)
    is_soft = len(inputs) > 5 and float(inputs[5].reshape(())) != 0
    if is_soft or attribute(node, "pad_to_max_output_size").b:
        raise ValueError("soft or padded suppression")
    low, high = np.minimum(boxes[:, :2], boxes[:, 2:]), np.maximum(boxes[:, :2], boxes[:, 2:])
    areas = np.prod(high - low, axis=1, dtype=np.float32)
    taken: list[int] = []
    for index in np.argsort(-scores, kind="stable"):
        if len(taken) >= most or not scores[index] > threshold:
            break
        common = np.maximum(np.minimum(high[taken], high[index]) - np.maximum(low[taken], low[index]), 0)
        shared = common[:, 0] * common[:, 1]
        share = shared / (areas[taken] + areas[index] - shared)
        share[(areas[taken] <= 0) | (areas[index] <= 0)] = 0
        if not (share > overlap).any():
            taken.append(int(index))
    chosen = np.asarray(taken, np.int32)
    return [chosen, scores[chosen], np.asarray(len(taken), np.int32)]


def _resize_bilinear(node: NodeDef, inputs: Sequence[Array]) -> list[Array]:
    images, size = inputs
    if attribute(node, "align_corners").b:
        raise ValueError("corners are aligned")
    half = np.float32(0.5 if attribute(node, "half_pixel_centers").b else 0)

    def ends(length: int, wanted: int) -> tuple[Array, Array, Array]:
        scale = np.float32(length) / np.float32(wanted)
        places = (np.arange(wanted, dtype=np.float32) + half) * scale - half
        below = np.floor(places)
        first = np.maximum(below.astype(np.int32), 0)
        return first, np.minimum(np.ceil(places).astype(np.int32), length - 1), places - below

    top, bottom, down = ends(images.shape[1], int(size[0]))
    left, right, across = ends(images.shape[2], int(size[1]))
    lines = []
    for line in (images[:, top], images[:, bottom]):
        one, other = (line[:, :, columns].astype(np.float32) for columns in (left, right))
        lines.append(one + (other - one) * across[:, None])
    return [lines[0] + (lines[1] - lines[0]) * down[:, None, None]]


KERNELS: dict[str, Kernel] = {
    "Identity": _of(lambda value: value),
    "Shape": lambda node, inputs: [_int(node, inputs[0].shape)],
    "Size": lambda node, inputs: [_int(node, inputs[0].size)],
    "Rank": _of(lambda value: np.int32(value.ndim)),
    "StridedSlice": _strided_slice,
    "Slice": _of(_slice),
    "Reshape": _of(lambda value, shape: value.reshape(_sizes(shape))),
    "Squeeze": _squeeze,
    "ExpandDims": _of(lambda value, axis: np.expand_dims(value, _int_of(axis))),
    "Pack": lambda node, inputs: [np.stack(inputs, int(attribute(node, "axis").i))],
    "Unpack": _unpack,
    "Split": lambda node, inputs: np.split(inputs[1], int(attribute(node, "num_split").i), _int_of(inputs[0])),
    "ConcatV2": _of(lambda *inputs: np.concatenate(inputs[:-1], _int_of(inputs[-1]))),
    "Gather": _gather,
    "GatherV2": _gather,
    "Where": _of(lambda condition: np.argwhere(condition).astype(np.int64)),
    "Transpose": _of(lambda value, axes: np.transpose(value, _sizes(axes))),
    "Tile": _of(lambda value, counts: np.tile(value, _sizes(counts))),
    "Pad": _of(lambda value, paddings: np.pad(value, [_sizes(sizes) for sizes in paddings])),
    "Fill": _of(_fill),
    "Range": _of(lambda *inputs: np.arange(*(value.item() for value in inputs), dtype=inputs[0].dtype)),
    "ZerosLike": _of(np.zeros_like),
    "OnesLike": _of(np.ones_like),
    "Cast": _cast,
    "Select": _select,
    "SelectV2": _select,
    "Add": _same(np.add),
    "AddV2": _same(np.add),
    "Sub": _same(np.subtract),
    "Mul": _same(np.multiply),
    "RealDiv": _same(np.divide),
    "Minimum": _same(np.minimum),
    "Maximum": _same(np.maximum),
    "Less": _test(np.less),
    "LessEqual": _test(np.less_equal),
    "Greater": _test(np.greater),
    "GreaterEqual": _test(np.greater_equal),
    "Equal": _test(np.equal),
    "LogicalAnd": _test(np.logical_and),
    "LogicalOr": _test(np.logical_or),
    "LogicalNot": _test(np.logical_not),
    "Sum": _reduced(np.sum),
    "Max": _reduced(np.max),
    "Min": _reduced(np.min),
    "Prod": _reduced(np.prod),
    "All": _reduced(np.all),
    "TopKV2": _of(_top_k),
    "Round": _same(np.rint),
    "ResizeBilinear": _resize_bilinear,
    "NonMaxSuppressionV2": _non_max_suppression,
    "NonMaxSuppressionV3": _non_max_suppression,
    "NonMaxSuppressionV4": _non_max_suppression,
    "NonMaxSuppressionV5": _non_max_suppression,
}  # fmt: skip
"""What each operation computes, as TensorFlow's documentation has it; float32 stays float32."""
