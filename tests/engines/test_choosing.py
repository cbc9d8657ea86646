"""Choosing engine and precision with real engines: what is compared, what is kept, what the next load takes of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from elastic_inference.engines import select
from elastic_inference.engines.base import EngineOptions
from elastic_inference.engines.choosing import Sample, Samples, Task, choose
from elastic_inference.errors import InvalidInput, UnsupportedModel
from elastic_inference.models.artifacts.store import ArtifactStore
from elastic_inference.models.package import ModelPackage
from elastic_inference.models.signature import Signature, SignatureRequest
from elastic_inference.proof.agreement import Kind
from elastic_inference.proof.choice import Candidate, Choice
from elastic_inference.proof.proof import Verdict

pytest.importorskip("nncf")
REQUEST = SignatureRequest()


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two convolutions and a softmax on float32[1, 3, 16, 16]; its weights are chance."""
    chance = np.random.default_rng(3)
    weights = {
        "first": chance.normal(size=(8, 3, 3, 3)) * 0.4,
        "second": chance.normal(size=(8, 8, 3, 3)) * 0.2,
        "last": chance.normal(size=(8, 5)),
        "bias": chance.normal(size=5),
    }
    nodes = [
        helper.make_node("Conv", ["x", "first"], ["a"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Conv", ["b", "second"], ["c"], strides=[2, 2]),
        helper.make_node("Relu", ["c"], ["d"]),
        helper.make_node("GlobalAveragePool", ["d"], ["e"]),
        helper.make_node("Flatten", ["e"], ["f"]),
        helper.make_node("Gemm", ["f", "last", "bias"], ["g"]),
        helper.make_node("Softmax", ["g"], ["probs"]),
    ]
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 16, 16])],
        [helper.make_tensor_value_info("probs", TensorProto.FLOAT, [1, 5])],
        [numpy_helper.from_array(array.astype(np.float32), name) for name, array in weights.items()],
    )
    path = tmp_path_factory.mktemp("model") / "classifier.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), str(path))
    return path


def samples_of(num_calibration: int = 4, num_held_out: int = 3, are_made_up: bool = False) -> Samples:
    chance = np.random.default_rng(1)

    def some(num: int, name: str) -> Iterator[Sample]:
        for index in range(num):
            yield Sample(f"{name} {index}", {"x": chance.random((1, 3, 16, 16), np.float32)})

    return Samples(
        tuple(some(num_calibration, "calibration")), tuple(some(num_held_out, "photo")), are_made_up
    )


def chosen(path: Path, folder: Path, precision: str, samples: Samples | None = None, **more: Any) -> Choice:
    options = EngineOptions("auto", precision=precision, num_threads=1, store=ArtifactStore.at(folder))
    package = ModelPackage.read(path)
    return choose(Task(package, REQUEST, options, lambda _: samples or samples_of(), **more))


def loaded(path: Path, folder: Path | None, precision: str, engine: str = "auto") -> Any:
    store = None if folder is None else ArtifactStore.at(folder)
    options = EngineOptions(engine, precision=precision, num_threads=1, store=store)
    return select.load(ModelPackage.read(path), REQUEST, options)


def candidate(choice: Choice, engine: str, precision: str) -> Candidate:
    return next(c for c in choice.candidates if (c.engine, c.precision) == (engine, precision))


@pytest.fixture(scope="module")
def everything(classifier: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Choice, Path]:
    """All engines in all precisions, judged with a tolerance that chance weights can hold."""
    folder = tmp_path_factory.mktemp("cache")
    told: list[str] = []
    steps: list[tuple[int, int | None]] = []
    choice = chosen(
        classifier,
        folder,
        "auto",
        tolerance=0.5,
        tell=told.append,
        on_progress=lambda *step: steps.append(step),
    )
    assert "int8 on openvino: calibrating and loading" in told
    assert steps[-1] == (9, 9)
    return choice, folder


def test_every_engine_and_precision_is_tried_and_compared(everything: tuple[Choice, Path]) -> None:
    choice, _ = everything
    tried = [(c.engine, c.precision) for c in choice.candidates]
    assert tried == [
        ("openvino", "fp32"),
        ("onnxruntime", "fp32"),
        ("openvino", "bf16"),
        ("openvino", "int8"),
    ]
    assert candidate(choice, "onnxruntime", "fp32").proof is None  # the reference itself
    exact = candidate(choice, "openvino", "fp32").proof
    assert exact is not None
    assert (exact.verdict, exact.kind, exact.tolerance) == (Verdict.AGREES, Kind.CLASSES, 1e-3)
    assert (exact.num_samples, exact.num_recorded) == (3, 3)
    assert (choice.num_calibration, choice.num_held_out) == (4, 3)
    assert all(c.seconds for c in choice.candidates if not c.refusal or "times as fast" in c.refusal)
    assert f"{choice.precision} on {choice.engine} was taken" in choice.reason


def test_next_load_takes_what_was_chosen_and_says_so(
    classifier: Path, everything: tuple[Choice, Path]
) -> None:
    choice, folder = everything
    model = loaded(classifier, folder, "auto")
    assert (model.report.engine, model.report.precision) == (choice.engine, choice.precision)
    assert model.report.notes[0].startswith("Engine auto, precision auto: ")
    assert model.choice == choice
    assert model.predict(dict(samples_of().held_out[0].arrays))["probs"].shape == (1, 5)


