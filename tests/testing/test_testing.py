"""The shipped helpers: a clock that does not go back, an engine that does what its file says, a real accelerator."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import psutil
import pytest

from elastic_inference import EIPredictor
from elastic_inference.errors import InvalidInput, InvalidModel, ModelError
from elastic_inference.testing import ManualClock, start_accelerator, write_model


def test_the_manual_clock_moves_when_told() -> None:
    clock = ManualClock(5.0)
    clock.advance(1.5)
    assert clock.now() == 6.5
    with pytest.raises(ValueError, match="go back"):
        clock.advance(-1)


def test_the_testing_engine_does_as_its_file_says(tmp_path: Path) -> None:
    frame = np.full((1, 2, 2, 3), 7, np.uint8)
    pair = {"a": ("int32", (2,)), "b": ("string", (None,))}
    with start_accelerator() as running:
        place = {"address": running.address, "token": running.token}
        with EIPredictor(write_model(tmp_path / "zeros.testing"), **place) as predict:
            assert predict({"inputs": frame})["outputs"].tolist() == [0.0]
        with EIPredictor(
            write_model(tmp_path / "echo.testing", inputs=pair, outputs=pair), **place
        ) as predict:
            assert predict.report.engine == "testing"
            outputs = predict({"a": [1, 2], "b": ["x", "yz"]})
            assert outputs["a"].tolist() == [1, 2]
            assert outputs["b"].tolist() == [b"x", b"yz"]
        with (
            EIPredictor(write_model(tmp_path / "fails.testing", fail="as told"), **place) as predict,
            pytest.raises(ModelError, match="as told"),
        ):
            predict({"inputs": frame})
        (tmp_path / "none.testing").write_text("[]")
        with pytest.raises(InvalidModel, match=r"none\.testing"):
            EIPredictor(tmp_path / "none.testing", **place)
    assert not psutil.pid_exists(running.pid)


def test_an_accelerator_that_cannot_start_says_why() -> None:
    with pytest.raises(InvalidInput, match="nonsense"), start_accelerator(("nonsense",)):
        pass
