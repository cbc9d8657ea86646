"""What a configuration says of a model's tensors, held against the model itself: names, datatypes and sizes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from elastic_inference.errors import InvalidInput
from elastic_inference.models.signature import Signature
from elastic_inference.tensors import WIRE_NAMES, TensorSpec, shape_text


def check(signature: Signature, expects: Mapping[str, Any] | None) -> None:
    """Refuse a model that is not what its configuration says.

    Args:
        expects: `{"inputs": {NAME: {"datatype", "shape"}}, "outputs": ...}`: wire names, sizes with -1 for any; a
            datatype or shape may be absent. All required inputs must be named; outputs may be left out. None or empty:
            anything will do.

    Raises:
        InvalidInput: A name, datatype or shape differs.
    """
    expects = expects or {}
    for kind, specs in (("inputs", signature.inputs), ("outputs", signature.outputs)):
        wanted = expects.get(kind) or {}
        for name, tensor in wanted.items():
            if name not in specs:
                raise InvalidInput(
                    f"the configuration names {kind[:-1]} {name!r:.80}; the model has {', '.join(sorted(specs))}"
                )
            _check_tensor(f"{kind[:-1]} {name!r:.80}", specs[name], tensor)
    named = expects.get("inputs")
    missing = signature.required_inputs - named.keys() if named else frozenset[str]()
    if missing:
        raise InvalidInput(f"the configuration leaves out the inputs {', '.join(sorted(missing))}")


def _check_tensor(what: str, spec: TensorSpec, tensor: Mapping[str, Any]) -> None:
    datatype, shape = tensor.get("datatype"), tensor.get("shape")
    own = WIRE_NAMES[spec.base_dtype]
    if datatype is not None and datatype != own:
        raise InvalidInput(f"the configuration says {datatype} for {what}; the model's is {own}")
    if shape is None or spec.shape is None:
        return
    fits = len(shape) == len(spec.shape) and all(
        size in (-1, own_size) or own_size is None for size, own_size in zip(shape, spec.shape, strict=True)
    )
    if not fits:
        raise InvalidInput(
            f"the configuration gives {what} the shape {list(shape)}; the model's is {shape_text(spec.shape)}"
        )
