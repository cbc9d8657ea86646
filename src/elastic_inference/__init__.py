"""Attach a fraction of an accelerator to a CPU program over the network, by changing one line."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from elastic_inference import errors
from elastic_inference.client.accelerator import Accelerator
from elastic_inference.client.load_options import LoadOptions
from elastic_inference.client.predictor import EIPredictor
from elastic_inference.client.report import CallTiming, PredictorReport
from elastic_inference.errors import *  # noqa: F403 - its `__all__` is the whole tree
from elastic_inference.protocol.tls import Tls

if TYPE_CHECKING:
    from elastic_inference.client.async_predictor import AsyncEIPredictor

__version__ = "0.1.0"
__all__ = [
    "Accelerator",
    "AsyncEIPredictor",
    "CallTiming",
    "EIPredictor",
    "LoadOptions",
    "PredictorReport",
    "Tls",
    "__version__",
]
__all__ += errors.__all__


def __getattr__(name: str) -> Any:
    if name == "AsyncEIPredictor":  # asyncio would add a tenth to the time of our import
        from elastic_inference.client.async_predictor import AsyncEIPredictor

        return AsyncEIPredictor
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
