"""Requests recorded by a real accelerator where its operator allows it, and the precision that is chosen by them."""

from __future__ import annotations

import os
import random
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from elastic_inference import Accelerator, EIPredictor, LoadOptions
from elastic_inference.accelerator import recording
from elastic_inference.accelerator.config import AcceleratorConfig
from elastic_inference.accelerator.recording import Recordings, Reservoir
from elastic_inference.client import load_stages
from elastic_inference.client.load_stages import OnStage
from elastic_inference.engines.candidate import read_sample, write_sample
from elastic_inference.engines.stages import Stage
from elastic_inference.errors import InvalidInput, UnsupportedModel
from elastic_inference.models.package import ModelPackage
from elastic_inference.models.signature import SignatureRequest
from elastic_inference.testing import RunningAccelerator, start_accelerator
from tests.integration.serve_process import ask_at

REQUEST = SignatureRequest()
MOST = 8
Arrays = dict[str, np.ndarray[Any, Any]]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """float32[N, 64] -> a product with weights above 0, y; of numbers of one size, int8 is off by a few thousandths."""
    weights = np.random.default_rng(0).uniform(0.5, 1, (64, 16)).astype(np.float32)
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["m"]), helper.make_node("Relu", ["m"], ["y"])],
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 64])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 16])],
        [numpy_helper.from_array(weights, "w")],
    )
    path = tmp_path_factory.mktemp("model") / "product.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), str(path))
    return path


@pytest.fixture
def running(tmp_path: Path) -> Iterator[RunningAccelerator]:
    with start_accelerator(
        artifacts_dir=str(tmp_path / "kept"), num_threads=1, record_requests=MOST
    ) as started:
        yield started


def predictor(
    running: RunningAccelerator, model: Path, precision: str = "fp32", on_stage: OnStage | None = None
) -> EIPredictor:
    place = Accelerator.at(running.address, token=running.token)
    load = LoadOptions(engine="openvino", precision=precision, proof="off")
    return EIPredictor(model, accelerator=place, load=load, on_stage=on_stage)


def call(predict: EIPredictor, times: int, smallest: float = 1.0) -> None:
    """Call with noise; the smaller, the less of it int8 can tell from nothing."""
    chance = np.random.default_rng(1)
    for index in range(times):
        scale = smallest if index % 2 else 1.0
        predict({"x": chance.random((1, 64), np.float32) * np.float32(scale)})


def recorded(running: RunningAccelerator) -> list[Path]:
    return sorted((Path(running.config.store_dir) / "recorded").rglob("*.npz"))


def unload_all(running: RunningAccelerator) -> None:
    url = f"http://{running.address.removeprefix('tcp:')}/v2/repository"
    status, rows = ask_at(f"{url}/index", {}, running.token)
    assert status == 200
    for row in rows:
        assert ask_at(f"{url}/models/{row['name']}/unload", {}, running.token)[0] == 200


def test_int8_is_calibrated_on_recorded_requests_and_the_report_says_so(
    running: RunningAccelerator, model: Path
) -> None:
    pytest.importorskip("nncf")
    with predictor(running, model) as exact:
        assert any(f"Recording: inputs of up to {MOST} requests" in note for note in exact.report.notes)
        call(exact, 5)
        with pytest.raises(InvalidInput, match="5 requests are recorded here, and 6 are needed") as refused:
            predictor(running, model, "int8")
        assert "ei compile" in str(refused.value)
        call(exact, 20)
        assert len(recorded(running)) == MOST
        with predictor(running, model, "int8") as predict:
            report = predict.report
            assert report.precision == "int8"
            assert any(f"measured on {MOST} recorded requests" in note for note in report.notes)
            assert "agrees" in report.proof
            x = np.random.default_rng(2).random((1, 64), np.float32)
            ours, theirs = predict({"x": x})["y"], exact({"x": x})["y"]
            assert 0 < np.linalg.norm(ours - theirs) < 0.02 * np.linalg.norm(theirs)


