"""Seeded inputs for a model, from what its runtime says of its inputs and what the list adds."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Arrays = dict[str, npt.NDArray[Any]]
NUM_SAMPLES = 2


@dataclass(frozen=True)
class Port:
    """One input, as the model's own runtime tells it; None in `shape` is an open axis."""

    name: str
    dtype: str
    shape: tuple[int | None, ...]


def make(ports: Sequence[Port], listed: Mapping[str, Mapping[str, Any]]) -> list[Arrays]:
    """Return samples whose values depend on names and shapes alone, so that each run makes the same.

    Raises:
        ValueError: An axis is open which the list does not size.
    """
    told = {port.name: listed.get(port.name, listed.get("*", {})) for port in ports}
    lengths = [len(hints["shapes"]) for hints in told.values() if "shapes" in hints]
    count = min(lengths, default=NUM_SAMPLES)
    return [{port.name: _array(port, told[port.name], index) for port in ports} for index in range(count)]


def _array(port: Port, hints: Mapping[str, Any], index: int) -> npt.NDArray[Any]:
    shape = tuple(hints["shapes"][index]) if "shapes" in hints else _fitting(port, index)
    random = np.random.default_rng([zlib.crc32(port.name.encode()), index])
    if "texts" in hints:
        made = np.empty(shape, dtype=object)
        made[...] = np.array(hints["texts"], dtype=object)[: made.size].reshape(shape)
        return made
    dtype = np.dtype(port.dtype)
    values = hints.get("values")
    if not isinstance(values, list):
        values = [0, 1] if values is None else [values, values]
    low, high = values
    if dtype.kind == "f":
        return (low + (high - low) * random.random(shape)).astype(dtype)
    return random.integers(low, high, shape, endpoint=True).astype(dtype)


def _fitting(port: Port, index: int) -> tuple[int, ...]:
    first, *others = port.shape or (1,)
    if None in others:
        raise ValueError(f"the list has no shape for input {port.name!r}, which is {list(port.shape)}")
    if not port.shape:
        return ()
    return (index + 1 if first is None else first, *(size for size in others if size is not None))
