"""Shared memory that nobody uses goes back to the system, on both sides, with real accelerator processes."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from elastic_inference import EIPredictor
from elastic_inference.client import connection
from elastic_inference.protocol.shared_memory import Region
from elastic_inference.testing import RunningAccelerator, start_accelerator, write_model
from tests.waiting import wait_until

VECTOR = {"x": ("uint8", (None,))}
FRAME = np.arange(1 << 20, dtype=np.uint8)


@pytest.fixture(scope="module")
def running() -> Iterator[RunningAccelerator]:
    with start_accelerator(("unix:{folder}/a.sock",)) as accelerator:
        yield accelerator


@pytest.fixture
def predictor(running: RunningAccelerator, tmp_path: Path) -> Iterator[EIPredictor]:
    model = write_model(tmp_path / "echo.testing", inputs=VECTOR, outputs=VECTOR)
    with EIPredictor(model, address=running.address, token=running.token) as predict:
        yield predict


def num_regions(pid: int | str) -> int:
    """Regions that a process has mapped."""
    return Path(f"/proc/{pid}/maps").read_text().count("/dev/shm/elastic-inference-")


def calls_at_once(predict: EIPredictor, count: int) -> None:
    def call(number: int) -> None:
        np.testing.assert_array_equal(predict({"x": FRAME + number})["x"], FRAME + number)

    threads = [threading.Thread(target=call, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)


def test_regions_that_no_call_uses_are_given_back(
    running: RunningAccelerator, predictor: EIPredictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "REGION_IDLE_SECONDS", 0.3)
    pid = running.process.pid
    calls_at_once(predictor, 4)
    wait_until(lambda: not num_regions("self"), "the client to give its regions back")
    wait_until(lambda: not num_regions(pid), "the accelerator to give the regions back")
    np.testing.assert_array_equal(predictor({"x": FRAME})["x"], FRAME)
    assert predictor.report_now().transport == "unix + shared memory"


def test_a_region_in_use_stays(
    running: RunningAccelerator, predictor: EIPredictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However often its age is looked at."""
    predictor({"x": FRAME})
    assert num_regions("self") == 1
    pool = predictor._model._pool  # type: ignore[attr-defined]
    pool.close_unused()
    assert (num_regions("self"), num_regions(running.process.pid)) == (1, 1)
    monkeypatch.setattr(connection, "REGION_IDLE_SECONDS", 0.0)
    pool.close_unused()
    assert num_regions("self") == 0


def test_shared_memory_that_was_given_up_leaves_no_region(
    running: RunningAccelerator, predictor: EIPredictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls_at_once(predictor, 4)
    assert num_regions("self") >= 1

    def full(_: int) -> Region:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Region, "create", full)
    larger = np.concatenate([FRAME, FRAME])
    np.testing.assert_array_equal(predictor({"x": larger})["x"], larger)
    assert num_regions("self") == 0
    wait_until(lambda: not num_regions(running.process.pid), "the accelerator to give the regions back")
    report = predictor.report_now()
    assert report.transport == "unix"
    assert any(note.startswith("shared memory is not used: no region of") for note in report.notes)


def test_a_closed_predictor_leaves_no_thread_that_watches(predictor: EIPredictor) -> None:
    predictor({"x": FRAME})
    predictor.close()
    wait_until(lambda: not [t for t in threading.enumerate() if isinstance(t, threading.Timer)], "its end")
