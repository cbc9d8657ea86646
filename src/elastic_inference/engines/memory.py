"""What is done where an engine gets no more memory: it gives back what it keeps, and tries once more."""

from __future__ import annotations

import ctypes
import logging
from typing import Any

import numpy.typing as npt

from elastic_inference.engines.base import Arrays, LoadedModel

log = logging.getLogger(__name__)


def predict(model: LoadedModel, inputs: Arrays) -> dict[str, npt.NDArray[Any]]:
    """Run once as `LoadedModel.predict`; where memory is short, empty the engine and try once more.

    Raises:
        MemoryError: Also the emptied engine could not get the memory.
    """
    try:
        return model.predict(inputs)
    except MemoryError as error:
        log.warning("emptying the engine: it got no more memory", extra={"error": str(error)})
    # Not within `except`: the error's traceback holds what the failed call had.
    model.empty()
    give_back()
    return model.predict(inputs)


def give_back() -> None:
    """Return what was freed to the system: glibc keeps it, and it counts against the accelerator's limit.

    For a detector of 70 MB that is 190 MB of 475 after loading.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
