"""Where OpenVINO would compute other numbers than a model says, found in the model as OpenVINO read it.

How operations are computed stands in `kernels`. Here the numbers are followed from inputs to results, the
bodies of loops and branches included: sizes, positions and whatever stays in range are right in any case.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from elastic_inference.engines import value_bounds as bounds
from elastic_inference.engines.openvino import kernels
from elastic_inference.engines.value_bounds import ANYTHING, SIZE, Bound


@dataclass
class Findings:
    """What `examine` found.

    Attributes:
        differences: What would be computed otherwise than the model says; a sentence each.
        loses_nan: Names of operations through which NaN, infinities or empty tensors may become other numbers.
        index_limits: Position of an input -> how many elements its values choose among; outside of that others raise.
    """

    differences: list[str] = field(default_factory=list)
    loses_nan: list[str] = field(default_factory=list)
    index_limits: dict[int, int] = field(default_factory=dict)


def examine(model: Any) -> Findings:
    """Read a model (ov.Model) as it is before it is compiled."""
    findings = Findings()
    parameters = [_parameter_bound(node) for node in model.get_parameters()]
    _Walk(findings).run(model, parameters)
    findings.differences = list(dict.fromkeys(findings.differences))
    findings.loses_nan = sorted(set(findings.loses_nan))
    return findings


class _Walk:
    """One reading of a model's operations in their order; bodies of loops and branches are read where they stand."""

    def __init__(self, findings: Findings) -> None:
        self._findings = findings
        self._known: dict[tuple[str, int], Bound] = {}
        self._traced: dict[tuple[str, int], int] = {}

    def run(self, model: Any, parameters: Sequence[Bound], *, is_body: bool = False) -> list[Bound]:
        """Bounds of the model's results."""
        for index, (node, bound) in enumerate(zip(model.get_parameters(), parameters, strict=True)):
            self._known[node.get_name(), 0] = bound
            if not is_body:
                self._traced[node.get_name(), 0] = index
        for node in model.get_ordered_ops():
            kind = node.get_type_name()
            if kind != "Parameter":
                self._visit(node, kind)
        return [self._inputs(node)[0] for node in model.get_results()]

    def _inputs(self, node: Any) -> list[Bound]:
        sources = (node.input_value(index) for index in range(node.get_input_size()))
        return [self._known.get((s.get_node().get_name(), s.get_index()), ANYTHING) for s in sources]

    def _visit(self, node: Any, kind: str) -> None:
        name = node.get_name()
        if kind == "Constant":
            self._known[name, 0] = _constant_bound(node)
            return
        if kind not in kernels.KEEPS_NAN:
            self._findings.loses_nan.append(kind)
        inputs = self._inputs(node)
        if kind in ("Loop", "TensorIterator"):
            results = self._loop(node, inputs)
        elif kind == "If":
            results = self._branches(node, inputs)
        else:
            results = [self._result(node, kind, inputs, i) for i in range(node.get_output_size())]
        for index, bound in enumerate(results):
            self._known[name, index] = bound
            self._check_double(node, kind, bound, index)
        self._trace(node, kind)

    def _check_double(self, node: Any, kind: str, bound: Bound, index: int) -> None:
        if kind != "Result" and _element(node, index) == "f64" and not bound.is_constant:
            self._say(node, "f64", "in float32")

    def _result(self, node: Any, kind: str, inputs: list[Bound], index: int) -> Bound:
        dtype = _element(node, index)
        if inputs and kind not in kernels.SIZES and all(bound.is_constant for bound in inputs):
            # Computed while the model is compiled, by other code, which is exact.
            return Bound(*kernels.RANGES.get(dtype, (-math.inf, math.inf)), is_constant=True)
        if kind == "TopK" and index == 1:
            return SIZE
        row = kernels.ARITHMETIC.get(kind)
        if row is not None:
            if kind == "Clamp":
                attributes = node.get_attributes()
                inputs = [_clamped(inputs[0], float(attributes["min"]), float(attributes["max"]))]
            bound = row.result(inputs, _reduced_count(node))
            self._check(node, row, inputs, bound)
            return bound if kind not in ("ReduceMean",) else inputs[0]
        if kind in ("Convert", "ConvertLike"):
            return self._converted(node, inputs[0], dtype)
        if kind == "Result":
            self._check_result(node, inputs[0])
        return _other_result(kind, inputs, dtype)

    def _check(self, node: Any, row: kernels.Arithmetic, inputs: Sequence[Bound], result: Bound) -> None:
        dtype = node.get_input_element_type(0).get_type_name()
        if dtype in kernels.RANGES and dtype != "boolean":
            how = _otherwise(dtype, row.kernel, inputs[: row.num_operands], result)
            if how is not None:
                self._say(node, dtype, how)

    def _converted(self, node: Any, source: Bound, dtype: str) -> Bound:
        if source.is_size:
            return source
        allowed = kernels.RANGES.get(dtype)
        if allowed is None:
            return source
        came_from = node.get_input_element_type(0).get_type_name()
        if came_from in kernels.RANGES:
            return source if source.fits(*allowed) else Bound(*allowed)
        held = kernels.INT32 if dtype in ("i64", "u64", "u32") else allowed
        if dtype not in ("i32", "boolean") and not source.fits(*held):
            self._say(
                node, dtype, "in int32" if held is kernels.INT32 else "with saturation, where it should wrap"
            )
        return (
            Bound(max(source.low, held[0]), min(source.high, held[1]))
            if source.low <= held[1]
            else Bound(*held)
        )

    def _check_result(self, node: Any, bound: Bound) -> None:
        dtype = node.get_input_element_type(0).get_type_name()
        if dtype in ("i64", "u64", "u32") and not bound.fits(*kernels.INT32):
            self._say(node.input_value(0).get_node(), dtype, "in int32")

    def _loop(self, node: Any, inputs: list[Bound]) -> list[Bound]:
        """Return a loop's body; what it hands to its next turn is taken to be what it began with, or else anything."""
        body = node.get_function()
        starts, carried = _body_inputs(node, body, inputs)
        parameters = body.get_parameters()
        # A counter is taken to be a size until the body shows that it grows otherwise.
        open_sizes = {p for p in carried if _is_integer(parameters[p]) and _is_small(starts[p])}
        for parameter in carried:
            is_open = parameter in open_sizes
            starts[parameter] = SIZE if is_open else _parameter_bound(parameters[parameter])
        while open_sizes:
            results = _Walk(Findings()).run(body, starts, is_body=True)
            grown = {
                p for p in open_sizes if not (results[carried[p]].is_size or _is_small(results[carried[p]]))
            }
            for parameter in grown:
                starts[parameter] = _parameter_bound(parameters[parameter])
            open_sizes -= grown
            if not grown:
                break
        results = _Walk(self._findings).run(body, starts, is_body=True)
        outputs = [ANYTHING] * node.get_output_size()
        for description in node.get_output_descriptions():
            outputs[description.output_index] = results[description.body_value_index]
        return outputs

    def _branches(self, node: Any, inputs: list[Bound]) -> list[Bound]:
        outputs: list[list[Bound]] = [[] for _ in range(node.get_output_size())]
        for branch in (0, 1):
            body = node.get_function(branch)
            starts = [_parameter_bound(parameter) for parameter in body.get_parameters()]
            for description in node.get_input_descriptions(branch):
                starts[description.body_parameter_index] = inputs[description.input_index]
            results = _Walk(self._findings).run(body, starts, is_body=True)
            for description in node.get_output_descriptions(branch):
                outputs[description.output_index].append(results[description.body_value_index])
        return [bounds.join(*known) if known else ANYTHING for known in outputs]

    def _trace(self, node: Any, kind: str) -> None:
        """Follow inputs that are handed on as they are to where they choose among elements."""
        if kind in ("Convert", "Reshape", "Squeeze", "Unsqueeze", "Transpose"):
            source = node.input_value(0)
            index = self._traced.get((source.get_node().get_name(), source.get_index()))
            if index is not None:
                self._traced[node.get_name(), 0] = index
        if kind == "Gather":
            source, shape = node.input_value(1), node.get_input_partial_shape(0)
            index = self._traced.get((source.get_node().get_name(), source.get_index()))
            axis = node.input_value(2).get_node()
            if index is None or axis.get_type_name() != "Constant" or shape.rank.is_dynamic:
                return
            size = shape[int(axis.data.reshape(-1)[0])]
            if size.is_static:
                limits = self._findings.index_limits
                limits[index] = min(limits.get(index, size.get_length()), size.get_length())

    def _say(self, node: Any, dtype: str, how: str) -> None:
        name = kernels.NAMES.get(dtype, dtype)
        self._findings.differences.append(
            f"{node.get_type_name()} ({node.get_friendly_name()!r}) of {name} is computed {how}"
        )


