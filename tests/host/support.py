"""What tests of the host share: conditions to wait for, and what is left of a process."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

from elastic_inference import EIPredictor
from tests.waiting import WAIT_SECONDS
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


def wait_for_host(condition: Callable[[], object], what: str, seconds: float = WAIT_SECONDS) -> None:
    """Wait until what a host says holds; without haste, for it refuses whoever asks more than 100 times a second."""

    def ask() -> object:
        threading.Event().wait(0.1)
        return condition()

    wait_until(ask, what, seconds)
