"""One prediction on made-up values, so that the first real call does not pay for what an engine does once."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from elastic_inference.engines.base import LoadedModel
from elastic_inference.errors import ElasticInferenceError, InvalidInput, MemoryQuotaExceeded
from elastic_inference.proof.samples import default_shape
from elastic_inference.tensors import TensorSpec
from elastic_inference.units import format_bytes

Shapes = Mapping[str, Sequence[int]]
_MAX_NOTES = 2


QUICK_SECONDS = 0.25
"""A call that takes longer is its own warm-up: what its first run costs beyond is small beside it.

Seen on Faster R-CNN at 1080p: 2.8 s of processor time the first time, 2.4 s later. A warm-up would cost 2.8 s more.
"""
ALL_SECONDS = 0.5  # for the warm-up of all shapes seen before


@dataclass(frozen=True)
class SeenShape:
    """The shapes of a call's inputs by alias, and the least seconds that such a call took."""

    shapes: Mapping[str, tuple[int, ...]]
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """Return a JSON object that `from_json` reads back."""
        return {
            "shapes": {alias: list(shape) for alias, shape in self.shapes.items()},
            "seconds": self.seconds,
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> SeenShape:
        """Read what `to_json` wrote; raises KeyError, TypeError, ValueError or AttributeError for anything else."""
        shapes = {str(alias): tuple(int(size) for size in shape) for alias, shape in value["shapes"].items()}
        return cls(shapes, float(value["seconds"]))


def warm_up(model: LoadedModel, wanted: bool | Shapes, seen: Sequence[SeenShape] = ()) -> tuple[float, str]:
    """Run the model once, or once for each shape that was seen before.

    Args:
        wanted: False for not at all, or the shape of some inputs by alias; others get `default_shape`. True takes the
            shapes seen before, where there are any.
        seen: Those, the last called first.

    Returns:
        Seconds, and what a user should know, "" for nothing.

    Raises:
        InvalidInput: A shape is named for an input that the model does not have, or is not a shape.
    """
    if wanted is False:
        return 0.0, "no warm-up was asked for"
    if model.changes:
        return 0.0, f"no warm-up, because a call changes what the next one sees ({', '.join(model.changes)})"
    fitting = [each for each in seen if _fits(model, each.shapes)]
    if wanted is True and fitting:
        return _warm_up_seen(model, fitting)
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


def _fits(model: LoadedModel, shapes: Shapes) -> bool:
    inputs = model.signature.inputs
    return model.signature.required_inputs <= shapes.keys() <= inputs.keys() and all(
        inputs[alias].is_compatible(shape) for alias, shape in shapes.items()
    )


def _warm_up_seen(model: LoadedModel, seen: Sequence[SeenShape]) -> tuple[float, str]:
    start = time.monotonic()
    expected, notes = 0.0, []
    for each in seen:
        if each.seconds > QUICK_SECONDS or expected + each.seconds > ALL_SECONDS:
            shown = ", ".join(str(list(shape)) for shape in each.shapes.values())
            notes.append(
                f"no warm-up for {shown}: a call takes {each.seconds:.2g} s, so the first is its own"
            )
            continue
        expected += each.seconds
        inputs = {
            alias: _filled(model.signature.inputs[alias], shape) for alias, shape in each.shapes.items()
        }
        try:
            model.predict(inputs)
        except ElasticInferenceError as error:
            notes.append(f"the warm-up run failed ({error}); name its shapes with warm_up")
    return time.monotonic() - start, "; ".join(notes[:_MAX_NOTES])


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
