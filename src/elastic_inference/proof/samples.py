"""Made-up inputs of a model's real shapes, always the same ones."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from elastic_inference.tensors import TensorSpec

OPEN_SIZE = 64  # of an open axis but the first: a small picture, which models resize themselves
_INTEGER_END = 2  # 0 and 1: valid in any vocabulary, mask or table
_PICTURE_RANK = 4


def made_up(
    inputs: Mapping[str, TensorSpec], shapes: Mapping[str, Sequence[int]], seed: int
) -> dict[str, npt.NDArray[Any]]:
    """Values for each of the inputs.

    Args:
        shapes: Known shapes by alias, such as those of a warm-up; open axes are otherwise 1 for the first and
            OPEN_SIZE for the others.
        seed: 0 gives zeros, which many models take; others give random values: floats from 0 to 1, integers 0 or 1,
            bytes of a picture over their whole range.
    """
    return {
        alias: _values(spec, shapes.get(alias) or default_shape(spec), seed) for alias, spec in inputs.items()
    }


def default_shape(spec: TensorSpec) -> tuple[int, ...]:
    """Return the shape that is taken where nothing says another."""
    shape = spec.shape if spec.shape is not None else (1,)
    return tuple(
        size if size is not None else (1 if axis == 0 else OPEN_SIZE) for axis, size in enumerate(shape)
    )


def _values(spec: TensorSpec, shape: Sequence[int], seed: int) -> npt.NDArray[Any]:
    dtype = spec.numpy_dtype
    if seed == 0 or spec.base_dtype == "string":
        return np.full(shape, b"" if spec.base_dtype == "string" else 0, dtype)
    random = np.random.default_rng([seed, zlib.crc32(spec.name.encode())])
    if spec.base_dtype == "bfloat16":
        return (random.random(shape, np.float32).view(np.uint32) >> 16).astype(np.uint16)
    if dtype.kind == "f":
        return random.random(shape).astype(dtype)
    is_picture = spec.base_dtype == "uint8" and len(shape) >= _PICTURE_RANK - 1
    return random.integers(0, 256 if is_picture else _INTEGER_END, shape).astype(dtype)
