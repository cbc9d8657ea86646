"""`ei compile` on a small model with real engines: what it prints, what it keeps, what it refuses."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from elastic_inference import Accelerator, EIPredictor
from elastic_inference.cli import main
from elastic_inference.cli.exit_codes import ExitCode
from elastic_inference.models.artifacts.store import ArtifactStore

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """float32[N, 8] -> a product with weights, y."""
    weights = np.random.default_rng(0).normal(size=(8, 4)).astype(np.float32)
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["m"]), helper.make_node("Relu", ["m"], ["y"])],
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 4])],
        [numpy_helper.from_array(weights, "w")],
    )
    path = tmp_path_factory.mktemp("model") / "product.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), str(path))
    return path


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("samples")
    chance = np.random.default_rng(5)
    for index in range(6):
        np.save(folder / f"{index}.npy", chance.random((1, 8), np.float32))
    return folder


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Run:
    def run(*words: object) -> tuple[int, str, str]:
        code = main(["compile", *map(str, words), "--store", str(tmp_path / "kept")])
        return code, *capsys.readouterr()

    return run


def test_what_was_tried_and_taken_is_shown_and_the_next_load_takes_it(
    run: Run, model: Path, samples: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = run(model, "--calibration", samples, "--tolerance", 0.5)
    assert code == 0, err
    lines = out.splitlines()
    assert lines[0].split() == [
        "ENGINE",
        "PRECISION",
        "TIME",
        "ms",
        "x",
        "FP32",
        "AGREEMENT",
        "NOT",
        "TAKEN",
        "BECAUSE",
    ]
    assert [line.split()[:2] for line in lines[1:5]] == [
        ["openvino", "fp32"], ["onnxruntime", "fp32"], ["openvino", "bf16"], ["openvino", "int8"],
    ]  # fmt: skip
    assert "the reference" in lines[2]
    assert "2 held out, 4 to calibrate on" in out
    assert f"kept in {tmp_path / 'kept'}: precision='auto' takes it from now on" in out
    assert "fp32 on openvino: loading" in err
    taken = next(line for line in lines if line.startswith("taken")).split()[1]
    with EIPredictor(model, precision="auto", cache_dir=str(tmp_path / "kept")) as predictor:
        assert predictor.report.precision == taken
        assert f"{taken} on {predictor.report.engine} was taken" in predictor.report.notes[0]
        assert predictor({"x": np.ones((1, 8), np.float32)})["y"].shape == (1, 4)
    assert main(["model", "show", "product.onnx", "--store", str(tmp_path / "kept")]) == 0
    shown = capsys.readouterr().out
    assert "chosen: Engine auto, precision auto: " in shown
    assert "calibrated: int8 on 4 samples" in shown


def test_int8_without_samples_names_the_option(run: Run, model: Path) -> None:
    code, _, err = run(model, "--precision", "int8")
    assert code == ExitCode.BAD_INPUT
    assert "give --calibration" in err


def test_what_was_compiled_and_never_loaded_is_listed(
    run: Run, model: Path, samples: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, err = run(model, "--calibration", samples, "--tolerance", 0.5)
    assert code == 0, err
    assert main(["model", "list", "--store", str(tmp_path / "kept"), "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert (row["name"], row["format"]) == ("product.onnx", "onnx")
    assert row["compiled"]
    assert main(["model", "show", "product.onnx", "--store", str(tmp_path / "kept")]) == 0
    shown = capsys.readouterr().out
    assert "not here before its first load" in shown
    assert "chosen: " in shown
    publish = [
        "model",
        "publish",
        "product.onnx",
        "--to",
        str(tmp_path / "out"),
        "--store",
        str(tmp_path / "kept"),
    ]
    assert main(publish) == ExitCode.BAD_INPUT
    assert "load it once, then publish it" in capsys.readouterr().err
    place = Accelerator.embedded(threads=1, cache_dir=str(tmp_path / "kept"))
    with EIPredictor(model, accelerator=place, precision="auto") as predict:
        predict({"x": np.zeros((1, 8), np.float32)})
    assert main(["model", "show", "product.onnx", "--store", str(tmp_path / "kept"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["has_files"] is True
    assert main(["model", "remove", "product.onnx", "--store", str(tmp_path / "kept")]) == 0
    assert list((tmp_path / "kept" / "blobs").iterdir()) == []


def test_a_further_load_takes_the_choice_while_one_from_before_it_is_open(
    run: Run, model: Path, samples: Path, tmp_path: Path
) -> None:
    """As in a notebook whose report named the command: its accelerator has the model loaded as it was before."""
    (tmp_path / "kept").mkdir()
    place = Accelerator.embedded(threads=1, cache_dir=str(tmp_path / "kept"))
    x = np.ones((1, 8), np.float32)
    with EIPredictor(model, accelerator=place, precision="auto") as early:
        assert any("`ei compile MODEL" in note for note in early.report.notes)
        assert run(model, "--calibration", samples, "--tolerance", 0.5)[0] == 0
        with EIPredictor(model, accelerator=place, precision="auto") as late:
            assert late.report.accelerator_id == early.report.accelerator_id
            assert any(note.startswith("Engine auto, precision auto:") for note in late.report.notes)
            np.testing.assert_array_equal(early({"x": x})["y"], late({"x": x})["y"])


def test_json_has_everything_that_the_text_has(run: Run, model: Path, samples: Path, tmp_path: Path) -> None:
    code, out, _ = run(model, "--calibration", samples, "--precision", "fp32", "--json")
    value = json.loads(out)
    assert code == 0
    assert (value["precision"], value["wanted_precision"], value["kept_in"]) == (
        "fp32",
        "fp32",
        str(tmp_path / "kept"),
    )
    ours, reference = value["candidates"]
    assert (ours["engine"], reference["engine"]) == ("openvino", "onnxruntime")
    assert ours["proof"]["verdict"] == "agrees"
    assert ours["proof"]["kind"] == "relative"
    assert ours["seconds"] > 0
    assert value["shapes"] == {"x": [1, 8]}


def test_named_precision_that_does_not_agree_is_refused(
    run: Run, model: Path, samples: Path, tmp_path: Path
) -> None:
    code, out, _ = run(model, "--calibration", samples, "--precision", "int8", "--tolerance", 1e-7)
    assert code == 7
    assert "precision int8 does not agree: nothing was kept" in out
    assert not ArtifactStore.at(tmp_path / "kept").artifacts()


def test_without_samples_the_engine_is_chosen_and_the_precision_stays(run: Run, model: Path) -> None:
    code, out, _ = run(model, "--shape", "x=float32:3,8", "--json")
    value = json.loads(out)
    assert (code, value["precision"], value["num_held_out"]) == (0, "fp32", 0)
    assert value["shapes"] == {"x": [3, 8]}
    assert "no samples were given" in value["reason"]


def test_store_that_cannot_be_written(
    model: Path, samples: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    code = main(["compile", str(model), "--calibration", str(samples), "--store", str(tmp_path / "file")])
    assert code == 2
    assert f"the store {tmp_path / 'file'} cannot be made" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (["--calibration", "EMPTY"], 2, "has no photos"),
        (["--calibration", "nowhere"], 2, "calibration nowhere: no such file or folder"),
        (["--calibration", "WRONG"], 2, "shape [1, 9], and input 'x' takes [?, 8]"),
        (["--calibration", "SAMPLES", "--tolerance", "0"], 2, "tolerance 0.0 must be above 0"),
        (["--calibration", "SAMPLES", "--judge-by", "boxes"], 2, "'boxes' is not one of numbers, classes"),
        (["--calibration", "SAMPLES", "--judge-by", "detections"], 2, "the outputs y are no objects"),
        (["--calibration", "SAMPLES", "--pixels", "yuv"], 2, "pixels 'yuv' is not one of"),
        (["--calibration", "SAMPLES", "--engine", "torch"], 2, "engine torch reads"),
        (["--calibration", "SAMPLES", "--engine", "abacus"], 2, "engine 'abacus' is not one of"),
        (["--calibration", "SAMPLES", "--precision", "int4"], 2, "precision 'int4' is not one of"),
        (
            ["--calibration", "SAMPLES", "--precision", "bf16", "--engine", "onnxruntime"],
            2,
            "does not support precision",
        ),
        (["--pixels", "unit"], 2, "without --calibration there are none"),
        (["--shape", "1,x"], 2, "shape '1,x' is not sizes"),
        (["--shape", "0,8"], 2, "needs numbers and sizes of 1 or more"),
        (["--shape", "z=1,8"], 2, "--shape names z, and the inputs are x"),
        (["--shape", "uint8:1,8"], 2, "shape 'uint8:1,8' is uint8, and input 'x' takes float32"),
        (["--shape", "1,8", "--shape", "x=2,8"], 2, "--shape is given twice for input x"),
        (["--input", "image"], 2, "are not ALIAS=TENSOR"),
    ],
)
def test_bad_input(
    run: Run, model: Path, samples: Path, tmp_path: Path, words: list[str], code: int, text: str
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "wrong").mkdir()
    np.save(tmp_path / "wrong" / "a.npy", np.zeros((1, 9), np.float32))
    places: dict[str, Any] = {"EMPTY": tmp_path / "empty", "WRONG": tmp_path / "wrong", "SAMPLES": samples}
    got, out, err = run(model, *[places.get(word, word) for word in words])
    assert (got, out) == (code, "")
    assert text in err


def test_no_model(run: Run, tmp_path: Path) -> None:
    code, _, err = run(tmp_path / "none.onnx")
    assert code == 6
    assert "no file or directory" in err
