"""A loop that resizes one image after the other, as one operation on the whole batch.

All images of a batch have one size, so sizes that the loop computes are the same in every turn, and a resize of one
image is a row of the resize of all. Each operation of the loop is taken over by a rule that says so; where one has no
rule, the loop stays. A picture of bytes that was made float32 before the loop is resized from its bytes.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import Enum, auto

import numpy as np

from elastic_inference.engines.openvino.rewrites import resize_operation
from elastic_inference.engines.openvino.rewrites.graph import (
    Array,
    Graph,
    Tensor,
    attribute,
    inputs_of,
    name_of,
    tensor_of,
)
from elastic_inference.engines.openvino.rewrites.maps import MapLoop, NoMatch
from elastic_inference.models.graph_pb2 import NodeDef
from elastic_inference.models.operations import DTYPE_NUMBERS

_RESIZE = "ResizeBilinear"
_BRANCHES = ("Identity", "Switch", "Merge")
_INT32, _FLOAT32, _UINT8 = (DTYPE_NUMBERS[name] for name in ("int32", "float32", "uint8"))


class _Kind(Enum):
    """What a tensor of the loop is, and what stands for it after the loop is gone."""

    ELEMENT = auto()  # one image's; the tensor of all images has one axis more, in front
    SINGLE = (
        auto()
    )  # one image's, with an axis of 1 in front; the tensor of all images has it as their number
    SAME = auto()  # equal in every turn; stands for itself


@dataclass(frozen=True)
class _Value:
    """What stands for a tensor of the loop: a tensor's name, its dtype where it is of images."""

    kind: _Kind
    name: str
    dtype: int = 0


@dataclass
class Lifted:
    """What takes the loop's place.

    Attributes:
        nodes: New nodes.
        results: Tensor outside in which the results of all turns stood -> tensor that has them now.
        images: Tensor that all images come from -> tensor that is taken instead, and its dtype.
    """

    nodes: list[NodeDef] = field(default_factory=list)
    results: dict[Tensor, str] = field(default_factory=dict)
    images: dict[Tensor, tuple[str, int]] = field(default_factory=dict)


def lift(graph: Graph, loop: MapLoop, wanted: set[str], *, in_bfloat16: bool = False) -> Lifted | None:
    """Return the loop's results for the whole batch; None where it resizes nothing.

    Args:
        wanted: Names of nodes that are needed; other results of the loop are left out.
        in_bfloat16: Whether the engine will compute in bfloat16 what is float32 here.

    Raises:
        NoMatch: An operation in it has no rule.
    """
    results = {outside: inside for outside, inside in loop.results.items() if outside[0] in wanted}
    inside = graph.ancestors(results.values(), (*loop.elements, *loop.invariants))
    if not any(graph.nodes[name].op == _RESIZE for name in inside):
        return None
    return _Lift(graph, loop, in_bfloat16).run(results)


