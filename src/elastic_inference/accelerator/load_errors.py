"""What a client is told of a load that failed."""

from __future__ import annotations

import logging

from elastic_inference.errors import ElasticInferenceError, MemoryQuotaExceeded, ModelError
from elastic_inference.models.package import ModelPackage
from elastic_inference.units import format_bytes

log = logging.getLogger(__name__)


def check_size(package: ModelPackage, memory_limit_bytes: int | None) -> None:
    """Refuse a model whose files alone are larger than the accelerator's memory; None: no limit."""
    if memory_limit_bytes is not None and package.size_bytes > memory_limit_bytes:
        raise _too_large(package, memory_limit_bytes, "")


def told(error: Exception, package: ModelPackage, memory_limit_bytes: int | None) -> ElasticInferenceError:
    """Return the error for the client."""
    has_figures = isinstance(error, MemoryQuotaExceeded) and error.requested_bytes
    if isinstance(error, MemoryError) and not has_figures:
        return _too_large(package, memory_limit_bytes or 0, str(error))
    if isinstance(error, ElasticInferenceError):
        return error
    log.error("the engine failed", exc_info=error)
    return ModelError(f"loading the model failed: {type(error).__name__}: {error}")


def _too_large(package: ModelPackage, limit_bytes: int, detail: str) -> MemoryQuotaExceeded:
    return MemoryQuotaExceeded(
        f"the model needs more than the accelerator's memory: its files are {format_bytes(package.size_bytes)}, "
        f"the limit is {format_bytes(limit_bytes)}{': ' + detail if detail else ''}",
        requested_bytes=package.size_bytes,
        limit_bytes=limit_bytes,
    )
