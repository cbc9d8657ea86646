"""Memory that engines free: kept for the next prediction, and given back where there is no more.

How glibc treats it is a matter of the whole process, so it is changed only in an accelerator's own.
"""

from __future__ import annotations

import ctypes
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy.typing as npt

from elastic_inference.engines.base import Arrays, LoadedModel

log = logging.getLogger(__name__)
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8  # of <malloc.h>
_LARGEST_KEPT_BYTES = 32 << 20  # what glibc allows
_USUAL_BYTES = 128 << 10  # glibc's own
_is_own_process = False


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


def claim_process() -> None:
    """Say that this process is an accelerator's, and no user's program."""
    global _is_own_process
    _is_own_process = True


@contextmanager
def kept_outside() -> Iterator[None]:
    """Load within the block; outside it, keep what predictions free, for engines that allocate anew in each.

    Else each piece of more than 128 KiB is a mapping of its own, which the kernel clears page by page: that was a third
    of a prediction of MobileNet on PyTorch. Weights are loaded as before, so that they go when a model is closed.
    Threads share their memory: requests come by turns, and each thread would keep what one of them takes.
    """
    _set(_M_ARENA_MAX, 1)
    _set(_M_MMAP_THRESHOLD, _USUAL_BYTES)
    _set(_M_TRIM_THRESHOLD, _USUAL_BYTES)
    try:
        yield
    finally:
        _set(_M_MMAP_THRESHOLD, _LARGEST_KEPT_BYTES)
        _set(_M_TRIM_THRESHOLD, 2**31 - 1)


def _set(parameter: int, value: int) -> None:
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # glibc's
    if mallopt is not None and _is_own_process:
        mallopt(parameter, value)


def give_back() -> None:
    """Return what was freed to the system: glibc keeps it, and it counts against the accelerator's limit.

    For a detector of 70 MB that is 190 MB of 475 after loading.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
