"""Makes a loaded program of torch.export quicker to launch; what it computes stays the same, bit for bit.

As torch loads it, a program looks up each weight through its chain of modules and calls each operation through
`torch.ops`, which reads its arguments by the schema. For a network of small operations, or on a GPU, which computes
faster than Python launches, that is a tenth of a call and more.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

_WEIGHT = "_weight_"
# Operations whose function of the same arguments is quicker to call, and where that is.
_FUNCTIONS = {
    "aten::adaptive_avg_pool2d": "_C._nn.adaptive_avg_pool2d",
    "aten::avg_pool2d": "_C._nn.avg_pool2d",
    "aten::batch_norm": "batch_norm",
    "aten::conv1d": "conv1d",
    "aten::conv2d": "conv2d",
    "aten::conv3d": "conv3d",
    "aten::embedding": "embedding",
    "aten::gelu": "_C._nn.gelu",
    "aten::group_norm": "group_norm",
    "aten::hardswish_": "_C._nn.hardswish_",
    "aten::layer_norm": "layer_norm",
    "aten::linear": "_C._nn.linear",
    "aten::matmul": "matmul",
    "aten::max_pool2d": "max_pool2d",
    "aten::relu": "relu",
    "aten::relu_": "relu_",
    "aten::scaled_dot_product_attention": "_C._nn.scaled_dot_product_attention",
}


def hasten(torch: ModuleType, module: Any) -> None:
    """Rewrite the graph of a loaded program, once all that is to be read of it has been read."""
    for node in module.graph.nodes:
        if node.op == "get_attr":
            _put_at_hand(module, node)
        elif node.op == "call_function":
            node.target = _function(torch, node.target)
    module.recompile()


def _put_at_hand(module: Any, node: Any) -> None:
    """Have the weight in the module's own dictionary too, where it is found without a search."""
    value = module
    for part in node.target.split("."):
        value = getattr(value, part)
    name = _WEIGHT + node.target.replace(".", "_")
    while module.__dict__.get(name, value) is not value:
        name += "_"
    module.__dict__[name] = value
    node.target = name


def _function(torch: ModuleType, target: Any) -> Any:
    schema = getattr(target, "_schema", None)
    if schema is None or schema.overload_name or schema.name not in _FUNCTIONS:
        return target
    found: Any = torch
    for part in _FUNCTIONS[schema.name].split("."):
        found = getattr(found, part)
    return found