def test_int8_that_does_not_agree_on_recorded_requests_is_refused_and_auto_says_why(
    running: RunningAccelerator, model: Path
) -> None:
    pytest.importorskip("nncf")
    with predictor(running, model) as exact:
        call(exact, MOST, smallest=1e-5)
        with pytest.raises(UnsupportedModel, match=f"refused by {MOST} recorded requests: .*does not agree"):
            predictor(running, model, "int8")
        with predictor(running, model, "auto") as predict:
            assert predict.report.precision != "int8"
            assert any(f"measured on {MOST} recorded requests" in note for note in predict.report.notes)


def test_auto_stays_at_fp32_until_enough_is_recorded(running: RunningAccelerator, model: Path) -> None:
    with predictor(running, model, "auto") as predict:
        assert predict.report.precision == "fp32"
        assert any(note.startswith("Of this model 0 requests are recorded") for note in predict.report.notes)


def test_a_further_load_as_auto_chooses_once_enough_is_recorded(
    running: RunningAccelerator, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The note of the first says so; what that one loaded answers until the choice is made, and its calls go on."""
    x = np.ones((1, 64), np.float32)
    with predictor(running, model) as exact, predictor(running, model, "auto") as early:
        assert any(note.startswith("Of this model 0 requests are recorded") for note in early.report.notes)
        call(exact, MOST)
        told: list[str] = []
        monkeypatch.setattr(load_stages, "EVERY_SECONDS", 0.001)  # so small a model is chosen for in a moment
        with predictor(running, model, "auto", told.append) as late:
            assert Stage.CHOOSING.value in told, told
            assert any(f"measured on {MOST} recorded requests" in note for note in late.report.notes)
            assert not any(note.startswith("Of this model") for note in late.report.notes)
            np.testing.assert_array_equal(late({"x": x})["y"], early({"x": x})["y"])
            assert early.report_now().notes == late.report.notes


def test_what_is_recorded_is_private_and_goes_with_the_model_and_with_the_accelerator(
    tmp_path: Path, model: Path
) -> None:
    with start_accelerator(
        artifacts_dir=str(tmp_path / "kept"), num_threads=1, record_requests=MOST, is_store_shared=True
    ) as running:
        with predictor(running, model) as predict:
            call(predict, 3)
            kept = recorded(running)
            assert len(kept) == 3
            for path in kept:
                assert stat.S_IMODE(path.stat().st_mode) == 0o600
                assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
                assert stat.S_IMODE(path.parents[1].stat().st_mode) == 0o700
            np.testing.assert_array_equal(
                read_sample(kept[0])["x"], np.random.default_rng(1).random((1, 64), np.float32)
            )
        unload_all(running)
        assert not recorded(running)
        with predictor(running, model) as predict:
            call(predict, 1)
        assert len(recorded(running)) == 1
        running.process.terminate()
        assert running.process.wait(60) == 0
        assert not (Path(running.config.store_dir) / "recorded").exists()


def test_nothing_is_recorded_unless_it_is_allowed(tmp_path: Path, model: Path) -> None:
    with (
        start_accelerator(artifacts_dir=str(tmp_path / "kept"), num_threads=1) as running,
        predictor(running, model) as predict,
    ):
        call(predict, 3)
        assert not (Path(running.config.store_dir) / "recorded").exists()
        assert not any("ecord" in note for note in predict.report.notes)


@pytest.mark.parametrize("number", [-1, 1025])
def test_a_number_out_of_range_is_refused(number: int) -> None:
    with pytest.raises(InvalidInput, match=f"record_requests must be 0 to 1024, not {number}"):
        AcceleratorConfig("eia-" + 32 * "0", ("tcp:127.0.0.1:0",), "/store", record_requests=number)


def test_recording_on_a_gpu_is_refused() -> None:
    with pytest.raises(InvalidInput, match="record_requests must be 0 on cuda:0"):
        AcceleratorConfig("eia-" + 32 * "0", ("unix:/s",), "/store", device="cuda:0", record_requests=1)


def test_each_of_many_is_kept_with_the_same_chance() -> None:
    draw = random.Random(4).randrange
    counts = np.zeros(20)
    for _ in range(4000):
        reservoir, kept = Reservoir(5, draw), dict[int, int]()
        for index in range(20):
            place = reservoir.place()
            if place is not None:
                kept[place] = index
        assert len(kept) == 5
        counts[list(kept.values())] += 1
    assert np.all(np.abs(counts - 1000) < 5 * np.sqrt(4000 * 0.25 * 0.75))


def test_bytes_are_bounded_for_each_model_and_for_all(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recording, "MAX_RECORDED_MODEL_BYTES", 300)
    monkeypatch.setattr(recording, "MAX_RECORDED_BYTES", 500)
    recordings = Recordings(tmp_path / "store", 10)
    package = ModelPackage.read(model)
    one = recordings.begin(package, REQUEST)
    other = recordings.begin(package, SignatureRequest(tags=("other",)))
    for _ in range(10):
        one.saw({"x": np.zeros(100, np.uint8)})
        other.saw({"x": np.zeros(100, np.uint8)})
    assert (one.num_bytes, other.num_bytes) == (300, 200)
    assert (len(one.samples()), len(other.samples())) == (3, 2)
    one.saw({"x": np.array(["text"], object)})
    assert all(each.arrays["x"].dtype == np.uint8 for each in one.samples())


def test_two_loads_of_a_model_share_what_is_recorded_until_the_last_one_goes(
    tmp_path: Path, model: Path
) -> None:
    recordings = Recordings(tmp_path / "store", 10)
    package = ModelPackage.read(model)
    one, other = recordings.begin(package, REQUEST), recordings.begin(package, REQUEST)
    assert one is other
    one.saw({"x": np.zeros(4, np.float32)})
    recordings.end(one)
    assert len(one.samples()) == 1
    recordings.end(one)
    assert recordings.find(package, REQUEST) is None
    assert not list((tmp_path / "store").rglob("*.npz"))
    one.saw({"x": np.zeros(4, np.float32)})
    assert not list((tmp_path / "store").rglob("*.npz"))


def test_a_folder_that_is_gone_ends_the_recording_and_no_request(tmp_path: Path, model: Path) -> None:
    recordings = Recordings(tmp_path / "store", 10)
    kept = recordings.begin(ModelPackage.read(model), REQUEST)
    recording.remove(tmp_path / "store")
    kept.saw({"x": np.zeros(4, np.float32)})
    assert kept.samples() == []


def test_what_an_earlier_process_left_is_removed(tmp_path: Path) -> None:
    (tmp_path / "recorded" / "1").mkdir(parents=True)
    (tmp_path / "recorded" / "1" / "0.npz").write_bytes(b"left")
    Recordings(tmp_path, 10)
    assert os.listdir(tmp_path / "recorded") == []


def test_inputs_of_any_name_are_written_and_read(tmp_path: Path) -> None:
    arrays: Arrays = {"file": np.arange(3), "a/b:0": np.ones((2, 2), np.float32), "allow_pickle": np.array(1)}
    write_sample(tmp_path / "sample.npz", arrays)
    back = read_sample(tmp_path / "sample.npz")
    assert list(back) == list(arrays)
    for name, array in arrays.items():
        np.testing.assert_array_equal(back[name], array)


def test_an_embedded_accelerator_records_where_the_environment_says_so(
    model: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("EI_RECORD_REQUESTS", "6")
    place = Accelerator.embedded(threads=1, cache_dir=str(tmp_path))
    with EIPredictor(model, accelerator=place, load=LoadOptions(engine="openvino", proof="off")) as predict:
        assert any("inputs of up to 6 requests" in note for note in predict.report.notes)
        call(predict, 8)
        quick = LoadOptions(engine="openvino", precision="int8", proof="off")
        with EIPredictor(model, accelerator=place, load=quick) as by_calls:
            assert by_calls.report.precision == "int8"
