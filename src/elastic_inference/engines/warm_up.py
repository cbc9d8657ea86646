"""One prediction on made-up values, so that the first real call does not pay for what an engine does once."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from elastic_inference.engines.base import LoadedModel
from elastic_inference.errors import ElasticInferenceError, InvalidInput, MemoryQuotaExceeded
from elastic_inference.proof.samples import default_shape
from elastic_inference.tensors import TensorSpec
from elastic_inference.units import format_bytes

Shapes = Mapping[str, Sequence[int]]


def warm_up(model: LoadedModel, wanted: bool | Shapes) -> tuple[float, str]:
    """Run the model once.

    Args:
        wanted: False for not at all, or the shape of some inputs by alias; others get `default_shape`.

    Returns:
        Seconds, and what a user should know, "" for nothing.

    Raises:
        InvalidInput: A shape is named for an input that the model does not have, or is not a shape.
    """
    if wanted is False:
        return 0.0, "no warm-up was asked for"
    if model.changes:
        return 0.0, f"no warm-up, because a call changes what the next one sees ({', '.join(model.changes)})"
    shapes = wanted if isinstance(wanted, Mapping) else {}
    unknown = set(shapes) - set(model.signature.inputs)
    if unknown:
        raise InvalidInput(
            f"warm_up names {sorted(unknown)}, but the inputs are {sorted(model.signature.inputs)}"
        )
    inputs = {
        alias: _filled(spec, shapes.get(alias))
        for alias, spec in model.signature.inputs.items()
        if alias in model.signature.required_inputs
    }
    start = time.monotonic()
    try:
        model.predict(inputs)
    except ElasticInferenceError as error:
        # Made-up values can be wrong for a sound model; its first call then takes the time instead.
        return time.monotonic() - start, f"the warm-up run failed ({error}); name its shapes with warm_up"
    return time.monotonic() - start, ""


def _filled(spec: TensorSpec, shape: Any) -> Any:
    if shape is None:
        shape = default_shape(spec)
    elif not isinstance(shape, Sequence) or not all(isinstance(size, int) and size >= 0 for size in shape):
        raise InvalidInput(f"warm_up of {spec.name!r} must be a list of sizes, not {shape!r:.80}")
    if not spec.is_compatible(shape):
        raise InvalidInput(f"warm_up of {spec.name!r} has shape {list(shape)}, the model's is {spec.shape}")
    try:
        return np.full(shape, b"" if spec.base_dtype == "string" else 0, spec.numpy_dtype)
    except MemoryError as error:
        size = math.prod(shape) * spec.numpy_dtype.itemsize
        raise MemoryQuotaExceeded(
            f"warm_up of {spec.name!r} has shape {list(shape)}: there is no memory for its {format_bytes(size)}",
            requested_bytes=size,
        ) from error
