"""Where a program of PyTorch can be held while another accelerator has the device.

That is before operations that take their time, and, in programs of torch.export, between submodules. A point costs the
CPU less than a microsecond; how many of them wait for a GPU is `device`'s to decide.
"""

from __future__ import annotations

import re
import threading
from functools import cache
from itertools import pairwise
from types import ModuleType
from typing import Any

from elastic_inference.engines.preemption import checkpoint

# By name, whatever the library: convolutions, products of matrices, recurrent layers, resizing, searches in boxes.
_LONG = re.compile(
    r"conv|linear|matmul|mm$|mv$|einsum|attention|encoder_layer|lstm|gru|rnn|upsample|roi_|nms|embedding_bag|fft|sort|topk"
)
_raised = threading.local()


def add_to_program(graph: Any) -> int:
    """Have a graph of torch.fx call `checkpoint` at its points; how many those are."""
    operations = [node for node in graph.nodes if node.op == "call_function"]
    num_points = 0
    for before, after in pairwise(operations):
        if _submodule(before) != _submodule(after) or _is_long(_name(after)):
            with graph.inserting_before(after):
                graph.call_function(checkpoint)
            num_points += 1
    return num_points


def _name(node: Any) -> str:
    schema = getattr(node.target, "_schema", None)
    return "" if schema is None else str(schema.name)


def _is_long(name: str) -> bool:
    return _LONG.search(name.rpartition("::")[2]) is not None


def _submodule(node: Any) -> object:
    stack = node.meta.get("nn_module_stack")
    return next(reversed(stack.values()))[0] if stack else None


def add_to_script(torch: ModuleType, module: Any) -> int:
    """Have the `forward` of a module of TorchScript that has not run yet stop at its points; how many those are.

    What it calls becomes part of its graph, which TorchScript would do as well when it first runs.
    """
    operation = _operation(torch)
    graph = module.forward.graph
    torch._C._jit_pass_inline(graph)
    num_points = _add_to_block(graph, graph, operation)
    return max(num_points - 1, 0)  # before the first nothing has been computed


def _add_to_block(graph: Any, block: Any, operation: str) -> int:
    num_points = 0
    for node in list(block.nodes()):
        if _is_long(node.kind()):
            graph.create(operation, [], 0).insertBefore(node)
            num_points += 1
        num_points += sum(_add_to_block(graph, inner, operation) for inner in node.blocks())
    return num_points


@cache
def _operation(torch: ModuleType) -> str:
    """Make `checkpoint` an operation, for TorchScript calls nothing else; return its name.

    It is declared as one that may write anything, for what only returns nothing would be optimized away.
    """
    library = torch.library.Library("elastic_inference", "DEF")
    library.define("checkpoint() -> ()", "CONSERVATIVE")
    library.impl("checkpoint", _checkpoint, "CompositeExplicitAutograd")
    _kept.append(library)
    return "elastic_inference::checkpoint"


_kept: list[Any] = []  # libraries whose operations end with them


def _checkpoint() -> None:
    try:
        checkpoint()
    except Exception as error:
        _raised.error = error
        raise


def take_raised() -> Exception | None:
    """Return what a point of this thread raised since the last call: TorchScript hands on its text alone."""
    error: Exception | None = _raised.__dict__.pop("error", None)
    return error