def _otherwise(dtype: str, kernel: kernels.Kernel, operands: Sequence[Bound], result: Bound) -> str | None:
    """How an operation on integers is computed, where that matters for numbers within these bounds."""
    held = kernels.HELD_IN.get(dtype)
    is_comparison = kernel is kernels.Kernel.COMPARISON
    numbers = operands if is_comparison else (*operands, result)
    if held is not None and not all(bound.fits(*held) for bound in numbers):
        return kernels.HOW[dtype]
    limit = (-kernels.FLOAT32_INTEGERS, kernels.FLOAT32_INTEGERS)
    if is_comparison:
        return None if any(bound.fits(*limit) for bound in operands) else str(kernel.value)
    if kernel is kernels.Kernel.DIVISION and (dtype in ("i8", "u8") or _may_be_zero(operands[1])):
        return str(kernel.value)
    if kernel is not kernels.Kernel.INTEGER and not all(bound.fits(*limit) for bound in numbers):
        return str(kernel.value)
    return None


def _other_result(kind: str, inputs: list[Bound], dtype: str) -> Bound:
    if kind in kernels.SIZES:
        return SIZE if dtype not in ("f32", "f16", "f64") or kind == "Range" else ANYTHING
    if kind in kernels.HANDS_ON and inputs:
        return inputs[0]
    if kind in kernels.JOINS:
        positions = kernels.JOINS[kind]
        return bounds.join(
            *(inputs if positions is None else (inputs[p] for p in positions if p < len(inputs)))
        )
    if kind in kernels.FLOAT_RANGES:
        return kernels.FLOAT_RANGES[kind]
    return Bound(*kernels.RANGES.get(dtype, (-math.inf, math.inf)))


