"""The assertions of a TensorFlow graph: which of them can be checked by fetching their condition, and which are lost.

An engine that drops assertions answers where TensorFlow raises. A condition of the graph itself can be fetched with the
outputs. One within a function, a loop or a branch cannot; there it is lost, except where the body only compares shapes
with each other, which the model itself has made.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from elastic_inference.models.graph_pb2 import NodeDef
from elastic_inference.models.resolve import ResolvedGraph
from elastic_inference.models.soundness import called_functions

_ENTERS = ("Switch", "RefSwitch", "Enter", "RefEnter", "NextIteration", "LoopCond")
_LEAVES = ("Exit", "RefExit", "Merge", "RefMerge")
_SHAPES = ("Shape", "ShapeN", "Size", "Rank")
_OF_SHAPES = frozenset({
    "Const", "Identity", "Equal", "NotEqual", "Less", "LessEqual", "Greater", "GreaterEqual", "LogicalAnd",
    "LogicalOr", "LogicalNot", "All", "Any", "Add", "AddV2", "Sub", "Mul", "StridedSlice", "Pack", "ConcatV2",
    "Cast", "Prod", "Minimum", "Maximum",
})  # fmt: skip
_LOOPS = ("While", "StatelessWhile")


@dataclass(frozen=True)
class Assertion:
    """A condition that must hold in every call: its tensor, and what to say where it does not."""

    condition: str
    text: str


@dataclass(frozen=True)
class Assertions:
    """Those that are checked, and the names of those that are lost."""

    checked: tuple[Assertion, ...]
    lost: tuple[str, ...]


def assertions(resolved: ResolvedGraph, given: Iterable[str] | None = None) -> Assertions:
    """All assertions that TensorFlow would check for the outputs when the aliases `given` are fed; None: all."""
    graph = resolved.graph
    fed = [resolved.inputs[alias].name for alias in (resolved.inputs if given is None else given)]
    running = graph.reach((spec.name for spec in resolved.outputs.values()), fed).nodes
    checked, lost = [], []
    for name in sorted(running):
        node = graph.nodes[name]
        if node.op != "Assert" or not node.input:
            continue
        condition = _unguarded(graph.nodes, node.input[0])
        if not _is_within(graph.nodes, condition):
            checked.append(Assertion(condition, f"assertion failed: {name}"))
        elif not _only_shapes(graph.nodes, node.input[0]):
            lost.append(name)
    lost += _in_functions(resolved, [graph.nodes[name] for name in running])
    return Assertions(tuple(checked), tuple(lost))


def _producer(name: str) -> str:
    return name.partition(":")[0].removeprefix("^")


def _ancestors(nodes: Mapping[str, NodeDef], name: str, stop: tuple[str, ...]) -> Iterator[NodeDef]:
    """Yield the nodes that a tensor is computed from; what stands before operations of `stop` is left out."""
    seen: set[str] = set()
    pending = [_producer(name)]
    while pending:
        current = pending.pop()
        node = nodes.get(current)
        if node is None or current in seen:
            continue
        seen.add(current)
        yield node
        if node.op not in stop:
            pending += [_producer(source) for source in node.input if not source.startswith("^")]


def _unguarded(nodes: Mapping[str, NodeDef], condition: str) -> str:
    """Return the condition itself where TensorFlow 1 hid the assertion in the branch that is taken when it fails."""
    switch = nodes.get(_producer(condition))
    if switch is None or switch.op != "Switch" or len(switch.input) < 2:
        return condition
    value, predicate = switch.input[0], switch.input[1]
    while (source := nodes.get(_producer(predicate))) is not None and source.op == "Identity":
        if _producer(predicate) == _producer(value):
            break
        predicate = source.input[0]
    return value if _producer(predicate) == _producer(value) else condition


def _is_within(nodes: Mapping[str, NodeDef], condition: str) -> bool:
    """Whether the condition is computed inside a loop or a branch, where nothing can be fetched."""
    return any(node.op in _ENTERS for node in _ancestors(nodes, condition, _LEAVES))


def _only_shapes(nodes: Mapping[str, NodeDef], condition: str) -> bool:
    return all(node.op in _OF_SHAPES or node.op in _SHAPES for node in _ancestors(nodes, condition, _SHAPES))


def _in_functions(resolved: ResolvedGraph, running: list[NodeDef]) -> list[str]:
    library = {f.signature.name: f for f in resolved.graph.graph_def.library.function}
    lost: list[str] = []
    entered: set[str] = set()
    pending = [(node, False) for node in running]
    while pending:
        node, is_in_loop = pending.pop()
        called = {name for value in node.attr.values() for name in called_functions(value)} | {node.op}
        for name in called & library.keys() - entered:
            entered.add(name)
            inner = {n.name: n for n in library[name].node_def}
            in_loop = is_in_loop or node.op in _LOOPS
            pending += [(n, in_loop) for n in inner.values()]
            lost += [
                f"{name}/{n.name}"
                for n in inner.values()
                if n.op == "Assert" and not (in_loop and _only_shapes(inner, n.input[0]))
            ]
    return sorted(lost)