class _Lift:
    def __init__(self, graph: Graph, loop: MapLoop, in_bfloat16: bool) -> None:
        self._graph = graph
        self._in_bfloat16 = in_bfloat16
        self._prefix = f"elastic_inference/{loop.frame}/"
        while any(name.startswith(self._prefix) for name in graph.nodes):
            self._prefix += "_/"
        self._made = Lifted()
        self._known: dict[Tensor, _Value] = {}
        for inside, outside in loop.elements.items():
            name, dtype = self._made.images.setdefault(outside, self._images(inside, outside))
            self._known[inside] = _Value(_Kind.ELEMENT, name, dtype)
        self._known |= {i: _Value(_Kind.SAME, name_of(outside)) for i, outside in loop.invariants.items()}
        self._batch = next(iter(self._known.values()))
        self._pending: set[str] = set()

    def run(self, results: dict[Tensor, Tensor]) -> Lifted:
        for outside, inside in results.items():
            value = self._lift(inside)
            if value.kind is _Kind.SINGLE or value.dtype == _UINT8:
                raise NoMatch(f"result {name_of(inside)!r} is not what a resize gives")
            is_images = value.kind is _Kind.ELEMENT
            self._made.results[outside] = value.name if is_images else self._repeated(inside, value.name)
        return self._made

    def _images(self, inside: Tensor, outside: Tensor) -> tuple[str, int]:
        """Return what is resized: the loop's images, or the bytes that they were made of."""
        node = self._graph.nodes[outside[0]]
        if (
            node.op == "Cast"
            and attribute(node, "SrcT").type == _UINT8
            and attribute(node, "DstT").type == _FLOAT32
        ):
            return name_of(inputs_of(node)[0]), _UINT8
        return name_of(outside), attribute(self._graph.nodes[inside[0]], "dtype").type

    def _lift(self, tensor: Tensor) -> _Value:
        if tensor in self._known:
            return self._known[tensor]
        node = self._graph.nodes[tensor[0]]
        if node.name in self._pending:
            raise NoMatch(f"its operations go in a circle at {node.name!r}")
        self._pending.add(node.name)
        value = self._ruled(node, [self._lift(source) for source in inputs_of(node)])
        for index in range(tensor[1] + 1):
            name = f"{value.name}:{index}" if index else value.name
            self._known[node.name, index] = replace(value, name=name)
        self._pending.remove(node.name)
        return self._known[tensor]

    def _ruled(self, node: NodeDef, given: list[_Value]) -> _Value:
        """Return what stands for the outputs of a node."""
        kinds, names = [value.kind for value in given], [value.name for value in given]
        handed_on = given[:1] if node.op == "Switch" else given
        if all(kind is _Kind.SAME for kind in kinds):
            if self._in_bfloat16 and _computes_floats(node):
                raise NoMatch(
                    f"operation {node.name!r} ({node.op}) computes sizes, which bfloat16 would round"
                )
            return _Value(_Kind.SAME, self._copied(node, names))
        if node.op in _BRANCHES and len({(value.kind, value.dtype) for value in handed_on}) == 1:
            if node.op != "Switch" or kinds[1] is _Kind.SAME:
                name = self._copied(node, names)
                self._made.nodes[-1].attr["T"].type = given[0].dtype
                return replace(given[0], name=name)
        elif node.op == "Shape":
            return _Value(_Kind.SAME, self._shape(node, given[0]))
        elif node.op == "ExpandDims" and kinds[0] is _Kind.ELEMENT and self._is_zero(inputs_of(node)[1]):
            return replace(given[0], kind=_Kind.SINGLE)
        elif node.op == "Squeeze" and kinds[0] is _Kind.SINGLE:
            if list(attribute(node, "squeeze_dims").list.i) == [0]:
                return replace(given[0], kind=_Kind.ELEMENT)
        elif node.op == _RESIZE and kinds == [_Kind.SINGLE, _Kind.SAME]:
            return _Value(_Kind.SINGLE, self._resized(node, names), _FLOAT32)
        raise NoMatch(f"operation {node.name!r} ({node.op}) is not known for a whole batch")

    def _resized(self, node: NodeDef, names: list[str]) -> str:
        if attribute(node, "align_corners").b:
            raise NoMatch("it resizes with corners aligned")
        made = self._add(node.name, resize_operation.OPERATION, names)
        attributes = self._made.nodes[-1].attr
        attributes["half_pixel_centers"].b = attribute(node, "half_pixel_centers").b
        attributes[resize_operation.IN_INTEGERS].b = self._in_bfloat16
        return made

    def _is_zero(self, tensor: Tensor) -> bool:
        value = self._graph.constant(tensor)
        return value is not None and value.size == 1 and int(value.reshape(())) == 0

    def _shape(self, node: NodeDef, images: _Value) -> str:
        """Add the shape of one image."""
        if attribute(node, "out_type").type not in (0, _INT32):
            raise NoMatch(f"sizes in {node.name!r} are no int32")
        shape = self._add(f"{node.name}/batch", "Shape", [images.name], T=images.dtype, out_type=_INT32)
        ends = [
            self._constant(f"{node.name}/{part}", [value]) for part, value in (("begin", 1), ("size", -1))
        ]
        own = self._add(f"{node.name}/image", "Slice", [shape, *ends], T=_INT32, Index=_INT32)
        if images.kind is _Kind.ELEMENT:
            return own
        one, axis = self._constant(f"{node.name}/one", [1]), self._constant(f"{node.name}/axis", 0)
        made = self._add(f"{node.name}/single", "ConcatV2", [one, own, axis], T=_INT32, Tidx=_INT32)
        self._made.nodes[-1].attr["N"].i = 2
        return made

    def _repeated(self, inside: Tensor, name: str) -> str:
        """Add a row for each image, all equal: sizes, plus zeros that have as many rows as there are images."""
        node = self._graph.nodes[self._graph.through(inside)[0]]
        constant = self._graph.constant(inside)
        is_vector = node.op == "Shape" or (constant is not None and constant.ndim == 1)
        if not is_vector or (constant is not None and constant.dtype != np.int32):
            raise NoMatch(f"result {name_of(inside)!r} is the same for all images, but is no list of sizes")
        label = f"{inside[0]}/rows"
        images = self._add(
            f"{label}/shape", "Shape", [self._batch.name], T=self._batch.dtype, out_type=_INT32
        )
        begin, size = (
            self._constant(f"{label}/{part}", [value]) for part, value in (("begin", 0), ("size", 1))
        )
        count = self._add(f"{label}/count", "Slice", [images, begin, size], T=_INT32, Index=_INT32)
        one, axis = self._constant(f"{label}/one", [1]), self._constant(f"{label}/axis", 0)
        sizes = self._add(f"{label}/sizes", "ConcatV2", [count, one, axis], T=_INT32, Tidx=_INT32)
        self._made.nodes[-1].attr["N"].i = 2
        zero = self._constant(f"{label}/zero", 0)
        zeros = self._add(f"{label}/zeros", "Fill", [sizes, zero], T=_INT32, index_type=_INT32)
        return self._add(label, "AddV2", [zeros, name], T=_INT32)

    def _copied(self, node: NodeDef, names: list[str]) -> str:
        copy = NodeDef()
        copy.CopyFrom(node)
        copy.name = self._prefix + node.name
        del copy.input[:]
        copy.input.extend([*names, *self._conditions(node)])
        self._made.nodes.append(copy)
        return copy.name

    def _conditions(self, node: NodeDef) -> list[str]:
        """Keep what ties a constant to a branch of a condition; what ties it to a turn of the loop goes."""
        kept = []
        for control in (name[1:] for name in node.input if name.startswith("^")):
            source = self._graph.nodes[self._graph.through(tensor_of(control))[0]]
            if source.op == "Switch":
                decides = self._graph.nodes[self._graph.through(inputs_of(source)[1])[0]]
                if decides.op != "LoopCond":
                    kept.append(f"^{tensor_of(self._lift(tensor_of(control)).name)[0]}")
        return kept

    def _add(self, name: str, op: str, inputs: list[str], **dtypes: int) -> str:
        node = NodeDef(name=self._prefix + name, op=op, input=inputs)
        for attribute_name, dtype in dtypes.items():
            node.attr[attribute_name].type = dtype
        self._made.nodes.append(node)
        return node.name

    def _constant(self, name: str, value: int | list[int]) -> str:
        array: Array = np.array(value, np.int32)
        made = self._add(name, "Const", [], dtype=_INT32)
        tensor = self._made.nodes[-1].attr["value"].tensor
        tensor.dtype = _INT32
        tensor.tensor_content = array.tobytes()
        for size in array.shape:
            tensor.tensor_shape.dim.add(size=size)
        tensor.tensor_shape.SetInParent()
        return made


def _computes_floats(node: NodeDef) -> bool:
    dtypes = {attribute(node, name).type for name in ("T", "SrcT", "DstT", "dtype")}
    return _FLOAT32 in dtypes
