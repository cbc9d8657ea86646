"""A device that is lost: who asked is told, the process ends, and others get their answers from the next one."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from elastic_inference import EIPredictor
from elastic_inference.accelerator.process import LOST_STATUS
from elastic_inference.errors import DeviceLost
from elastic_inference.testing import start_accelerator, write_model
from elastic_inference.testing.accelerator import RunningAccelerator, launch, read_ready_line

ADDRESS = ("unix:{folder}/a.sock",)
LOST = 14
ECHO = {"x": ("float32", (None, 2))}


def rows(value: float) -> dict[str, np.ndarray]:
    return {"x": np.full((1, 2), value, np.float32)}


@contextlib.contextmanager
def started_again(first: RunningAccelerator) -> Iterator[None]:
    """What a host does when a process of its own has ended."""
    assert first.process.wait(60) == LOST_STATUS
    second = launch(first.config)
    try:
        read_ready_line(second)
        yield
    finally:
        second.kill()
        second.wait(60)
        assert second.stdout is not None
        second.stdout.close()


def test_the_process_ends_and_the_next_one_answers(tmp_path: Path) -> None:
    model = write_model(tmp_path / "m.testing", inputs=ECHO, outputs=ECHO, lose_at=LOST)
    with (
        start_accelerator(ADDRESS) as accelerator,
        EIPredictor(model, address=accelerator.address, token=accelerator.token) as predictor,
    ):
        np.testing.assert_array_equal(predictor(rows(1))["x"], rows(1)["x"])
        with pytest.raises(DeviceLost, match="an input holds 14"):
            predictor(rows(LOST))
        with started_again(accelerator):
            np.testing.assert_array_equal(predictor(rows(2))["x"], rows(2)["x"])


def test_those_that_wait_behind_it_get_their_answers_from_the_next_process(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    model = write_model(tmp_path / "m.testing", inputs=ECHO, outputs=ECHO, lose_at=LOST, until_gone=str(gate))
    with (
        start_accelerator(ADDRESS) as accelerator,
        EIPredictor(model, address=accelerator.address, token=accelerator.token) as predictor,
        ThreadPoolExecutor(5) as threads,
    ):
        predictor(rows(0))
        gate.touch()
        loses = threads.submit(predictor, rows(LOST))
        others = [threads.submit(predictor, rows(value)) for value in range(1, 4)]
        gate.unlink()
        with pytest.raises(DeviceLost):
            loses.result(60)
        with started_again(accelerator):
            for value, other in enumerate(others, 1):
                np.testing.assert_array_equal(other.result(60)["x"], rows(value)["x"])
