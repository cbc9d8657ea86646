"""What one run of a model gave, and where its time went."""

from __future__ import annotations

from typing import Any

import numpy.typing as npt

from elastic_inference.client.report import CallTiming

Outputs = dict[str, npt.NDArray[Any]]


class Prediction:
    """The outputs of one run with the accelerator's own times.

    With slots, and not a frozen dataclass: one is made for each call, and that would take five times as long.

    Attributes:
        outputs: An array by output alias.
        queue_seconds: Waiting for the turn on the accelerator.
        service_seconds: The engine's computation.
    """

    __slots__ = ("outputs", "queue_seconds", "service_seconds")

    def __init__(self, outputs: Outputs, queue_seconds: float = 0.0, service_seconds: float = 0.0) -> None:
        self.outputs = outputs
        self.queue_seconds = queue_seconds
        self.service_seconds = service_seconds

    def timing(self, latency_seconds: float) -> CallTiming:
        """Return the times of the call that it was, which took so long from its begin to its return."""
        return CallTiming(latency_seconds, self.queue_seconds, self.service_seconds)
