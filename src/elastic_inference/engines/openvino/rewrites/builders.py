"""What both new operations are built with: constants of int32 and float32, and elements of small tensors."""

from __future__ import annotations

from typing import Any

import numpy as np
from openvino import opset13 as ops


def integer(value: int) -> Any:
    """Return int32[]."""
    return ops.constant(np.int32(value))


def integers(*values: int) -> Any:
    """Return int32[len(values)]."""
    return ops.constant(np.array(values, np.int32))


def number(value: float) -> Any:
    """Return float32[]."""
    return ops.constant(np.float32(value))


def element(vector: Any, index: int) -> Any:
    """Return one element of a vector, a scalar."""
    return ops.gather(vector, integer(index), integer(0))
