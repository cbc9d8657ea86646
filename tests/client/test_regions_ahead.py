"""Shared memory is as large at load as the first call needs it, where that can be told."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from elastic_inference import EIPredictor
from elastic_inference.client.regions import MOST_BYTES_AHEAD, bytes_ahead
from elastic_inference.models.signature import Signature
from elastic_inference.protocol.heads import ALIGNMENT
from elastic_inference.protocol.shared_memory import Region
from elastic_inference.tensors import TensorSpec
from elastic_inference.testing import start_accelerator, write_model


def signature(**inputs: TensorSpec) -> Signature:
    return Signature(inputs, {}, required_inputs=frozenset(inputs))


FIXED = TensorSpec("x:0", "float32", (2, 3))
OPEN = TensorSpec("y:0", "uint8", (1, None, 3))


def test_what_the_next_call_needs() -> None:
    assert bytes_ahead(signature(x=FIXED), {}) == 24 + ALIGNMENT
    assert bytes_ahead(signature(x=FIXED, y=OPEN), {}) == 0
    assert bytes_ahead(signature(x=FIXED, y=OPEN), {"x": (2, 3), "y": (1, 8, 3)}) == 48 + 2 * ALIGNMENT
    assert bytes_ahead(signature(x=FIXED), {"gone": (4,)}) == 0
    assert bytes_ahead(signature(x=TensorSpec("x:0", "string", (2,))), {}) == 0
    assert bytes_ahead(signature(x=TensorSpec("x:0", "uint8", None)), {}) == 0
    assert bytes_ahead(signature(y=OPEN), {"y": (1, MOST_BYTES_AHEAD, 3)}) == 0


def test_second_predictor_makes_one_region_for_load_and_calls(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[int] = []
    create = Region.create

    def counted(size_bytes: int) -> Region:
        made.append(size_bytes)
        return create(size_bytes)

    monkeypatch.setattr(Region, "create", counted)
    specs = {"x": ("uint8", (None,))}
    model = write_model(tmp_path / "echo.testing", inputs=specs, outputs=specs)
    frame = np.arange(1 << 20, dtype=np.uint8)
    with start_accelerator(("unix:{folder}/a.sock",)) as running:
        num_made = []
        for _ in range(2):
            made.clear()
            with EIPredictor(model, address=running.address, token=running.token) as predict:
                np.testing.assert_array_equal(predict({"x": frame})["x"], frame)
            num_made.append(len(made))
    assert num_made == [2, 1]
