"""Models through an accelerator process answer as PyTorch does in this one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from elastic_inference.client.predictor import EIPredictor
from elastic_inference.models.signature import SignatureRequest
from elastic_inference.tensors import from_bfloat16_bits
from tests.torch.models import Counter, Encoder, Nested, Recurrent, export, script, seeded, torch, trace

Make = Callable[..., EIPredictor]
BATCH = torch.export.Dim("batch", min=1, max=64)


def same(found: Any, wanted: Any) -> None:
    with torch.inference_mode():
        np.testing.assert_allclose(found, wanted.numpy(), rtol=1e-5, atol=1e-5)


def test_resnet_of_any_batch(tmp_path: Path, predictor: Make) -> None:
    torchvision = pytest.importorskip("torchvision")
    module = seeded(lambda: torchvision.models.resnet50(weights=None))
    path = export(module, tmp_path / "resnet50.pt2", (torch.rand(2, 3, 64, 64),), dynamic=({0: BATCH},))
    model = predictor(path)
    assert {k: (t.dtype, t.shape) for k, t in model.feed_tensors.items()}.keys() == {"x"}
    assert list(model.fetch_tensors) == ["out"]
    assert "torch" in model.report.summary()
    for batch in (1, 3):
        image = torch.rand(batch, 3, 64, 64)
        same(model({"x": image.numpy()})["out"], module(image).detach())


def test_detector_as_torch_script(tmp_path: Path, predictor: Make) -> None:
    torchvision = pytest.importorskip("torchvision")
    make = torchvision.models.detection.ssdlite320_mobilenet_v3_large
    module = seeded(lambda: make(weights=None, weights_backbone=None, num_classes=5, score_thresh=0.1))
    path = script(module, tmp_path / "detector.pt")
    names = ["boxes", "scores", "labels"]
    model = predictor(path, input_specs={"image": "float32:3,-1,-1"}, output_names=names)
    assert list(model.fetch_tensors) == names
    for size in ((200, 320), (90, 100)):
        image = torch.rand(3, *size)
        wanted = module([image])[0]
        found = model({"image": image.numpy()})
        assert len(wanted["labels"]) > 0
        for name in names:
            same(found[name], wanted[name].detach())


def test_transformer_with_ids_and_mask(tmp_path: Path, predictor: Make) -> None:
    module = seeded(Encoder)
    example = (torch.zeros(2, 7, dtype=torch.int64), torch.zeros(2, 7, dtype=torch.bool))
    shape = {0: BATCH, 1: torch.export.Dim.AUTO}
    model = predictor(export(module, tmp_path / "encoder.pt2", example, dynamic=(shape, shape)))
    assert {k: t.dtype for k, t in model.feed_tensors.items()} == {"ids": "int64", "padding": "bool"}
    ids, padding = torch.randint(0, 100, (3, 9)), torch.zeros(3, 9, dtype=torch.bool)
    padding[1, 5:] = True
    same(model({"ids": ids.numpy(), "padding": padding.numpy()})["out"], module(ids, padding).detach())


@pytest.mark.parametrize("kind", ["pt2", "pt"])
def test_lstm_gives_its_state(tmp_path: Path, predictor: Make, kind: str) -> None:
    module = seeded(Recurrent)
    x, h, c = torch.rand(2, 5, 8), torch.rand(2, 2, 16), torch.rand(2, 2, 16)
    if kind == "pt2":
        model = predictor(export(module, tmp_path / "lstm.pt2", (x, (h, c))))
    else:
        trace(module, tmp_path / "lstm.pt", (x, (h, c)))
        specs = {"x": "float32:2,5,8", "state.0": "float32:2,2,16", "state.1": "float32:2,2,16"}
        model = predictor(tmp_path / "lstm.pt", input_specs=specs)
    assert set(model.feed_tensors) == {"x", "state.0", "state.1"}
    found = model({"x": x.numpy(), "state.0": h.numpy(), "state.1": c.numpy()})
    y, (new_h, new_c) = module(x, (h, c))
    assert list(found) == ["out.0", "out.1.0", "out.1.1"]
    for value, wanted in zip(found.values(), (y, new_h, new_c), strict=True):
        same(value, wanted.detach())


def test_nested_values_of_many_dtypes(tmp_path: Path, predictor: Make) -> None:
    module = seeded(Nested)
    batch = {"x": torch.rand(2, 4), "ids": torch.arange(2)}
    scale = (torch.tensor(1.5),)
    model = predictor(export(module, tmp_path / "nested.pt2", (batch,), {"scale": scale}))
    assert list(model.feed_tensors) == ["batch.x", "batch.ids", "scale.0"]
    found = model({"batch.x": batch["x"].numpy(), "batch.ids": batch["ids"].numpy(), "scale.0": 1.5})
    wanted = module(batch, scale=scale)
    assert list(found) == [
        "out.boxes.0", "out.boxes.1", "out.rest.0", "out.rest.1", "out.rest.3", "out.seven"
    ]  # fmt: skip
    same(found["out.boxes.0"], wanted["boxes"][0].detach())
    same(found["out.boxes.1"], wanted["boxes"][1].detach())
    assert found["out.boxes.1"].dtype == np.float16
    np.testing.assert_array_equal(found["out.rest.0"], [1, 2])
    np.testing.assert_array_equal(found["out.rest.1"], wanted["rest"][1].numpy())
    bits = wanted["rest"][3].detach().view(torch.uint16).numpy()
    np.testing.assert_array_equal(
        found["out.rest.3"].astype(np.float32), from_bfloat16_bits(bits).astype(np.float32)
    )
    assert found["out.seven"] == 7


def test_bfloat16_in_takes_floats_and_bits(tmp_path: Path, predictor: Make) -> None:
    module = torch.nn.Hardtanh(-2, 2)
    model = predictor(export(module, tmp_path / "m.pt2", (torch.zeros(3, dtype=torch.bfloat16),)))
    (alias,) = model.feed_tensors
    for value in ([1.0, -3.0, 0.5], np.array([1.0, -3.0, 0.5])):
        np.testing.assert_array_equal(model({alias: value})["out"].astype(np.float32), [1.0, -2.0, 0.5])
    bits = torch.tensor([1.0, -3.0, 0.5], dtype=torch.bfloat16).view(torch.uint16).numpy()
    np.testing.assert_array_equal(model({alias: bits})["out"].astype(np.float32), [1.0, -2.0, 0.5])


def test_a_model_that_counts_counts_each_call_as_its_first(tmp_path: Path, predictor: Make) -> None:
    model = predictor(export(Counter(), tmp_path / "counter.pt2", (torch.zeros(2),)))
    assert any("count" in note for note in model.report.notes)
    for _ in range(2):
        np.testing.assert_array_equal(model({"x": np.zeros(2, np.float32)})["out"], [1, 1])


class _Adds(torch.nn.Module):
    def forward(self, x: Any, y: Any) -> Any:
        x.add_(1)
        return x, y


@pytest.mark.parametrize("kind", ["pt2", "pt"])
def test_inputs_stay_as_they_are_and_results_are_the_callers(tmp_path: Path, load: Any, kind: str) -> None:
    path = tmp_path / f"m.{kind}"
    wanted = None
    if kind == "pt2":
        export(_Adds(), path, (torch.zeros(2), torch.zeros(2)))
    else:
        trace(_Adds(), path, (torch.zeros(2), torch.zeros(2)))
        wanted = SignatureRequest(input_specs={"x": "float32:2", "y": "float32:2"})
    x, y = np.zeros(2, np.float32), np.zeros(2, np.float32)
    x.flags.writeable = False
    found = load(path, wanted).predict({"x": x, "y": y})
    np.testing.assert_array_equal(x, 0)
    np.testing.assert_array_equal(found["out.0"], 1)
    assert not np.shares_memory(found["out.1"], y)


def test_names_may_be_chosen(tmp_path: Path, predictor: Make) -> None:
    module = seeded(lambda: torch.nn.Linear(2, 2))
    path = export(module, tmp_path / "m.pt2", (torch.zeros(1, 2),))
    model = predictor(path, input_names={"a": "input"}, output_names={"b": "out"})
    x = torch.rand(1, 2)
    same(model({"a": x.numpy()})["b"], module(x).detach())
