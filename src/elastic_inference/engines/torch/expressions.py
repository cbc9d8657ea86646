"""Sizes and guards of exported programs are Python text that PyTorch evaluates; here only arithmetic passes."""

from __future__ import annotations

import ast
import re

MAX_LENGTH = 10_000
MAX_EXPONENT = 64
# What sympy and torch.utils._sympy.functions make of sizes; none of them does more than arithmetic.
_FUNCTIONS = frozenset(
    [
        "Symbol",
        "Integer",
        "Float",
        "Rational",
        "Mul",
        "Add",
        "Pow",
        "Mod",
        "Max",
        "Min",
        "And",
        "Or",
        "Not",
        "Eq",
        "Ne",
        "Lt",
        "Le",
        "Gt",
        "Ge",
        "Abs",
        "Piecewise",
        "Equality",
        "Unequality",
        "StrictLessThan",
        "LessThan",
        "StrictGreaterThan",
        "GreaterThan",
        "floor",
        "ceiling",
        "FloorDiv",
        "ModularIndexing",
        "Where",
        "PythonMod",
        "CleanDiv",
        "CeilToInt",
        "FloorToInt",
        "CeilDiv",
        "LShift",
        "RShift",
        "PowByNatural",
        "FloatPow",
        "FloatTrueDiv",
        "IntTrueDiv",
        "IsNonOverlappingAndDenseIndicator",
        "TruncToFloat",
        "TruncToInt",
        "RoundToInt",
        "RoundDecimal",
        "ToFloat",
        "Identity",
        "BooleanTrue",
        "BooleanFalse",
        "max",
        "min",
    ]
)
_SYMBOL = re.compile(r"[a-z]+\d*|L|true|false|True|False|oo|zoo|args|int_oo")
_TENSOR_METHODS = frozenset({"size", "stride", "storage_offset"})
_ARITHMETIC = (
    ast.Expression, ast.BinOp, ast.UnaryOp, ast.BoolOp, ast.Compare, ast.IfExp, ast.Tuple, ast.List, ast.Load,
    ast.operator, ast.unaryop, ast.boolop, ast.cmpop, ast.keyword, ast.Subscript, ast.Slice,
)  # fmt: skip


def check_expression(text: str) -> str | None:
    """Return what is wrong with an expression, None for one that is arithmetic on sizes."""
    if len(text) > MAX_LENGTH or '"' in text or "\\" in text:
        return f"the expression {text!r:.60} is too long or holds strings"
    try:
        tree = ast.parse(text, mode="eval")
        wrong = next((node for node in ast.walk(tree) if not _is_arithmetic(node)), None)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return f"the expression {text!r:.60} cannot be read"
    return None if wrong is None else f"the expression {text!r:.60} is not arithmetic on sizes"


def _is_arithmetic(node: ast.AST) -> bool:
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Pow):
        return isinstance(node.right, ast.Constant) and _is_small(node.right.value)
    if isinstance(node, ast.Call):
        name = node.func
        if isinstance(name, ast.Attribute):
            return name.attr in _TENSOR_METHODS
        return isinstance(name, ast.Name) and name.id in _FUNCTIONS and _is_bounded(node, name.id)
    if isinstance(node, ast.Attribute):
        return node.attr in _TENSOR_METHODS
    if isinstance(node, ast.Name):
        return node.id in _FUNCTIONS or _SYMBOL.fullmatch(node.id) is not None
    if isinstance(node, ast.Constant):
        return (
            not isinstance(node.value, str) or re.fullmatch(r"[\w.\- /]*", node.value, re.ASCII) is not None
        )
    return isinstance(node, _ARITHMETIC)


def _is_bounded(call: ast.Call, function: str) -> bool:
    """Whether a power stays small enough to be computed at all."""
    if function not in ("Pow", "LShift") or len(call.args) < 2:
        return True
    exponent = call.args[1]
    if isinstance(exponent, ast.Call) and exponent.args:  # Integer(2)
        exponent = exponent.args[0]
    if isinstance(exponent, ast.UnaryOp):
        exponent = exponent.operand
    return isinstance(exponent, ast.Constant) and _is_small(exponent.value)


def _is_small(value: object) -> bool:
    return isinstance(value, int | float) and abs(value) <= MAX_EXPONENT
