"""A request whose tensors are arrays, for doors whose own encoding is neither the protocol's head nor its bytes."""

from __future__ import annotations

from collections.abc import Sequence

from elastic_inference.accelerator.inference import Inference, Result
from elastic_inference.accelerator.rpc import Caller
from elastic_inference.engines.base import Arrays
from elastic_inference.protocol import arrays as wire
from elastic_inference.protocol.heads import RequestHead, TensorPart, WantedOutput


def predict(
    inference: Inference,
    name: str,
    inputs: Arrays,
    version: str = "",
    outputs: Sequence[str] = (),
    caller: Caller | None = None,
    signature_key: str = "",
) -> Result:
    """Run one request; raises as `Inference.infer`.

    Args:
        inputs: By alias, of the signature's dtypes.
        version: "" is the newest.
        outputs: Those that are wanted; none: all.
        signature_key: "" is the one that the model was loaded with.
        caller: Whose time and interest are heeded; None: nobody's.
    """
    signature = inference.signature(name, version, signature_key)
    parts, views = [], []
    for alias, array in inputs.items():
        view = wire.to_bytes(array)
        parts.append(TensorPart(alias, signature.inputs[alias].base_dtype, array.shape, 0, len(view)))
        views.append(view)
    wanted = tuple([WantedOutput(output, True) for output in outputs]) or None
    head = RequestHead(None, tuple(parts), wanted, True, None, 0)
    result = inference.infer(
        name,
        head,
        views,
        lambda result: result,
        b"" if caller is None else caller.trace_parent,
        None if caller is None else caller.seconds_left(),
        None if caller is None else caller.is_wanted,
        None if caller is None else caller.began,
        version,
        signature_key,
    )
    if caller is not None:
        caller.ran(result.timing)
    return result