def test_precision_that_was_proved_is_there_for_whoever_names_it(
    classifier: Path, everything: tuple[Choice, Path]
) -> None:
    choice, folder = everything
    if not candidate(choice, "openvino", "int8").seconds:
        pytest.skip(f"this processor has no int8: {candidate(choice, 'openvino', 'int8').refusal}")
    model = loaded(classifier, folder, "int8")
    assert model.report.precision == "int8"
    assert model.choice.proof.is_passed
    reference = loaded(classifier, None, "fp32", "onnxruntime")
    for sample in samples_of().held_out:
        ours, theirs = (each.predict(dict(sample.arrays))["probs"] for each in (model, reference))
        assert np.abs(ours - theirs).max() < 0.05
        assert np.abs(ours - theirs).max() > 0  # it is another computation


def test_another_engine_or_model_was_not_chosen_for(
    classifier: Path, everything: tuple[Choice, Path]
) -> None:
    model = loaded(classifier, everything[1], "auto", "onnxruntime")
    assert (model.report.engine, model.report.precision) == ("onnxruntime", "fp32")
    assert "Precision auto stays at fp32: without samples nothing was proved" in model.report.notes[0]


def test_auto_without_anything_kept(classifier: Path) -> None:
    model = loaded(classifier, None, "auto")
    assert (model.report.engine, model.report.precision) == ("openvino", "fp32")
    assert "no store is in use" in model.report.notes[0]


def test_int8_without_calibration_names_the_command(classifier: Path, tmp_path: Path) -> None:
    for folder, why in ((None, "no store is in use"), (tmp_path, str(tmp_path))):
        with pytest.raises(InvalidInput, match="quantized on samples of yours") as raised:
            loaded(classifier, folder, "int8")
        assert "ei compile MODEL --precision int8 --calibration FOLDER" in str(raised.value)
        assert why in str(raised.value)


def test_damaged_or_removed_int8_model_is_a_miss_that_is_told(classifier: Path, tmp_path: Path) -> None:
    choice = chosen(classifier, tmp_path, "int8", tolerance=0.5)
    if not choice.is_as_wanted:
        pytest.skip(choice.reason)
    for file in (tmp_path / "blobs").iterdir():
        file.chmod(0o600)
        file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(InvalidInput, match="ei compile MODEL --precision int8"):
        loaded(classifier, tmp_path, "int8")


def test_refusal_shows_the_worst_sample_and_nothing_is_kept(classifier: Path, tmp_path: Path) -> None:
    choice = chosen(classifier, tmp_path, "int8", kind=Kind.RELATIVE, tolerance=1e-6)
    assert not choice.is_as_wanted
    assert choice.precision == "fp32"
    refusal = candidate(choice, "openvino", "int8").refusal
    if "on this processor" not in refusal:
        assert refusal.startswith("it does not agree: output 'probs': its relative error is ")
        assert ", not 1e-06, on photo " in refusal
    assert not ArtifactStore.at(tmp_path).artifacts()


def test_made_up_values_choose_the_engine_and_no_precision(classifier: Path, tmp_path: Path) -> None:
    choice = chosen(classifier, tmp_path, "auto", samples_of(0, 2, are_made_up=True))
    assert choice.precision == "fp32"
    for precision in ("bf16", "int8"):
        assert "no samples were given" in candidate(choice, "openvino", precision).refusal
    assert choice.num_held_out == 0
    assert loaded(classifier, tmp_path, "auto").report.engine == choice.engine


def test_one_sample_judges_and_calibrates_nothing(classifier: Path, tmp_path: Path) -> None:
    choice = chosen(classifier, tmp_path, "auto", samples_of(0, 1), tolerance=0.5)
    assert candidate(choice, "openvino", "int8").refusal == "no samples were left to calibrate on"


def test_samples_that_the_model_does_not_take(classifier: Path, tmp_path: Path) -> None:
    wrong = Sample("wrong.npy", {"x": np.zeros((1, 3, 8, 16), np.float32)})
    with pytest.raises(InvalidInput, match=r"the model does not take sample wrong\.npy"):
        chosen(classifier, tmp_path, "auto", Samples((), (wrong,)))
    with pytest.raises(InvalidInput, match="there are no samples to judge answers by"):
        chosen(classifier, tmp_path, "auto", Samples((), ()))


def test_model_that_no_engine_loads(tmp_path: Path) -> None:
    path = tmp_path / "broken.onnx"
    path.write_bytes(b"no model")
    with pytest.raises(UnsupportedModel, match="no engine computes the model in fp32: engine onnxruntime: "):
        chosen(path, tmp_path, "auto")


def test_candidate_that_dies_is_out_and_no_more(
    classifier: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = EngineOptions("auto", precision="fp32", num_threads=1, store=ArtifactStore.at(tmp_path))
    task = Task(ModelPackage.read(classifier), REQUEST, options, lambda _: samples_of())
    from elastic_inference.engines import candidate as module

    load = module.CandidateProcess.load

    def killed(self: Any) -> None:
        load(self)
        if self._order.engine == "openvino":
            self._process.kill()

    monkeypatch.setattr(module.CandidateProcess, "load", killed)
    choice = choose(task)
    assert choice.engine == "onnxruntime"
    assert "the process of openvino was ended by signal 9" in candidate(choice, "openvino", "fp32").refusal


def test_signature_is_handed_to_whoever_has_the_samples(classifier: Path, tmp_path: Path) -> None:
    seen: list[Signature] = []

    def samples(signature: Signature) -> Samples:
        seen.append(signature)
        return samples_of()

    options = EngineOptions("onnxruntime", precision="fp32", num_threads=1, store=ArtifactStore.at(tmp_path))
    choice = choose(Task(ModelPackage.read(classifier), REQUEST, options, samples))
    assert seen[0].inputs["x"].shape == (1, 3, 16, 16)
    assert choice.reason.startswith(  # and, on a busy machine, that it is one
        "Engine onnxruntime, precision fp32: fp32 on onnxruntime was taken, the only one there is"
    )
    assert replace(choice, candidates=()).proof is None
