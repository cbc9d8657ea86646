"""What tests of the host share: conditions to wait for, and what is left of a process."""

from __future__ import annotations

from pathlib import Path

from elastic_inference import EIPredictor
from tests.waiting import wait_until as wait_until


def predictor(endpoint: str, token: str, model: Path) -> EIPredictor:
    """A predictor of the doubling graph on an attached accelerator."""
    return EIPredictor(
        str(model), input_names={"x": "x:0"}, output_names={"y": "y:0"}, address=endpoint, token=token
    )


class ManualClock:
    """Time that only the test moves."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def now(self) -> float:
        return self.seconds
