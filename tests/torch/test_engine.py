"""What the engine does beside the model's computation: threads, precision, points, errors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from elastic_inference.client.predictor import EIPredictor
from elastic_inference.engines.torch.device import Cpu
from elastic_inference.errors import InvalidArgumentError, MemoryQuotaExceeded, ModelError, PredictorClosed
from elastic_inference.models.signature import SignatureRequest
from elastic_inference.testing.accelerator import start_accelerator
from tests.torch.models import export, nn, script, seeded, torch


@pytest.fixture
def stack(tmp_path: Path) -> Path:
    module = seeded(lambda: nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2)))
    return export(module, tmp_path / "stack.pt2", (torch.zeros(1, 4),))


def test_threads_and_report(stack: Path, load: Any) -> None:
    model = load(stack, num_threads=1)
    report = model.report
    assert (report.engine, report.engine_version, report.device) == ("torch", torch.__version__, "cpu:0")
    assert (report.precision, report.num_threads) == ("fp32", 1)
    torch.set_num_threads(2)
    model.predict({"input": np.zeros((1, 4), np.float32)})
    assert load(stack, num_threads=2).report.num_threads == 2


def test_precision_is_less_where_less_is_asked_for_only(stack: Path, load: Any) -> None:
    x = {"input": np.random.default_rng(0).random((1, 4), np.float32)}
    exact = load(stack).predict(x)["out"]
    model = load(stack, precision="bf16")
    rounded = model.predict(x)["out"]
    assert model.report.precision == "bf16"
    assert rounded.dtype == np.float32
    assert 0 < np.abs(rounded - exact).max() < 0.02


class _Raises(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if bool(x.sum() > 0):
            raise ValueError("x must not be positive")
        return x


def test_errors_of_the_model(stack: Path, load: Any, tmp_path: Path) -> None:
    model = load(script(_Raises(), tmp_path / "m.pt"), SignatureRequest(input_specs={"x": "float32:-1"}))
    with pytest.raises(ModelError, match="x must not be positive"):
        model.predict({"x": np.ones(2, np.float32)})
    model.predict({"x": np.zeros(2, np.float32)})
    embed = load(export(nn.Embedding(3, 2), tmp_path / "e.pt2", (torch.zeros(1, dtype=torch.int64),)))
    with pytest.raises(InvalidArgumentError, match="out of range"):
        embed.predict({"input": np.array([7])})
    with pytest.raises(InvalidArgumentError, match="You must feed a value"):
        embed.predict({})
    model = load(stack)
    model.close()
    model.close()
    with pytest.raises(PredictorClosed):
        model.predict({"input": np.zeros((1, 4), np.float32)})


class _Large(nn.Module):
    def forward(self, x: Any) -> Any:
        return torch.ones(x.shape[0], 1 << 20).sum(1)


def test_too_little_memory_is_told_with_both_figures_and_the_accelerator_lives_on(tmp_path: Path) -> None:
    shape = ({0: torch.export.Dim("batch", min=1, max=1 << 20)},)
    path = export(_Large(), tmp_path / "m.pt2", (torch.zeros(2),), dynamic=shape)
    limit = 3 << 30
    with (
        start_accelerator(memory_limit_bytes=limit, num_threads=1) as accelerator,
        EIPredictor(path, address=accelerator.address, token=accelerator.token) as model,
    ):
        with pytest.raises(MemoryQuotaExceeded, match=r"it asked for .* the limit of cpu is 3") as caught:
            model({"x": np.zeros(4096, np.float32)})
        assert (caught.value.requested_bytes, caught.value.limit_bytes) == (4096 << 22, limit)
        np.testing.assert_array_equal(model({"x": np.zeros(2, np.float32)})["out"], 1 << 20)


def test_the_cpu_knows_its_limit() -> None:
    from elastic_inference.engines.base import EngineOptions

    assert Cpu(torch, EngineOptions(), 1).memory_limit_bytes >= 0


class _Pieces(nn.Module):
    """Has twenty pieces of a megabyte at once, and then none."""

    def forward(self, x: Any) -> Any:
        pieces = [x + number for number in range(20)]
        return [piece.sum() for piece in pieces]


def _num_faults(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[7])


def test_predictions_compute_in_memory_that_earlier_ones_used(tmp_path: Path) -> None:
    path = export(_Pieces(), tmp_path / "m.pt2", (torch.zeros(1 << 18),))
    x = np.zeros(1 << 18, np.float32)
    before = set(psutil.Process().children())
    with EIPredictor(path, num_threads=2) as model:  # as no other test has it, so in a process of its own
        (accelerator,) = set(psutil.Process().children()) - before
        for _ in range(5):
            model({"x": x})
        num_faults = _num_faults(accelerator.pid)
        for _ in range(20):
            model({"x": x})
        # Cleared anew, the twenty pieces of a prediction would be 5,120 pages.
        assert (_num_faults(accelerator.pid) - num_faults) / 20 < 500
