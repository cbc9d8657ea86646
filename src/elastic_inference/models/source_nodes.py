"""One operation of a model as its own format has it, one form for TensorFlow and ONNX: what a rule can ask about."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class SourceNode:
    """One operation.

    Attributes:
        domain: "" for TensorFlow's and ONNX's own operations.
        attributes: Numbers, booleans and texts by name, lists of them, and dtypes by TensorFlow's names; what has
            another form (tensors, graphs) is None.
        inputs: Names of the tensors that it takes, "" for an optional one that is left out.
        outputs: Names of its outputs where the format names them, "" for those that nobody takes.
        version: Of the operation's set (ONNX); 0 elsewhere.
    """

    op: str
    name: str
    domain: str = ""
    attributes: Mapping[str, Any] = field(default_factory=dict)
    inputs: Sequence[str] = ()
    outputs: Sequence[str] = ()
    version: int = 0

    def has_input(self, index: int) -> bool:
        """Whether the optional input at this position is given."""
        return index < len(self.inputs) and self.inputs[index] != ""
