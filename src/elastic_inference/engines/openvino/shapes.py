"""Where a shape that is known only in a call makes OpenVINO give numbers that the model does not have, and a repair.

Reductions of nothing are NaN, infinite or the least number; OpenVINO's CPU plugin gives 0 or a finite one. That matters
where the values of a call decide how many elements there are; empty inputs are told before a call. A TopK of
more elements than there are, and a Tile of four axes whose repeats are no constant, read memory that is not theirs.
"""

from __future__ import annotations

from typing import Any

from openvino import opset11

_COUNTED_BY_VALUES = frozenset({
    "NonZero", "NonMaxSuppression", "MulticlassNms", "MatrixNms", "Unique", "CTCGreedyDecoderSeqLen",
})  # fmt: skip
_NUMBERS_OF_NOTHING = frozenset({
    "ReduceMean", "ReduceMax", "ReduceMin",
})  # fmt: skip
_TILE_TEXT = "with repeats that are not constant reads other memory"
_FIRST_WRONG_TILE_RANK = 4  # of up to 3 axes none was wrong in 60 random ones


def shape_differences(model: Any) -> list[str]:
    """Return a sentence for each operation that may be computed otherwise than the model says, bodies included."""
    found: list[str] = []
    counted: set[tuple[str, int]] = set()  # tensors of as many elements as values decide
    for node in model.get_ordered_ops():
        kind, name = node.get_type_name(), node.get_name()
        sources = [node.input_value(index) for index in range(node.get_input_size())]
        is_counted = kind in _COUNTED_BY_VALUES or any(
            (source.get_node().get_name(), source.get_index()) in counted for source in sources
        )
        if is_counted:
            counted.update((name, index) for index in range(node.get_output_size()))
        what = f"{kind} ({node.get_friendly_name()!r})"
        if is_counted and kind in _NUMBERS_OF_NOTHING and _may_be_empty(node):
            found.append(f"{what} gives another number where there are no elements")
        elif kind == "TopK" and _is_open(node, node.get_attributes()["axis"]) and _takes_several(node):
            found.append(f"{what} does not check that there are enough elements")
        elif kind == "Tile" and _rank(node) >= _FIRST_WRONG_TILE_RANK and not _is_constant(node, 1):
            found.append(f"{what} {_TILE_TEXT}")
        for body in _bodies(node, kind):
            found += shape_differences(body)
    return found


def compiled_differences(compiled: Any) -> list[str]:
    """Return the same for what only compiling shows: the rank of a Tile that the model leaves open."""
    found = []
    for node in compiled.get_runtime_model().get_ordered_ops():
        if _layer(node) == "Tile" and _rank(node) >= _FIRST_WRONG_TILE_RANK:
            repeats = node.input_value(1).get_node() if node.get_input_size() > 1 else None
            if repeats is not None and _layer(repeats) != "Const":
                found.append(f"Tile ({node.get_friendly_name()!r}) {_TILE_TEXT}")
    return found


def _layer(node: Any) -> str:
    information = node.get_rt_info()
    return str(information["layerType"].value) if "layerType" in information else ""


def order_equal_values(model: Any) -> None:
    """Make every TopK take equal values in the order of their positions, as TensorFlow and ONNX do; bodies included."""
    for node in model.get_ordered_ops():
        kind = node.get_type_name()
        if kind == "TopK":
            _make_stable(node)
        for body in _bodies(node, kind):
            order_equal_values(body)


def _make_stable(node: Any) -> None:
    given = node.get_attributes()
    if given.get("stable") or given["sort"] == "none":
        return
    stable = opset11.topk(
        node.input_value(0), node.input_value(1), given["axis"], given["mode"], given["sort"],
        given["index_element_type"], stable=True, name=node.get_friendly_name(),
    )  # fmt: skip
    for index in range(node.get_output_size()):
        names = node.output(index).get_names()
        for target in list(node.output(index).get_target_inputs()):
            target.replace_source_output(stable.output(index))
        stable.output(index).set_names(names)


def _bodies(node: Any, kind: str) -> list[Any]:
    if kind in ("Loop", "TensorIterator"):
        return [node.get_function()]
    return [node.get_function(0), node.get_function(1)] if kind == "If" else []


def _may_be_empty(node: Any) -> bool:
    """Whether an axis over which numbers are taken together is open."""
    axes = node.input_value(1).get_node()
    if axes.get_type_name() != "Constant" or node.get_input_partial_shape(0).rank.is_dynamic:
        return True
    return any(_is_open(node, int(axis)) for axis in axes.data.reshape(-1))


def _is_open(node: Any, axis: int) -> bool:
    shape = node.get_input_partial_shape(0)
    return bool(shape.rank.is_dynamic or shape[axis].is_dynamic)


def _is_constant(node: Any, index: int) -> bool:
    return bool(node.input_value(index).get_node().get_type_name() == "Constant")


def _takes_several(node: Any) -> bool:
    """Whether a TopK takes a constant number, more than the one that every tensor with elements has."""
    count = node.input_value(1).get_node()
    return count.get_type_name() == "Constant" and int(count.data.reshape(-1)[0]) > 1


def _rank(node: Any) -> int:
    """Return the rank of the result, 0 where it is open."""
    rank = node.get_output_partial_shape(0).rank
    return 0 if rank.is_dynamic else int(rank.get_length())
