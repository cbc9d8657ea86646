"""Looking for NaN and infinities: what is found, whatever the size, and what is no reason to look longer."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from elastic_inference.engines.call_checks import is_finite


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("shape", [(3,), (2, 3, 4), (100, 100)])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_one_bad_number_is_found(dtype: str, shape: tuple[int, ...], bad: float) -> None:
    array = np.ones(shape, dtype)
    assert is_finite(array)
    array.reshape(-1)[-1] = bad
    assert not is_finite(array)


@pytest.mark.parametrize(
    "array",
    [np.full(5000, 3e38, np.float32), np.full(3, 1e300), np.zeros((0, 3), np.float32), np.float32(1)[()]],
)
def test_large_numbers_none_and_scalars_are_finite(array: Any) -> None:
    assert is_finite(np.asarray(array))
