"""The no-op model as mosec wants it; apart, because its worker processes import it by name."""

from __future__ import annotations

from typing import Any

import numpy as np
from mosec import Worker

from benchmarks.dataplane.payloads import REPLY


class Noop(Worker):  # type: ignore[misc]
    """Neither JSON nor pickle: the body as it is."""

    def deserialize(self, data: bytes) -> Any:
        """A view, no copy."""
        return np.frombuffer(data, np.uint8)

    def forward(self, data: Any) -> bytes:  # noqa: ARG002
        """The no-op."""
        return REPLY

    def serialize(self, data: bytes) -> bytes:
        """Bytes as they are."""
        return data
