"""A client on some machine, as a process of its own: it asks without a pause, whatever happens, and says what came.

`python -m tests.pool.asking` reads what to ask as a line of JSON, and ends with its standard input. Each try is a line:
when it began and ended on the machine's monotonic clock, and whether a right answer came, a wrong one or none.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from elastic_inference import Accelerator, EIPredictor
from elastic_inference.errors import ElasticInferenceError
from tests.waiting import wait_until

PAUSE_SECONDS = 0.01


@dataclass(frozen=True)
class Try:
    """One call: seconds on the monotonic clock, and "right", "wrong" or why there was no answer."""

    began: float
    ended: float
    outcome: str


class Asker:
    """The process, and what it told so far.

    Args:
        inside: What its command begins with: see `Network.apart`.
        where: Of `Accelerator.at` or `Accelerator.of_id`.
        timeout_seconds: Of each call.
    """

    def __init__(self, inside: list[str], model: Path, where: dict[str, str], timeout_seconds: float) -> None:
        self.tries: list[Try] = []
        self._process = subprocess.Popen(
            [*inside, sys.executable, "-m", "tests.pool.asking"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdin is not None
        told = {"model": str(model), "where": where, "timeout_seconds": timeout_seconds}
        self._process.stdin.write(json.dumps(told) + "\n")
        self._process.stdin.flush()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.tries.append(Try(**json.loads(line)))

    def answers(self, since: float = 0.0) -> list[Try]:
        """Right answers to what was asked from a moment on."""
        return [each for each in list(self.tries) if each.outcome == "right" and each.began > since]

    def wait(self, number: int, what: str, since: float = 0.0) -> None:
        """Wait for so many right answers to what was asked from a moment on."""
        wait_until(lambda: len(self.answers(since)) >= number, f"{number} answers, {what}", 180)

    def close(self) -> None:
        """End it; all that it told is there then."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(60)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(10)
        self._thread.join(60)
        assert self._process.stdout is not None
        self._process.stdout.close()


def main() -> None:
    """Ask until nobody reads any more."""
    told = json.loads(sys.stdin.readline())
    stop = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), stop.set()), daemon=True).start()
    predictor: EIPredictor | None = None
    number = 0
    while not stop.wait(PAUSE_SECONDS):
        number += 1
        began = time.monotonic()
        try:
            predictor = predictor or _predictor(told)
            x = np.full(3, number, np.float32)
            outcome = "right" if np.array_equal(predictor({"x": x})["y"], 2 * x) else "wrong"
        except ElasticInferenceError as error:
            outcome = f"{type(error).__name__}: {error}"
            if predictor is not None:
                with contextlib.suppress(ElasticInferenceError):
                    predictor.close()
                predictor = None
        print(json.dumps({"began": began, "ended": time.monotonic(), "outcome": outcome}), flush=True)


def _predictor(told: dict[str, Any]) -> EIPredictor:
    where = told["where"]
    at = where.get("address")
    accelerator = (
        Accelerator.at(at, token=where["token"])
        if at
        else Accelerator.of_id(where["id"], host=where["host"], token=where["token"])
    )
    return EIPredictor(
        told["model"],
        input_names={"x": "x:0"},
        output_names={"y": "y:0"},
        timeout_seconds=told["timeout_seconds"],
        accelerator=accelerator,
    )


if __name__ == "__main__":
    main()
