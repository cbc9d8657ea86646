"""What a program of torch.export changes besides computing its results: its inputs, or buffers of its own."""

from __future__ import annotations

import operator
from collections.abc import Iterator
from typing import Any


def changed_places(graph: Any) -> tuple[frozenset[str], frozenset[str]]:
    """Return the inputs and the attributes that operations in place write to, directly or through views."""
    inputs, attributes = set(), set()
    for node in graph.nodes:
        for written in _written(node):
            origin = _origin(written)
            if origin.op == "placeholder":
                inputs.add(origin.name)
            elif origin.op == "get_attr":
                attributes.add(str(origin.target))
    return frozenset(inputs), frozenset(attributes)


def _written(node: Any) -> Iterator[Any]:
    """Yield the arguments that an operation writes to, as its schema says."""
    schema = getattr(node.target, "_schema", None)
    if node.op != "call_function" or schema is None or not schema.is_mutable:
        return
    for position, argument in enumerate(schema.arguments):
        if argument.alias_info is not None and argument.alias_info.is_write:
            value = node.args[position] if position < len(node.args) else node.kwargs.get(argument.name)
            yield from (
                v for v in (value if isinstance(value, list | tuple) else [value]) if hasattr(v, "op")
            )


def _origin(node: Any) -> Any:
    """Return the node whose memory this one looks at."""
    while node.op == "call_function" and node.args and hasattr(node.args[0], "op"):
        schema = getattr(node.target, "_schema", None)
        is_view = schema is not None and schema.arguments and schema.arguments[0].alias_info is not None
        if not is_view and node.target is not operator.getitem:
            break
        node = node.args[0]
    return node
