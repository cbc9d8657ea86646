"""A request whose tensors are arrays, for doors whose own encoding is neither the protocol's head nor its bytes."""

from __future__ import annotations

from elastic_inference.accelerator.inference import Inference, Result
from elastic_inference.engines.base import Arrays
from elastic_inference.protocol import arrays as wire
from elastic_inference.protocol.heads import RequestHead, TensorPart


def predict(inference: Inference, name: str, inputs: Arrays) -> Result:
    """Run one request for all outputs; raises as `Inference.infer`.

    Args:
        inputs: By alias, of the signature's dtypes.
    """
    signature = inference.signature(name)
    parts, views = [], []
    for alias, array in inputs.items():
        view = wire.to_bytes(array)
        parts.append(TensorPart(alias, signature.inputs[alias].base_dtype, array.shape, 0, len(view)))
        views.append(view)
    return inference.infer(
        name, RequestHead(None, tuple(parts), None, True, None, 0), views, lambda result: result
    )
