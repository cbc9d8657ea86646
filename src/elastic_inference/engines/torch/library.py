"""PyTorch itself, imported when first needed, and the settings of its threads."""

from __future__ import annotations

import contextlib
import threading
import warnings
from functools import cache
from importlib import import_module
from types import ModuleType

from elastic_inference.engines.registry import engine_named
from elastic_inference.errors import UnsupportedModel

_threads = threading.local()


@cache
def import_torch() -> ModuleType:
    """PyTorch, set to run one operation at a time.

    Raises:
        EngineNotAvailable: It is not installed.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it warns of libraries that it does not find and we do not use
            torch = import_module("torch")
    except (ImportError, OSError) as error:  # OSError: one of its native libraries is missing
        raise engine_named("torch").not_installed(error) from error
    if torch.get_num_interop_threads() != 1:
        with contextlib.suppress(
            RuntimeError
        ):  # something ran in this process before, and it cannot be set any more
            torch.set_num_interop_threads(1)
    return torch


def import_torchvision(needed_for: str) -> None:
    """Make torchvision's operations known to PyTorch.

    Raises:
        UnsupportedModel: It is not installed.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import_module("torchvision")
    except (ImportError, OSError, RuntimeError) as error:  # RuntimeError: it is of another release than torch
        raise UnsupportedModel(
            f"{needed_for} uses operations of torchvision, which is not installed here ({error}): "
            "pip install torchvision"
        ) from error


def use_threads(torch: ModuleType, num_threads: int) -> None:
    """Have operations that this thread calls run on so many threads; OpenMP keeps that for each calling thread."""
    if getattr(_threads, "num", None) != num_threads:
        torch.set_num_threads(num_threads)
        _threads.num = num_threads
