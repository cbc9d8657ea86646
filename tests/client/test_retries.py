"""Calls to an accelerator that has gone: what the caller is told, and when."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from elastic_inference import EIPredictor
from elastic_inference.client import remote
from elastic_inference.errors import TransportError
from elastic_inference.testing import start_accelerator, write_model

FRAME = {"inputs": np.zeros((1, 300, 300, 3), np.uint8)}


def test_a_pause_that_would_end_after_the_deadline_is_not_begun_and_the_cause_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote, "RETRY_FIRST_SECONDS", 8.0)  # drawn from 4 s on, so never within the time
    model = write_model(tmp_path / "m.testing")
    with (
        start_accelerator() as running,
        EIPredictor(model, address=running.address, token=running.token, timeout_seconds=2.0) as predictor,
    ):
        predictor(FRAME)
        running.process.kill()
        running.process.wait(30)
        with pytest.raises(TransportError):
            predictor(FRAME)
