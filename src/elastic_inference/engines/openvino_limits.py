"""What OpenVINO's CPU plugin computes otherwise than TensorFlow without saying so, and how we say it.

Seen with OpenVINO 2026.4: float64 is computed in float32, int64 and uint64 in int32 (2**40 + 2**40 gave 0), and sums of
int8 and uint8 saturate where TensorFlow wraps.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from elastic_inference.errors import InvalidArgumentError, UnsupportedModel
from elastic_inference.models.operations import dtype_name
from elastic_inference.models.resolve import ResolvedGraph
from elastic_inference.models.signature import Signature

INEXACT = {"float64": "float32", "uint64": "int32"}
_WRAPPING = frozenset(
    {"Add", "AddV2", "AddN", "Sub", "Mul", "Neg", "Sum", "Prod", "Square", "MatMul", "Cumsum"}
)
_INT32 = np.iinfo(np.int32)


def refuse_inexact(resolved: ResolvedGraph) -> None:
    """Refuse a graph whose results would silently differ from TensorFlow's.

    Raises:
        UnsupportedModel: Names the tensor or the operation, and the dtype.
    """
    outputs = {
        spec.name: spec for alias, spec in resolved.outputs.items() if alias not in resolved.handed_on()
    }
    reach = resolved.graph.reach(outputs, (spec.name for spec in resolved.inputs.values()))
    inputs = {spec.name: spec for spec in resolved.inputs.values() if spec.name in reach.fed}
    for spec in (*inputs.values(), *outputs.values()):
        if spec.base_dtype in INEXACT:
            raise UnsupportedModel(
                f"OpenVINO would compute tensor {spec.name!r} of dtype {spec.base_dtype} in {INEXACT[spec.base_dtype]}"
            )
    for name in sorted(reach.nodes):
        node = resolved.graph.nodes[name]
        dtype = dtype_name(node.attr["T"].type) if "T" in node.attr else ""
        if node.op in _WRAPPING and dtype in ("int8", "uint8"):
            raise UnsupportedModel(
                f"OpenVINO would saturate operation {node.op} ({name!r}) of dtype {dtype}, where TensorFlow wraps"
            )


def narrow_dtype_notes(signature: Signature) -> tuple[str, ...]:
    """A note where a signature has int64 tensors."""
    names = [
        spec.name
        for spec in (*signature.inputs.values(), *signature.outputs.values())
        if spec.base_dtype == "int64"
    ]
    if not names:
        return ()
    return (f"OpenVINO computes int64 ({', '.join(names)}) in int32; inputs outside its range are refused.",)


def refuse_out_of_range(alias: str, array: npt.NDArray[Any]) -> None:
    """Refuse int64 values that int32 cannot hold.

    Raises:
        InvalidArgumentError: Gives the range.
    """
    if array.size and (array.max() > _INT32.max or array.min() < _INT32.min):
        raise InvalidArgumentError(
            f"input {alias!r} has values from {array.min()} to {array.max()}, but engine openvino computes int64 in "
            "int32; engine tensorflow takes them"
        )
