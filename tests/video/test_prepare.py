"""A precision chosen with pictures of the clip itself: once, before the clip is worked on, and told in the report."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from elastic_inference import Accelerator, LoadOptions
from elastic_inference.models.artifacts.store import ArtifactStore, Kind
from elastic_inference.video.detect import DetectionJob, Listener, detect
from elastic_inference.zoo import ResolvedModel
from tests.video.clips import make_clip

pytest.importorskip("nncf")


@pytest.fixture(scope="module")
def detector(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two objects in any picture, whose scores a convolution computes."""
    chance = np.random.default_rng(2)
    constants = {
        "weights": (chance.random((4, 3, 3, 3)) * 0.001).astype(np.float32),
        "last": (chance.random((4, 2)) * 0.1).astype(np.float32),
        "bias": np.array([1.0, 2.0], np.float32),
        "corners": np.array([[[0.1, 0.1, 0.4, 0.4], [0.5, 0.5, 0.9, 0.9]]], np.float32),
        "labels": np.array([[1.0, 2.0]], np.float32),
        "none": np.zeros(1, np.float32),
        "axis": np.array([2], np.int64),
    }
    nodes = [
        helper.make_node("Cast", ["image"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["floats"], ["first"], perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["first", "weights"], ["features"], strides=[4, 4]),
        helper.make_node("Relu", ["features"], ["active"]),
        helper.make_node("GlobalAveragePool", ["active"], ["mean"]),
        helper.make_node("Flatten", ["mean"], ["flat"]),
        helper.make_node("Gemm", ["flat", "last", "bias"], ["logits"]),
        helper.make_node("Sigmoid", ["logits"], ["detection_scores"]),
        helper.make_node("Mul", ["detection_scores", "none"], ["nothing"]),
        helper.make_node("Add", ["labels", "nothing"], ["detection_classes"]),
        helper.make_node("Unsqueeze", ["nothing", "axis"], ["column"]),
        helper.make_node("Add", ["corners", "column"], ["detection_boxes"]),
    ]
    outputs = {"detection_boxes": [1, 2, 4], "detection_scores": [1, 2], "detection_classes": [1, 2]}
    graph = helper.make_graph(
        nodes,
        "detector",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, [1, None, None, 3])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in outputs.items()],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    path = tmp_path_factory.mktemp("model") / "detector.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), str(path))
    return path


def test_precision_is_chosen_with_the_clip_once(detector: Path, tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "clip.mp4", num_frames=9)
    store = tmp_path / "store"
    job = DetectionJob(
        clip,
        ResolvedModel("detector", detector),
        tmp_path / "out.mp4",
        accelerator=Accelerator.embedded(threads=1),
        load=LoadOptions(precision="auto", cache_dir=str(store)),
    )
    said: list[str] = []
    first = detect(job, Listener(on_choosing=said.append))
    assert said[0] == "choosing a precision with pictures of clip.mp4, once for this model and machine"
    assert "int8 on openvino: calibrating and loading" in said
    assert any("Engine auto, precision auto: " in note for note in first.notes)
    choices = [a for a in ArtifactStore.at(store).artifacts() if a.kind is Kind.DECISION]
    about = next(a.about for a in choices if a.key["precision"] == "auto")
    assert (about["precision"], about["num_held_out"], about["num_calibration"]) == (first.precision, 3, 6)
    if first.engine == "openvino":  # onnxruntime is the reference, for which there is nothing to compare
        assert first.proof.startswith("agrees: openvino ")
    said.clear()
    again = detect(job, Listener(on_choosing=said.append))
    assert not said
    assert (again.engine, again.precision, again.proof) == (first.engine, first.precision, first.proof)


def test_choice_for_one_run_leaves_nothing_behind(
    detector: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EI_CACHE_DIR", str(tmp_path / "cache"))
    clip = make_clip(tmp_path / "clip.mp4", num_frames=6)
    job = DetectionJob(
        clip,
        ResolvedModel("detector", detector),
        tmp_path / "out.mp4",
        accelerator=Accelerator.embedded(threads=1),
        load=LoadOptions(precision="auto", cache_dir=False),
    )
    report = detect(job)
    assert any("Engine auto, precision auto: " in note for note in report.notes)
    assert not (tmp_path / "cache").exists()


def test_nothing_is_chosen_in_process(detector: Path, tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "clip.mp4", num_frames=2)
    job = DetectionJob(
        clip,
        ResolvedModel("detector", detector),
        tmp_path / "out.mp4",
        accelerator=Accelerator.local(),
        load=LoadOptions(precision="auto"),
    )
    said: list[str] = []
    report = detect(job, Listener(on_choosing=said.append))
    assert not said
    assert report.precision == "fp32"
    assert "Precision auto stays at fp32" in report.notes[0]
    assert replace(report, notes=()).proof == ""
