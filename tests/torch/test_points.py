"""Points at which a prediction can be held: where they lie, what a held one answers, and how errors pass them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from elastic_inference.engines import preemption
from elastic_inference.engines.torch.device import PIECE_SECONDS, _Points
from elastic_inference.errors import ModelError
from elastic_inference.models.signature import SignatureRequest
from tests.torch.models import Encoder, export, nn, script, seeded, torch, trace

ROW = {"input": np.random.default_rng(0).random((1, 4), np.float32)}
SPECS = SignatureRequest(input_specs={"input": "float32:-1,4"})


class Asked:
    """Notes how often a point lets another accelerator go first."""

    def __init__(self, error: Exception | None = None) -> None:
        self.num_times = 0
        self._error = error

    def must_yield(self) -> bool:
        return True

    def checkpoint(self) -> None:
        self.num_times += 1
        if self._error is not None:
            raise self._error


@pytest.fixture
def stack(tmp_path: Path) -> Path:
    module = seeded(lambda: nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2)))
    return export(module, tmp_path / "stack.pt2", (torch.zeros(1, 4),))


def test_points_lie_between_submodules(stack: Path, load: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    model = load(stack)
    x = {"input": np.zeros((1, 4), np.float32)}
    wanted = model.predict(x)
    asked = Asked()
    monkeypatch.setattr(preemption, "_preemption", asked)
    found = model.predict(x)
    np.testing.assert_array_equal(found["out"], wanted["out"])
    assert asked.num_times == 2  # Linear | ReLU | Linear


def test_an_error_at_a_point_ends_the_prediction(
    stack: Path, load: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preemption, "_preemption", Asked(ModelError("the device was taken away")))
    with pytest.raises(ModelError, match=r"^the device was taken away$"):
        load(stack).predict({"input": np.zeros((1, 4), np.float32)})


def test_points_of_a_device_that_runs_ahead_are_thinned(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each operation takes a tenth of a piece, so that one point in about ten needs to wait."""
    now = [0.0]
    monkeypatch.setattr("elastic_inference.engines.torch.device.time.perf_counter", lambda: now[0])
    waits: list[float] = []
    points = _Points(lambda: waits.append(now[0]))
    monkeypatch.setattr(preemption, "_preemption", Asked())
    for _ in range(3):
        waits.clear()
        with points.active():
            for _ in range(1000):
                now[0] += PIECE_SECONDS / 10
                preemption.checkpoint()
    assert 90 <= len(waits) <= 110


class _Loops(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 4)

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        for _ in range(input.shape[0]):
            input = torch.relu(self.linear(input))
        return input


class _Functional(nn.Module):
    """One module, whose operations are functions."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        y = torch.matmul(input, input.T) + 1
        return torch.matmul(torch.relu(y), input)


def stacked() -> Any:
    return seeded(lambda: nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4), nn.Linear(4, 2)))


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Asked:
    """A device shared by lease, where another accelerator is always due."""
    asked = Asked()
    monkeypatch.setattr(preemption, "_preemption", asked)
    return asked


@pytest.mark.parametrize("kind", ["script", "trace"])
def test_torch_script_has_points_before_operations_that_take_time(
    tmp_path: Path, load: Any, asked: Asked, kind: str
) -> None:
    module = stacked()
    path = tmp_path / "m.pt"
    script(module, path) if kind == "script" else trace(module, path, (torch.zeros(1, 4),))
    model = load(path, SPECS)
    with torch.inference_mode():
        wanted = module(torch.from_numpy(ROW["input"])).numpy()
    for _ in range(4):  # TorchScript compiles a program anew in its first calls
        asked.num_times = 0
        np.testing.assert_array_equal(model.predict(ROW)["out"], wanted)
        assert asked.num_times == 3  # one before each Linear
    assert not model.report.notes


def test_torch_script_has_points_within_loops(tmp_path: Path, load: Any, asked: Asked) -> None:
    model = load(script(seeded(_Loops), tmp_path / "m.pt"), SPECS)
    for num_rows in (1, 7):
        asked.num_times = 0
        model.predict({"input": np.zeros((num_rows, 4), np.float32)})
        assert asked.num_times == num_rows


def test_torch_script_stays_as_it_is_where_no_device_is_shared(
    tmp_path: Path, load: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = load(script(stacked(), tmp_path / "m.pt"), SPECS)
    monkeypatch.setattr(preemption, "_preemption", asked := Asked())
    model.predict(ROW)
    assert asked.num_times == 0


def test_a_program_of_functions_has_points_before_those_that_take_time(
    tmp_path: Path, load: Any, asked: Asked
) -> None:
    load(export(_Functional(), tmp_path / "m.pt2", (torch.zeros(1, 4),))).predict(ROW)
    assert asked.num_times == 2  # transpose | matmul, add, relu | matmul


def test_a_transformer_has_points(tmp_path: Path, load: Any, asked: Asked) -> None:
    example = (torch.zeros(2, 7, dtype=torch.int64), torch.zeros(2, 7, dtype=torch.bool))
    model = load(export(seeded(Encoder), tmp_path / "m.pt2", example))
    asked.num_times = 0
    model.predict({"ids": example[0].numpy(), "padding": example[1].numpy()})
    assert asked.num_times >= 12  # of each of two layers: projections, attention, two products, two norms


@pytest.mark.usefixtures("asked")
@pytest.mark.parametrize("kind", ["pt2", "pt"])
def test_a_model_without_points_says_what_follows_for_its_neighbours(
    tmp_path: Path, load: Any, kind: str
) -> None:
    path = tmp_path / f"m.{kind}"
    export(nn.ReLU(), path, (torch.zeros(1, 4),)) if kind == "pt2" else script(nn.ReLU(), path)
    model = load(path, SPECS if kind == "pt" else None)
    assert any("shares the device waits for whole requests" in note for note in model.report.notes)


@pytest.mark.usefixtures("asked")
def test_an_error_at_a_point_of_torch_script_keeps_its_class(
    tmp_path: Path, load: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = load(script(stacked(), tmp_path / "m.pt"), SPECS)
    monkeypatch.setattr(preemption, "_preemption", Asked(ModelError("the device was taken away")))
    with pytest.raises(ModelError, match=r"^the device was taken away$"):
        model.predict(ROW)
    monkeypatch.setattr(preemption, "_preemption", None)
    assert model.predict(ROW)["out"].shape == (1, 2)
