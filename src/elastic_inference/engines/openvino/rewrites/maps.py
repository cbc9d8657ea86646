"""Loops that apply the same computation to each element of some tensors: TensorFlow's `map_fn`, as version 1 writes it.

A loop is taken for one only if all of it is there: counters that begin at 0 and grow by 1 up to the number of elements,
arrays that are filled from whole tensors, read at the counter, written at the counter and put together in order, and
nothing that one turn hands to the next. Names play no part.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from elastic_inference.engines.openvino.rewrites.graph import Graph, Tensor, attribute, inputs_of
from elastic_inference.models.graph_pb2 import NodeDef

_ADDITIONS = ("Add", "AddV2")


@dataclass(frozen=True)
class MapLoop:
    """One loop over elements.

    Attributes:
        frame: TensorFlow's name of the loop.
        elements: Tensor inside that is one element -> tensor outside that all of them come from, on its axis 0.
        invariants: Tensor inside -> tensor outside that every turn sees.
        results: Tensor outside in which the results of all turns stand, on its axis 0 -> tensor inside.
    """

    frame: str
    elements: dict[Tensor, Tensor] = field(default_factory=dict)
    invariants: dict[Tensor, Tensor] = field(default_factory=dict)
    results: dict[Tensor, Tensor] = field(default_factory=dict)


class NoMatch(Exception):
    """A map does what a rewrite is for, but not as that knows it; the text says what is otherwise."""


class _NoMap(Exception):
    """The loop hands on something else than elements."""


def find_maps(graph: Graph) -> Iterator[MapLoop]:
    """Find the loops of a graph that are maps; loops within loops are none."""
    frames: dict[str, list[NodeDef]] = {}
    for node in graph.graph_def.node:
        if node.op == "Enter":
            frames.setdefault(attribute(node, "frame_name").s.decode(errors="replace"), []).append(node)
    for frame, enters in frames.items():
        try:
            yield _Reader(graph, frame, enters).read()
        except (_NoMap, KeyError, ValueError, IndexError):  # the last three: a damaged graph
            continue


class _Reader:
    """Reads one loop, and gives up where it is no map."""

    def __init__(self, graph: Graph, frame: str, enters: list[NodeDef]) -> None:
        self._graph = graph
        self._enters = enters
        self._loop = MapLoop(frame)
        self._counters: set[Tensor] = set()
        self._limits: set[Tensor] = set()

    def read(self) -> MapLoop:
        variables = [self._variable(enter) for enter in self._enters if not attribute(enter, "is_constant").b]
        for merge, switch, after in variables:
            if self._is_counter(merge, after):
                self._counters.add((switch.name, 1))
        self._check_condition([merge for merge, _, _ in variables])
        for merge, switch, after in variables:
            if (switch.name, 1) in self._counters:
                self._need(not self._taken(switch, 0))  # its last value is of no use
            else:
                self._read_result(merge, switch, after)
        for enter in self._enters:
            if attribute(enter, "is_constant").b:
                self._read_constant(enter)
        self._need(bool(self._loop.results) and bool(self._loop.elements))
        self._need(self._limits <= {self._graph.through(s) for s in self._sizes()})
        return self._loop

    def _variable(self, enter: NodeDef) -> tuple[NodeDef, NodeDef, Tensor]:
        """Return a loop variable's Merge and Switch, and the tensor that it becomes."""
        merges = self._graph.consumers.get(enter.name, [])
        self._need(len(merges) == 1 and merges[0].op == "Merge")
        merge = merges[0]
        first, again = inputs_of(merge)
        following = self._graph.nodes.get(again[0])
        self._need(first[0] == enter.name and following is not None and following.op == "NextIteration")
        assert following is not None
        switches = [n for n in self._graph.consumers.get(merge.name, []) if n.op == "Switch"]
        self._need(len(switches) == 1 and inputs_of(switches[0])[0] == (merge.name, 0))
        return merge, switches[0], inputs_of(following)[0]

    def _is_counter(self, merge: NodeDef, after: Tensor) -> bool:
        node = self._graph.nodes[self._graph.through(after)[0]]
        if node.op not in _ADDITIONS:
            return False
        before, step = inputs_of(node)
        switch = self._graph.nodes[self._graph.through(before)[0]]
        return (
            switch.op == "Switch"
            and inputs_of(switch)[0] == (merge.name, 0)
            and self._graph.through(before)[1] == 1
            and self._graph.is_constant(step, 1)
            and self._graph.is_constant(inputs_of(merge)[0], 0)
        )

    def _check_condition(self, merges: list[NodeDef]) -> None:
        """See that the loop goes on while every counter is less than the number of elements."""
        conditions = {inputs_of(switch)[1] for m in merges for switch in self._switches(m)}
        self._need(len(conditions) == 1)
        condition = self._graph.nodes[conditions.pop()[0]]
        self._need(condition.op == "LoopCond")
        counters = {inputs_of(self._graph.nodes[name])[0] for name, _ in self._counters}
        pending, compared = [inputs_of(condition)[0]], set()
        while pending:
            node = self._graph.nodes[self._graph.through(pending.pop())[0]]
            if node.op == "LogicalAnd":
                pending += inputs_of(node)
                continue
            self._need(node.op == "Less")
            counter, limit = inputs_of(node)
            compared.add(counter)
            self._limits.add(self._graph.through(limit, "Enter"))
        self._need(bool(compared) and compared <= counters)

    def _switches(self, merge: NodeDef) -> list[NodeDef]:
        return [node for node in self._graph.consumers.get(merge.name, []) if node.op == "Switch"]

    def _taken(self, switch: NodeDef, output: int) -> list[NodeDef]:
        """Return the nodes that take an output of a Switch; of output 0, those behind its Exit."""
        found = [
            n for n in self._graph.consumers.get(switch.name, []) if (switch.name, output) in inputs_of(n)
        ]
        if output:
            return found
        return [taker for node in found for taker in self._graph.consumers.get(node.name, [])]

    def _read_result(self, merge: NodeDef, switch: NodeDef, after: Tensor) -> None:
        """Read an array that is written at the counter and put together after the loop."""
        write = self._graph.nodes[self._graph.through(after)[0]]
        self._need(write.op == "TensorArrayWriteV3")
        handle, position, value, flow = inputs_of(write)
        array = self._graph.through(handle, "Enter")
        self._need(self._is_at_counter(position) and self._graph.through(flow) == (switch.name, 1))
        self._need(self._graph.through(inputs_of(merge)[0], "Enter") == (array[0], 1))
        self._need(self._is_sized(array[0]))
        for taker in self._taken(switch, 0):
            if taker.op == "TensorArraySizeV3":
                continue
            self._need(taker.op == "TensorArrayGatherV3")
            of, positions, _ = inputs_of(taker)
            self._need(self._graph.through(of) == array and self._is_whole_range(positions, array[0]))
            self._loop.results[taker.name, 0] = value
        inside = self._taken(switch, 1)
        for node in inside:
            self._need(node.name == write.name or (node.op == "Identity" and self._only(node, write)))

    def _only(self, node: NodeDef, taker: NodeDef) -> bool:
        return all(found.name == taker.name for found in self._graph.consumers.get(node.name, []))

    def _is_at_counter(self, position: Tensor) -> bool:
        return self._graph.through(position) in self._counters

    def _is_sized(self, array: str) -> bool:
        """Whether an array has as many places as the loop has turns."""
        node = self._graph.nodes.get(array)
        return (
            node is not None
            and node.op == "TensorArrayV3"
            and not attribute(node, "dynamic_size").b
            and self._graph.through(inputs_of(node)[0]) in self._limits
        )

    def _is_whole_range(self, positions: Tensor, array: str) -> bool:
        """Whether positions are 0, 1, ... up to the size of the array."""
        node = self._graph.nodes[self._graph.through(positions)[0]]
        if node.op != "Range":
            return False
        start, end, step = inputs_of(node)
        last = self._graph.nodes[self._graph.through(end)[0]]
        is_size = last.op == "TensorArraySizeV3" and self._graph.through(inputs_of(last)[0])[0] == array
        return (
            self._graph.is_constant(start, 0)
            and self._graph.is_constant(step, 1)
            and (is_size or self._graph.through(end) in self._limits)
        )

    def _read_constant(self, enter: NodeDef) -> None:
        """Read what enters the loop once: an array's handle, its filled values, or a tensor that every turn sees."""
        source = self._graph.through((enter.name, 0), "Enter")
        outside = self._graph.nodes[source[0]]
        if outside.op == "TensorArrayV3":
            for taker in self._graph.consumers.get(enter.name, []):
                if taker.op == "TensorArrayReadV3":
                    self._read_element(taker, source)
                else:
                    self._need(taker.op == "TensorArrayWriteV3")
        elif outside.op != "TensorArrayScatterV3":
            self._loop.invariants[enter.name, 0] = source

    def _read_element(self, read: NodeDef, array: Tensor) -> None:
        _, position, flow = inputs_of(read)
        scatter = self._graph.nodes[self._graph.through(flow, "Enter")[0]]
        self._need(self._is_at_counter(position) and scatter.op == "TensorArrayScatterV3")
        of, positions, source, fresh = inputs_of(scatter)
        places = self._graph.nodes[self._graph.through(positions)[0]]
        self._need(self._graph.through(of) == array and self._graph.through(fresh) == (array[0], 1))
        self._need(places.op == "Range" and self._is_sized(array[0]))
        start, end, step = inputs_of(places)
        self._need(self._graph.is_constant(start, 0) and self._graph.is_constant(step, 1))
        self._need(self._leading_size(end) == source)
        self._loop.elements[read.name, 0] = source

    def _leading_size(self, tensor: Tensor) -> Tensor | None:
        """Return the tensor whose size on axis 0 this one is; None where it is anything else."""
        node = self._graph.nodes[self._graph.through(tensor)[0]]
        if node.op != "StridedSlice" or attribute(node, "shrink_axis_mask").i != 1:
            return None
        shape, begin, end, step = inputs_of(node)
        sized = self._graph.nodes[self._graph.through(shape)[0]]
        is_first = self._graph.is_constant(begin, [0]) and self._graph.is_constant(end, [1])
        if sized.op != "Shape" or not is_first or not self._graph.is_constant(step, [1]):
            return None
        return inputs_of(sized)[0]

    def _sizes(self) -> Iterator[Tensor]:
        """Tensors that are the number of elements."""
        sources = set(self._loop.elements.values())
        for limit in self._limits:
            if self._leading_size(limit) in sources:
                yield limit

    def _need(self, is_so: bool) -> None:
        if not is_so:
            raise _NoMap
