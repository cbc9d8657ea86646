"""Models compared with their reference by a real process: what it finds, what follows, and what it leaves behind."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import psutil
import pytest
from onnx import TensorProto, helper, numpy_helper

from elastic_inference.accelerator.proof_store import ProofStore
from elastic_inference.accelerator.proofs import MAX_SAMPLE_BYTES, Loaded, ModelProof, Proofs
from elastic_inference.accelerator.prover import Prover, Task
from elastic_inference.accelerator.queue import RequestQueue
from elastic_inference.client.predictor import EIPredictor
from elastic_inference.engines import select
from elastic_inference.engines.base import EngineOptions
from elastic_inference.errors import InvalidInput, UnsupportedModel
from elastic_inference.models.artifacts.store import ArtifactStore
from elastic_inference.models.package import ModelPackage
from elastic_inference.models.signature import SignatureRequest
from elastic_inference.proof.agreement import Kind
from elastic_inference.proof.choice import Candidate, Choice
from elastic_inference.proof.proof import Mode, Proof, Verdict

# Two boxes whose overlap is exactly the threshold, which OpenVINO takes for one box and ONNX for two. Nothing that is
# known of operations tells them apart: their numbers do.
BOXES = np.array([[[0, 0, 2, 2], [0, 0, 2, 1]]], np.float32)


def write(
    path: Path, nodes: list[Any], constants: dict[str, Any], x: list[int], outputs: dict[str, int]
) -> Path:
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, x)],
        [helper.make_tensor_value_info(name, dtype, None) for name, dtype in outputs.items()],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), str(path))
    return path


@pytest.fixture
def boundary(tmp_path: Path) -> Path:
    """Chooses boxes by their scores `x`; OpenVINO chooses one where ONNX has two."""
    constants = {"boxes": BOXES, "count": np.array([2]), "overlap": np.float32(0.5), "least": np.float32(-1)}
    node = helper.make_node("NonMaxSuppression", ["boxes", "x", "count", "overlap", "least"], ["chosen"])
    return write(tmp_path / "boundary.onnx", [node], constants, [1, 1, 2], {"chosen": TensorProto.INT64})


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    """y = relu(x)."""
    nodes = [helper.make_node("Relu", ["x"], ["y"])]
    return write(tmp_path / "plain.onnx", nodes, {}, [1, 4], {"y": TensorProto.FLOAT})


def loaded(path: Path, engine: str = "auto", precision: str = "fp32") -> Loaded:
    package, options = ModelPackage.read(path), EngineOptions(engine, precision=precision, num_threads=1)
    return Loaded(select.load(package, SignatureRequest(), options), package, SignatureRequest(), options, {})


def proofs(tmp_path: Path, memory_limit_bytes: int | None = None) -> Proofs:
    return Proofs(
        Prover(RequestQueue(8), ProofStore(ArtifactStore.at(tmp_path / "proofs")), memory_limit_bytes)
    )


def proved(path: Path, tmp_path: Path, mode: Mode = Mode.BEFORE, **options: str) -> tuple[Loaded, Proof]:
    model, state = loaded(path, **options), ModelProof()
    proofs(tmp_path).begin(model, mode, state)
    assert state.proof is not None
    return model, state.proof


def test_model_that_agrees(plain: Path, tmp_path: Path) -> None:
    model, proof = proved(plain, tmp_path)
    assert proof.verdict is Verdict.AGREES
    assert (proof.num_samples, proof.worst) == (3, 0.0)
    assert proof.reference.startswith("onnxruntime")
    assert model.model.report.engine == "openvino"


def test_difference_changes_the_engine(boundary: Path, tmp_path: Path) -> None:
    model, proof = proved(boundary, tmp_path)
    assert proof.verdict is Verdict.DIFFERS
    assert "int64[1, 3] instead of int64[2, 3]" in proof.reason
    assert model.model.report.engine == "onnxruntime"
    assert "took over from openvino" in model.model.report.notes[-1]
    assert len(model.model.predict({"x": np.float32([[[0.9, 0.5]]])})["chosen"]) == 2


def test_engine_that_was_named_stays_and_the_difference_is_told(boundary: Path, tmp_path: Path) -> None:
    model, proof = proved(boundary, tmp_path, engine="openvino")
    assert proof.verdict is Verdict.DIFFERS
    assert model.model.report.engine == "openvino"


def test_model_is_compared_once(boundary: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, first = proved(boundary, tmp_path)
    monkeypatch.setattr(sys, "executable", "/no/such/python")
    model, again = proved(boundary, tmp_path, Mode.BACKGROUND)
    assert again == first
    assert model.model.report.engine == "onnxruntime"


def test_why_a_model_is_not_compared(plain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert proved(plain, tmp_path, Mode.OFF)[1].summary() == "not compared: proof='off' was asked for"
    monkeypatch.setattr("elastic_inference.engines.registry.Engine.is_installed", lambda _: False)
    _, missing = proved(plain, tmp_path, Mode.BACKGROUND)
    assert missing.reason == "engine onnxruntime is not installed here; install elastic-inference[onnx]"


def test_lower_precision_is_compared_with_float32(plain: Path, tmp_path: Path) -> None:
    model, proof = proved(plain, tmp_path, engine="openvino", precision="bf16")
    assert proof.verdict is Verdict.AGREES
    assert (proof.subject.split()[0], proof.reference.split()[0]) == ("openvino", "onnxruntime")
    assert proof.figures["speed_up"] > 0
    if model.model.report.precision == "bf16":  # else this processor has none, which a note says
        assert (proof.kind, proof.tolerance) == (Kind.RELATIVE, 0.02)


def test_lower_precision_without_the_reference_is_compared_with_the_engine_itself(
    plain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "elastic_inference.engines.registry.Engine.is_installed", lambda engine: engine.name == "openvino"
    )
    model, state = loaded(plain, engine="openvino", precision="bf16"), ModelProof()
    proofs(tmp_path).begin(model, Mode.BACKGROUND, state)
    assert state.proof is not None
    if model.model.report.precision == "bf16":
        assert state.proof.reason.startswith("not yet")


def test_what_was_proved_when_it_was_chosen_is_not_compared_again(plain: Path, tmp_path: Path) -> None:
    model, state = loaded(plain, engine="openvino"), ModelProof()
    report = model.model.report
    subject = f"{report.engine} {report.engine_version} {report.precision}"
    proof = Proof(subject, Verdict.AGREES, "onnxruntime 1 fp32", 12, 12)
    model.model.choice = Choice(
        "openvino", "fp32", "auto", "auto", "why", (Candidate("openvino", "fp32", subject, proof=proof),)
    )
    proofs(tmp_path).begin(model, Mode.BACKGROUND, state)
    assert state.proof == proof


def test_samples_of_calls_are_spread_and_bounded() -> None:
    state = ModelProof()
    state.want_samples(3)
    for index in range(40):
        state.keep_sample({"x": np.full(1, index)})
    assert [int(sample["x"][0]) for sample in state.take_samples()] == [0, 1, 3]
    assert not state.wants_sample
    large = ModelProof()
    large.want_samples(3)
    large.keep_sample({"x": np.zeros(1)})
    large.keep_sample({"x": np.zeros(MAX_SAMPLE_BYTES // 8)})
    assert len(large.take_samples()) == 1


def test_reference_needs_no_proof(plain: Path, tmp_path: Path) -> None:
    state = ModelProof()
    proofs(tmp_path).begin(loaded(plain, engine="onnxruntime"), Mode.BEFORE, state)
    assert state.summary() == ""


def test_too_little_memory(plain: Path, tmp_path: Path) -> None:
    model, state = loaded(plain), ModelProof()
    used = psutil.Process().memory_info().rss
    with pytest.raises(UnsupportedModel, match=r"MiB left, and a second engine takes 300 at least"):
        proofs(tmp_path, used + (64 << 20)).begin(model, Mode.BEFORE, state)


def test_background_waits_its_turn_takes_a_call_as_sample_and_tells(plain: Path, tmp_path: Path) -> None:
    is_done = threading.Event()
    state, model = ModelProof(), loaded(plain)
    prover = Prover(RequestQueue(8), ProofStore(ArtifactStore.at(tmp_path / "proofs")), None)
    add, tasks = prover.add, []

    def told(task: Task) -> None:
        done = task.done
        tasks.append(
            Task(task.key, task.subject, task.job, task.take_samples, lambda p: (done(p), is_done.set()))
        )
        add(tasks[0])

    prover.add = told  # type: ignore[method-assign]
    Proofs(prover).begin(model, Mode.BACKGROUND, state)
    assert state.summary() == "not compared: not yet, that waits until nobody calls"
    state.keep_sample({"x": np.float32([[1, -2, 3, -4]])})
    assert not state.wants_sample
    assert is_done.wait(120)
    assert state.proof is not None
    assert (state.proof.verdict, state.proof.num_samples, state.proof.num_recorded) == (Verdict.AGREES, 4, 1)
    prover.close()


def test_process_ends_with_whoever_started_it() -> None:
    program = """
import subprocess, sys
child = subprocess.Popen([sys.executable, "-m", "elastic_inference.engines.proving"], stdin=subprocess.PIPE, text=True)
print(child.pid, flush=True)
sys.stdin.read()
"""
    parent = subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout is not None
    assert parent.stdin is not None
    child = psutil.Process(int(parent.stdout.readline()))
    parent.kill()
    parent.wait(30)
    parent.stdin.close()
    parent.stdout.close()
    child.wait(60)


def test_predictor_says_what_was_proved(plain: Path, boundary: Path) -> None:
    with EIPredictor(plain, proof="before") as agreeing, EIPredictor(boundary, proof="before") as differing:
        assert agreeing.report.engine == "openvino"
        assert agreeing.report.proof.startswith("agrees: openvino")
        assert differing.report.engine == "onnxruntime"
        assert differing.report_now().proof.startswith("differs: openvino")
        assert len(differing({"x": [[[0.9, 0.5]]]})["chosen"]) == 2
    with pytest.raises(InvalidInput, match="proof 'soon' is not one of"):
        EIPredictor(plain, proof="soon")
