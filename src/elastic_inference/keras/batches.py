"""What Keras' `predict` takes as data, as batches: arrays are cut, everything else brings its own."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from elastic_inference.errors import InvalidInput


def is_array_data(x: Any) -> bool:
    """Whether `x` is an array or arrays in lists, tuples and dicts, rather than something that gives batches."""
    if isinstance(x, Mapping):
        return True
    return isinstance(x, list | tuple) or hasattr(x, "__array__")


def array_batches(arrays: Mapping[str, Any], batch_size: int) -> Iterator[dict[str, Any]]:
    """Cut along axis 0; the last batch may be smaller. Views, no copies.

    Raises:
        InvalidInput: The arrays have different numbers of samples, or a value is no array of samples.
    """
    if batch_size < 1:
        raise InvalidInput(f"batch_size {batch_size} must be 1 or more")
    if any(not array.shape for array in arrays.values()):
        raise InvalidInput("predict takes arrays of samples along axis 0, not single numbers")
    sizes = {alias: array.shape[0] for alias, array in arrays.items()}
    if len(set(sizes.values())) > 1:
        raise InvalidInput(f"the inputs have different numbers of samples: {sizes}")
    return _cut(arrays, batch_size, next(iter(sizes.values())))


def _cut(arrays: Mapping[str, Any], batch_size: int, num_samples: int) -> Iterator[dict[str, Any]]:
    for start in range(0, num_samples, batch_size):
        yield {alias: array[start : start + batch_size] for alias, array in arrays.items()}


def iterable_batches(x: Any) -> Iterator[Any]:
    """Yield the batches of a generator, a dataset, or a Keras Sequence, which has a length and an index."""
    if hasattr(x, "__getitem__") and hasattr(x, "__len__"):
        num_batches = getattr(x, "num_batches", None)
        for index in range(num_batches if isinstance(num_batches, int) else len(x)):
            yield x[index]
    elif isinstance(x, Iterable):
        yield from x
    else:
        raise InvalidInput(f"predict cannot take data of type {type(x).__name__}")


def unpack(batch: Any) -> Any:
    """Return the inputs of a batch that may also have targets and weights, which a prediction does not use."""
    if isinstance(batch, list | tuple):
        if not 1 <= len(batch) <= 3:
            raise InvalidInput(f"a batch is x, (x, y) or (x, y, weights), not {len(batch)} values")
        return batch[0]
    return batch
