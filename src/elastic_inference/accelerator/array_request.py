"""A request whose tensors are arrays, for doors whose own encoding is neither the protocol's head nor its bytes."""

from __future__ import annotations

from collections.abc import Sequence

from elastic_inference.accelerator.inference import Inference, Result
from elastic_inference.engines.base import Arrays
from elastic_inference.protocol import arrays as wire
from elastic_inference.protocol.heads import RequestHead, TensorPart, WantedOutput


def predict(
    inference: Inference,
    name: str,
    inputs: Arrays,
    *,
    wanted: Sequence[str] | None = None,
    timeout_seconds: float | None = None,
    trace_parent: bytes = b"",
) -> Result:
    """Run one request; raises as `Inference.infer`.

    Args:
        inputs: By alias, of the signature's dtypes.
        wanted: Outputs; None: all.
    """
    signature = inference.signature(name)
    parts, views = [], []
    for alias, array in inputs.items():
        spec = signature.inputs.get(alias)
        view = wire.to_bytes(array)
        dtype = "float32" if spec is None else spec.base_dtype  # an unknown alias is refused by its name
        parts.append(TensorPart(alias, dtype, array.shape, 0, len(view)))
        views.append(view)
    outputs = None if wanted is None else tuple(WantedOutput(alias, True) for alias in wanted)
    head = RequestHead(None, tuple(parts), outputs, True, timeout_seconds, 0)
    return inference.infer(name, head, views, lambda result: result, trace_parent=trace_parent)
