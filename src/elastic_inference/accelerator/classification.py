"""The classification extension: an output as its largest values, each as `value:index` or `value:index:label`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from elastic_inference.errors import InvalidInput
from elastic_inference.protocol.heads import WantedOutput
from elastic_inference.tensors import from_bfloat16_bits


def classify(
    array: npt.NDArray[Any], dtype: str, want: WantedOutput, labels: Sequence[str] = ()
) -> npt.NDArray[Any]:
    """Return the `want.num_classes` largest values of each row, the largest first; of equal ones the first in the row.

    Args:
        array: Scores, float32[N, C] or of any numeric dtype; all but the last axis count rows. Rank 1 is one row.
        dtype: Our name of the output's dtype.
        want: How many classes of which output.
        labels: What the classes are called, by their index; those beyond have none.

    Returns:
        object[N, min(want.num_classes, C)] of bytes such as `0.998:281` or, with labels,
        `0.998:281:tabby`; rank 1 for one row of rank 1.

    Raises:
        InvalidInput: The output holds strings, or a single number.
    """
    if array.dtype == object or array.ndim == 0:
        raise InvalidInput(f"output {want.name!r}: classification needs numbers along an axis")
    if dtype == "bfloat16":
        array = np.asarray(from_bfloat16_bits(array), np.float32)
    rows = array.reshape(-1, array.shape[-1]) if array.size else array.reshape(0, max(array.shape[-1], 1))
    num_classes = min(want.num_classes, array.shape[-1])
    order = np.argsort(-rows.astype(np.float64), axis=1, kind="stable")[:, :num_classes]
    found = np.empty(order.shape, object)
    for row, places in enumerate(order):
        for rank, place in enumerate(places):
            label = f":{labels[place]}" if place < len(labels) else ""
            found[row, rank] = f"{_text(rows[row, place])}:{place}{label}".encode()
    return found.reshape(*array.shape[:-1], num_classes)


def _text(value: Any) -> str:
    return f"{value:f}" if isinstance(value, np.floating) else str(value)
