"""Whether a graph is one at all: no node twice, no missing inputs or arguments, no circles but those of loops.

Engines expect this. OpenVINO 2026.4 never returns from reading a graph that goes in circles, and crashes the process on
a function that calls itself or that is called with too few arguments.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter

from elastic_inference.errors import InvalidModel, UnsupportedModel
from elastic_inference.models.graph_pb2 import AttrValue, FunctionDef, GraphDef, NodeDef

_CLOSES_A_LOOP = ("NextIteration", "RefNextIteration")  # TensorFlow 1's loops go back through these alone


@dataclass(frozen=True)
class _Caller:
    """An operation that hands its inputs, but for the first `num_own_inputs`, on to functions named in attributes."""

    attributes: tuple[str, ...]
    num_own_inputs: int = 0


_CALL, _LOOP = _Caller(("f",)), _Caller(("cond", "body"))
_BRANCH, _CASE = _Caller(("then_branch", "else_branch"), 1), _Caller(("branches",), 1)
_CALLERS = {
    "PartitionedCall": _CALL, "StatefulPartitionedCall": _CALL, "While": _LOOP, "StatelessWhile": _LOOP,
    "If": _BRANCH, "StatelessIf": _BRANCH, "Case": _CASE, "StatelessCase": _CASE,
}  # fmt: skip


def check_sound(graph_def: GraphDef) -> None:
    """Check the graph and the bodies of its functions.

    Raises:
        InvalidModel: Names the node.
        UnsupportedModel: A function calls itself, which no engine but TensorFlow could run.
    """
    _check_nodes(graph_def.node, (), "the graph")
    functions = {function.signature.name: function for function in graph_def.library.function}
    _check_calls(graph_def.node, functions)
    for name, function in functions.items():
        _check_calls(function.node_def, functions)
        arguments = [argument.name for argument in function.signature.input_arg]
        _check_nodes(function.node_def, arguments, f"function {name!r}")
    calls = {name: _called(function, functions) for name, function in functions.items()}
    _check_acyclic(calls, lambda name: UnsupportedModel(f"function {name!r} calls itself"))


def called_functions(value: AttrValue) -> list[str]:
    """Names of the functions that an attribute of a node refers to."""
    kind = value.WhichOneof("value")
    if kind == "func":
        return [value.func.name]
    return [function.name for function in value.list.func] if kind == "list" else []


def _called(function: FunctionDef, functions: Collection[str]) -> set[str]:
    names = {node.op for node in function.node_def}
    names |= {
        name for node in function.node_def for value in node.attr.values() for name in called_functions(value)
    }
    return names.intersection(functions)


def _check_calls(nodes: Iterable[NodeDef], functions: Mapping[str, FunctionDef]) -> None:
    for node in nodes:
        caller = _CALLERS.get(node.op, _Caller(()))
        called = [node.op] if node.op in functions else []
        for attribute in caller.attributes:
            named = called_functions(node.attr[attribute]) if attribute in node.attr else []
            if not named:
                raise InvalidModel(f"node {node.name!r} names no function in {attribute!r}")
            called += named
        num_inputs = sum(not name.startswith("^") for name in node.input) - caller.num_own_inputs
        for name in called:
            if name not in functions:
                raise InvalidModel(f"node {node.name!r} calls function {name!r}, which does not exist")
            num_arguments = len(functions[name].signature.input_arg)
            if num_inputs != num_arguments:
                raise InvalidModel(
                    f"node {node.name!r} calls function {name!r} with {num_inputs} arguments, not {num_arguments}"
                )


def _check_nodes(nodes: Iterable[NodeDef], arguments: Collection[str], where: str) -> None:
    sources: dict[str, set[str]] = {name: set() for name in arguments}
    for node in nodes:
        if node.name in sources:
            raise InvalidModel(f"{where} has two nodes called {node.name!r}")
        sources[node.name] = {name.partition(":")[0].removeprefix("^") for name in node.input}
    for name, inputs in sources.items():
        missing = [source for source in inputs if source not in sources]
        if missing:
            raise InvalidModel(f"node {name!r} of {where} takes {min(missing)!r}, which does not exist")
    for node in nodes:
        if node.op in _CLOSES_A_LOOP:
            sources[node.name] = set()
    _check_acyclic(sources, lambda name: InvalidModel(f"node {name!r} of {where} needs its own output"))


def _check_acyclic(sources: Mapping[str, set[str]], error: Callable[[str], Exception]) -> None:
    try:
        TopologicalSorter(sources).prepare()
    except CycleError as cycle:
        raise error(cycle.args[1][0]) from cycle
