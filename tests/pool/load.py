"""Clients that call without a pause while something happens to the pool, and judge every answer."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import numpy as np

from elastic_inference import Accelerator, EIPredictor
from tests.pool.cluster import PoolCluster
from tests.waiting import wait_until

CALL_SECONDS = 120.0


class Client:
    """One thread with one accelerator of the pool.

    Attributes:
        num_right, num_wrong: Answers.
        errors: Calls that failed.
        seconds: Of each call, and when it ended, on time.monotonic.
    """

    def __init__(
        self,
        pool: PoolCluster,
        model: Path,
        pause_seconds: float = 0.005,
        accelerator: Accelerator | None = None,
    ) -> None:
        self.num_right = self.num_wrong = 0
        self.errors: list[Exception] = []
        self.seconds: list[tuple[float, float]] = []
        self._pause_seconds = pause_seconds
        self._stop = threading.Event()
        self.predictor = EIPredictor(
            str(model),
            input_names={"x": "x:0"},
            output_names={"y": "y:0"},
            timeout_seconds=CALL_SECONDS,
            accelerator=accelerator or Accelerator.attach("tiny", host=pool.url, token=pool.token),
        )
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    @property
    def accelerator_id(self) -> str:
        """Its accelerator."""
        return str(self.predictor.report.accelerator_id)

    def _run(self) -> None:
        number = 0
        while not self._stop.is_set():
            number += 1
            x = np.full(3, float(number), np.float32)
            began = time.monotonic()
            try:
                is_right = np.array_equal(self.predictor({"x": x})["y"], 2 * x)
            except Exception as error:
                self.errors.append(error)
            else:
                self.num_right += is_right
                self.num_wrong += not is_right
            now = time.monotonic()
            self.seconds.append((now, now - began))
            self._stop.wait(self._pause_seconds)

    def wait_for_answers(self, number: int = 20) -> None:
        """Wait until so many more right answers have come."""
        wanted = self.num_right + number
        wait_until(lambda: self.num_right >= wanted or self.errors, f"{number} answers", CALL_SECONDS)
        self.check()

    def check(self) -> None:
        """No answer was wrong, and no call failed."""
        assert self.errors == []
        assert self.num_wrong == 0

    def close(self) -> None:
        """End; detaches the accelerator."""
        self._stop.set()
        self._thread.join(CALL_SECONDS)
        self.predictor.close()
