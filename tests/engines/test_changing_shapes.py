"""Memory that engines keep for shapes seen before has an end; at the limit they are emptied before a call fails."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from elastic_inference import EIPredictor
from elastic_inference.engines import memory
from elastic_inference.engines.base import Arrays, LoadedModel
from elastic_inference.errors import MemoryQuotaExceeded
from elastic_inference.testing import start_accelerator
from tests.engines.onnx_convolutions import write_convolutions

LIMIT_BYTES = 256 << 20
# A fresh process, because memory that an earlier test freed would hide what this one keeps.
PROGRAM = """
import sys
import numpy as np, psutil
from pathlib import Path
from elastic_inference.engines.base import EngineOptions
from elastic_inference.engines.registry import engine_named
from elastic_inference.models.package import ModelPackage
from elastic_inference.models.signature import SignatureRequest

package = ModelPackage.read(Path(sys.argv[2]))
model = engine_named(sys.argv[1]).load(package, SignatureRequest(), EngineOptions(sys.argv[1], num_threads=1))
rng = np.random.default_rng(0)
for number in range(500):
    height, width = (int(value) for value in rng.integers(16, 100, 2))
    model.predict({"x": np.zeros((1, 3, height, width), np.float32)})
    if number in (200, 499):
        print(psutil.Process().memory_info().rss >> 20, psutil.Process().memory_info().data >> 20)
"""


@pytest.fixture(scope="module")
def convolutions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("onnxruntime")
    return write_convolutions(tmp_path_factory.mktemp("models") / "convolutions.onnx")


@pytest.mark.parametrize("engine", ["openvino", "onnxruntime"])
def test_shapes_seen_long_ago_are_forgotten(engine: str, convolutions: Path) -> None:
    """Resident memory, and the address space that RLIMIT_DATA counts.

    With the libraries' own bounds 300 shapes more took OpenVINO 110 MiB of address space.
    """
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, engine, str(convolutions)],
        capture_output=True, text=True, timeout=200, check=True,
    )  # fmt: skip
    before, after = (tuple(map(int, line.split())) for line in done.stdout.splitlines())
    assert after[0] - before[0] < 25
    assert after[1] - before[1] < 40


def test_changing_picture_sizes_fit_a_small_accelerator(convolutions: Path) -> None:
    """Under the limit that a host sets where it has no control groups; ONNX Runtime's arena alone would outgrow it."""
    rng = np.random.default_rng(0)
    with (
        start_accelerator(memory_limit_bytes=LIMIT_BYTES) as running,
        EIPredictor(
            convolutions, address=running.address, token=running.token, engine="onnxruntime", proof="off"
        ) as predict,
    ):
        psutil.Process(running.pid).rlimit(psutil.RLIMIT_DATA, (LIMIT_BYTES, LIMIT_BYTES))
        for _ in range(200):
            height, width = (int(value) for value in rng.integers(16, 240, 2))
            picture = np.full((int(rng.integers(1, 4)), 3, height, width), 0.5, np.float32)
            assert predict({"x": picture})["y"].shape == (len(picture), 32)
        assert running.process.poll() is None


class Short(LoadedModel):
    """Has memory for a call again once it was emptied, if ever."""

    def __init__(self, *, is_helped: bool) -> None:
        self.is_helped = is_helped
        self.done: list[str] = []

    def predict(self, inputs: Arrays) -> dict[str, Any]:
        self.done.append("predict")
        if self.is_helped and "empty" in self.done:
            return dict(inputs)
        raise MemoryQuotaExceeded("no memory")

    def empty(self) -> None:
        self.done.append("empty")

    def close(self) -> None:
        pass


def test_an_engine_without_memory_is_emptied_and_tried_once_more() -> None:
    model = Short(is_helped=True)
    assert memory.predict(model, {"x": np.zeros(1)}).keys() == {"x"}
    assert model.done == ["predict", "empty", "predict"]


def test_an_emptied_engine_that_still_has_no_memory_says_so() -> None:
    model = Short(is_helped=False)
    with pytest.raises(MemoryQuotaExceeded, match="no memory"):
        memory.predict(model, {})
    assert model.done == ["predict", "empty", "predict"]


@pytest.mark.parametrize("engine", ["openvino", "onnxruntime"])
def test_an_emptied_engine_computes_as_before(engine: str, convolutions: Path) -> None:
    with EIPredictor(convolutions, use_ei=False, engine=engine) as predict:
        x = np.random.default_rng(1).random((2, 3, 40, 50), np.float32)
        before = predict({"x": x})["y"]
        predict._model._model.empty()  # type: ignore[attr-defined]
        np.testing.assert_array_equal(predict({"x": x})["y"], before)
