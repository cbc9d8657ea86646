"""What TensorFlow's operations are, by name and without TensorFlow: whether known, whether stateful, their outputs.

`operations.txt` holds the registry's answer for every operation; `generate_operations` describes and writes it.
"""

from __future__ import annotations

from functools import cache
from importlib import resources

from elastic_inference.errors import InvalidModel
from elastic_inference.models.graph_pb2 import NodeDef

DTYPE_NAMES = {
    1: "float32", 2: "float64", 3: "int32", 4: "uint8", 5: "int16", 6: "int8", 7: "string", 8: "complex64",
    9: "int64", 10: "bool", 11: "qint8", 12: "quint8", 13: "qint32", 14: "bfloat16", 15: "qint16",
    16: "quint16", 17: "uint16", 18: "complex128", 19: "float16", 20: "resource", 21: "variant",
    22: "uint32", 23: "uint64",
}  # fmt: skip
DTYPE_NUMBERS = {name: number for number, name in DTYPE_NAMES.items()}
_FIRST_REFERENCE_DTYPE = 100  # TensorFlow numbers a reference to a dtype 100 above it

_MAX_OUTPUTS = 1 << 16  # more would be a damaged file; real graphs have some hundred


def dtype_name(number: int) -> str:
    """TensorFlow's name of a dtype number: `float32`, `float32_ref`, or `dtype 99` where it is unknown."""
    if number > _FIRST_REFERENCE_DTYPE:
        return f"{dtype_name(number - _FIRST_REFERENCE_DTYPE)}_ref"
    return DTYPE_NAMES.get(number, f"dtype {number}")


def is_known(op: str) -> bool:
    """Whether TensorFlow has an operation of this name; functions of a graph's own library are none."""
    return op in _outputs()


def is_stateful(op: str) -> bool:
    """Whether TensorFlow calls the operation stateful."""
    return op in _stateful()


def output_dtypes(node: NodeDef) -> list[str] | None:
    """Return the dtype of each output, variables' own tensors with `_ref`; None where the operation is unknown."""
    words = _outputs().get(node.op)
    if words is None:
        return None
    return [dtype for word in words for dtype in _expand(word, node)]


@cache
def _lines() -> list[list[str]]:
    text = resources.files(__package__).joinpath("operations.txt").read_text()
    return [line.split() for line in text.splitlines()]


@cache
def _outputs() -> dict[str, list[str]]:
    return {name.removeprefix("!"): outputs for name, *outputs in _lines()}


@cache
def _stateful() -> frozenset[str]:
    return frozenset(name[1:] for name, *_ in _lines() if name.startswith("!"))


def _expand(word: str, node: NodeDef) -> list[str]:
    is_reference = word.startswith("&")
    word = word.removeprefix("&")
    if word.startswith("@"):
        return (
            [dtype_name(number) for number in node.attr[word[1:]].list.type] if word[1:] in node.attr else []
        )
    repetition, _, word = word.rpartition("*")
    attribute, _, default = word.partition("=")
    if attribute in DTYPE_NUMBERS and not default:
        dtype = attribute
    elif attribute in node.attr:
        dtype = dtype_name(node.attr[attribute].type)
    else:
        dtype = default or "dtype 0"
    count = node.attr[repetition].i if repetition in node.attr else 1
    if count > _MAX_OUTPUTS:
        raise InvalidModel(f"operation {node.name!r} claims to have {count} outputs")
    return [dtype + ("_ref" if is_reference else "")] * count
