"""Arrays seen as libraries want to see them, without copies."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt


def as_writeable(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return the same memory, writeable for numpy, for a library that takes only such arrays and does not write."""
    return array if array.flags.writeable else np.asarray(_Writeable(array))


class _Writeable:
    def __init__(self, array: npt.NDArray[Any]) -> None:
        interface = dict(array.__array_interface__)
        interface["data"] = (interface["data"][0], False)
        self.__array_interface__ = interface
        self._array = array  # keeps the memory
