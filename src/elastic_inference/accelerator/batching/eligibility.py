"""Which models may be tried at all: what their signatures say of axis 0. That it is a batch, the trial then proves."""

from __future__ import annotations

from elastic_inference.models.signature import Signature
from elastic_inference.tensors import TensorSpec


def refusal(signature: Signature, changes: tuple[str, ...]) -> str:
    """Say why requests of a model cannot run together; "" where its form allows it.

    Args:
        changes: See LoadedModel.
    """
    if changes:
        return f"a call changes what the next one sees ({', '.join(changes)})"
    if not signature.inputs or not signature.outputs:
        return "it has no inputs, or no outputs"
    for kind, specs in (("input", signature.inputs), ("output", signature.outputs)):
        for alias, spec in specs.items():
            text = _refusal_of(spec)
            if text:
                return f"{kind} {alias!r} {text}"
    return _depends_on_values(signature)


def open_axes(spec: TensorSpec) -> list[int]:
    """Return the axes of open size after the first."""
    return [axis for axis, size in enumerate(spec.shape or ()) if axis > 0 and size is None]


def _refusal_of(spec: TensorSpec) -> str:
    if spec.base_dtype == "string":
        return "holds strings"
    if spec.shape is None:
        return "may have any number of axes"
    if not spec.shape:
        return "has no axes"
    if spec.shape[0] is not None:
        return f"has {spec.shape[0]} rows, always"
    return ""


def _depends_on_values(signature: Signature) -> str:
    """Say whether an answer's shape may depend on values, and so on the others of its batch."""
    if any(open_axes(spec) for spec in signature.inputs.values()):
        return ""  # the output's may be the same; the trial looks
    for alias, spec in signature.outputs.items():
        if axes := open_axes(spec):
            return f"axis {axes[0]} of output {alias!r} is open, so that its size may depend on the values"
    return ""
