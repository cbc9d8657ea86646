"""Raw binary requests: the bytes of a model's only input, with no head that says its shape."""

from __future__ import annotations

import math

from elastic_inference.errors import InvalidInput
from elastic_inference.models.signature import Signature
from elastic_inference.protocol.heads import RequestHead, TensorPart
from elastic_inference.tensors import TensorSpec, shape_text


def head_of(signature: Signature, num_bytes: int, model: str) -> RequestHead:
    """Return the head that such a request would have; raises InvalidInput where the model has several inputs.

    Args:
        model: Its name, for the error.
    """
    if len(signature.inputs) != 1:
        raise InvalidInput(
            f"a raw request needs a model of one input; {model!r:.200} has {len(signature.inputs)}"
        )
    ((name, spec),) = signature.inputs.items()
    part = TensorPart(name, spec.base_dtype, shape_of_bytes(spec, num_bytes, name), 0, num_bytes)
    return RequestHead(None, (part,), None, True, None, num_bytes)


def shape_of_bytes(spec: TensorSpec, num_bytes: int, name: str) -> tuple[int, ...]:
    """Give the shape of input `name` that was sent as `num_bytes` bytes alone: its one open size is what they leave.

    Raises:
        InvalidInput: More than one size is open, or the bytes make no whole tensor.
    """
    if spec.shape is None or spec.shape.count(None) > 1:
        raise InvalidInput(f"a raw request cannot tell the shape {shape_text(spec.shape)} of input {name!r}")
    item_bytes = num_bytes if spec.base_dtype == "string" else spec.numpy_dtype.itemsize
    known = math.prod(size for size in spec.shape if size is not None) * max(item_bytes, 1)
    open_size = num_bytes // known if known else 0
    shape = tuple(open_size if size is None else size for size in spec.shape)
    if math.prod(shape) * item_bytes != num_bytes:
        raise InvalidInput(f"input {name!r} of shape {shape_text(spec.shape)} cannot have {num_bytes} bytes")
    return shape
