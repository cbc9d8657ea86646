"""Graphs that engines would hang or crash on are refused before any engine sees them."""

from __future__ import annotations

import pytest

from elastic_inference.errors import InvalidModel, UnsupportedModel
from elastic_inference.models.graph_pb2 import GraphDef, NodeDef
from elastic_inference.models.soundness import check_sound


def graph(*nodes: tuple[str, ...]) -> GraphDef:
    """Nodes as (name, operation, *inputs)."""
    return GraphDef(node=[NodeDef(name=name, op=op, input=inputs) for name, op, *inputs in nodes])


def add_function(to: GraphDef, name: str, arguments: list[str], *nodes: tuple[str, ...]) -> None:
    function = to.library.function.add(node_def=graph(*nodes).node)
    function.signature.name = name
    for argument in arguments:
        function.signature.input_arg.add(name=argument)


def test_a_plain_graph() -> None:
    check_sound(graph(("b", "Neg", "a:0"), ("a", "Placeholder"), ("c", "NoOp", "^b")))


def test_a_loop_of_tensorflow_1() -> None:
    check_sound(
        graph(("enter", "Enter"), ("merge", "Merge", "enter", "next"), ("add", "Add", "merge", "merge"),
              ("next", "NextIteration", "add"))
    )  # fmt: skip


@pytest.mark.parametrize(
    ("nodes", "text"),
    [
        ([("a", "Neg", "b"), ("b", "Neg", "a")], "needs its own output"),
        ([("a", "Neg", "a")], "needs its own output"),
        ([("a", "Neg", "^a")], "needs its own output"),
        ([("a", "Neg", "ghost:1")], "'a' of the graph takes 'ghost', which does not exist"),
        ([("a", "Const"), ("a", "Const")], "two nodes called 'a'"),
    ],
)
def test_no_graph(nodes: list[tuple[str, ...]], text: str) -> None:
    with pytest.raises(InvalidModel, match=text):
        check_sound(graph(*nodes))
    inside = graph(("x", "Placeholder"))
    add_function(inside, "f", [], *nodes)
    with pytest.raises(InvalidModel, match=text.replace("the graph", "function 'f'")):
        check_sound(inside)


FUNCTION_ATTRIBUTES = {
    "PartitionedCall": ["f"],
    "If": ["then_branch", "else_branch"],
    "While": ["cond", "body"],
}


def calling(op: str, *inputs: str) -> GraphDef:
    """x, y, and a node that calls f(p, q) with `inputs`."""
    made = graph(("x", "Placeholder"), ("y", "Placeholder"), ("call", op, *inputs))
    for attribute in FUNCTION_ATTRIBUTES.get(op, []):
        made.node[2].attr[attribute].func.name = "f"
    add_function(made, "f", ["p", "q"], ("sum", "Add", "p", "q"))
    return made


@pytest.mark.parametrize(
    ("op", "attribute"), [(op, a) for op, names in FUNCTION_ATTRIBUTES.items() for a in names]
)
def test_call_that_names_no_function(op: str, attribute: str) -> None:
    made = calling(op, *["x"] * (op == "If"), "x", "y")
    check_sound(made)
    made.node[2].attr[attribute].func.name = "ghost"
    with pytest.raises(InvalidModel, match="calls function 'ghost', which does not exist"):
        check_sound(made)
    del made.node[2].attr[attribute]
    with pytest.raises(InvalidModel, match=f"'call' names no function in '{attribute}'"):
        check_sound(made)


def test_calls_with_the_right_arguments() -> None:
    check_sound(calling("PartitionedCall", "x", "y"))
    check_sound(calling("If", "x", "x", "y", "^y"))
    check_sound(calling("f", "x", "y"))


@pytest.mark.parametrize(
    ("op", "inputs"), [("PartitionedCall", ["x"]), ("If", ["x", "y"]), ("f", ["x", "y", "x"])]
)
def test_call_with_the_wrong_arguments(op: str, inputs: list[str]) -> None:
    with pytest.raises(InvalidModel, match=r"'call' calls function 'f' with [13] arguments, not 2"):
        check_sound(calling(op, *inputs))


def test_function_that_calls_itself() -> None:
    made = graph(("x", "Placeholder"))
    add_function(made, "f", ["p"], ("call", "g", "p"))
    add_function(made, "g", ["p"], ("call", "f", "p"))
    with pytest.raises(UnsupportedModel, match=r"function '[fg]' calls itself"):
        check_sound(made)