def _body_inputs(node: Any, body: Any, inputs: list[Bound]) -> tuple[list[Bound], dict[int, int]]:
    """Bounds of a loop's parameters at its start, and for those that are handed on from turn to turn their result."""
    starts = [_parameter_bound(parameter) for parameter in body.get_parameters()]
    carried: dict[int, int] = {}
    for description in node.get_input_descriptions():
        starts[description.body_parameter_index] = inputs[description.input_index]
        if type(description).__name__ == "MergedInputDescription":
            carried[description.body_parameter_index] = description.body_value_index
    if node.get_type_name() == "Loop":
        counter = node.get_special_body_ports()[0]
        if counter >= 0:
            starts[counter] = SIZE
    return starts, carried


def _parameter_bound(node: Any) -> Bound:
    dtype = _element(node, 0)
    # Values of int64 inputs outside int32 never come here: see `call_checks`.
    return Bound(*(kernels.INT32 if dtype == "i64" else kernels.RANGES.get(dtype, (-math.inf, math.inf))))


def _constant_bound(node: Any) -> Bound:
    dtype = _element(node, 0)
    if dtype not in kernels.RANGES and dtype not in ("f32", "f64", "f16"):
        return Bound(is_constant=True)
    data = node.data
    if not data.size:
        return Bound(0, 0, is_constant=True)
    low, high = float(np.min(data)), float(np.max(data))
    return Bound(low, high, is_constant=True) if low <= high else Bound(is_constant=True)


def _reduced_count(node: Any) -> int | None:
    """How many numbers a reduction takes together; None where that is open."""
    if not node.get_type_name().startswith("Reduce"):
        return None
    shape, axes = node.get_input_partial_shape(0), node.input_value(1).get_node()
    if shape.rank.is_dynamic or axes.get_type_name() != "Constant":
        return None
    sizes = [shape[int(axis)] for axis in axes.data.reshape(-1)]
    if not all(size.is_static for size in sizes):
        return None
    return math.prod(int(size.get_length()) for size in sizes)


def _clamped(a: Bound, low: float, high: float) -> Bound:
    return bounds.minimum(bounds.maximum(a, Bound(low, low)), Bound(high, high))


def _may_be_zero(divisor: Bound) -> bool:
    return not divisor.is_size and divisor.low <= 0 <= divisor.high


def _is_small(bound: Bound) -> bool:
    return bound.is_size or (bound.factor is None and bound.magnitude <= bounds.SMALL)


def _is_integer(node: Any) -> bool:
    return _element(node, 0) in ("i32", "i64")


def _element(node: Any, index: int) -> str:
    return str(node.get_output_element_type(index).get_type_name())
