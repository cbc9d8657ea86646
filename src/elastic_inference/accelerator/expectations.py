"""What a configuration says of a model's tensors: names, datatypes and sizes are held against the model itself.

What the model cannot say itself, how an image lies in an input and what classes are called, is told to clients.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from elastic_inference.errors import InvalidInput
from elastic_inference.models.signature import Signature
from elastic_inference.tensors import WIRE_NAMES, TensorSpec, shape_text

NO_FORMAT = "FORMAT_NONE"
_FORMATS = (NO_FORMAT, "FORMAT_NHWC", "FORMAT_NCHW")


def input_format(load: Mapping[str, Any], name: str) -> str:
    """Return how an image lies in an input, as Triton calls it: FORMAT_NHWC, FORMAT_NCHW or FORMAT_NONE."""
    return str(_said_of(load, "inputs", name).get("format", NO_FORMAT))


def labels(load: Mapping[str, Any], name: str) -> Sequence[str]:
    """Return what an output's classes are called, by their index; none where nothing says it."""
    found: Sequence[str] = _said_of(load, "outputs", name).get("labels", ())
    return found


def _said_of(load: Mapping[str, Any], kind: str, name: str) -> Mapping[str, Any]:
    said: Mapping[str, Any] = ((load.get("expects") or {}).get(kind) or {}).get(name) or {}
    return said


def check(signature: Signature, expects: Mapping[str, Any] | None) -> None:
    """Refuse a model that is not what its configuration says.

    Args:
        expects: `{"inputs": {NAME: {"datatype", "shape", "format"}}, "outputs": ...}`: wire names, sizes with
            -1 for any; an output may have "labels" in place of a format, and each may be absent. All required inputs
            must be named; outputs may be left out. None or empty: anything will do.

    Raises:
        InvalidInput: A name, datatype or shape differs, or a format or labels are none.
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
    if tensor.get("format", NO_FORMAT) not in _FORMATS:
        raise InvalidInput(f"format of {what} is {tensor['format']!r:.80}; known are {', '.join(_FORMATS)}")
    names = tensor.get("labels", [])
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise InvalidInput(f"labels of {what} must be a list of text")
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
