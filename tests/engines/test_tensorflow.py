"""The TensorFlow engine beyond its answers: threads, devices, quiet imports, errors, what it hands out."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from elastic_inference.engines.quiet import quiet_stderr
from elastic_inference.errors import (
    EngineNotAvailable,
    InvalidArgumentError,
    InvalidInput,
    InvalidModel,
    UnsupportedModel,
)
from elastic_inference.models.signature import SignatureRequest
from tests.engines.build import images
from tests.engines.conftest import Load
from tests.oracle import MODELS

pytest.importorskip("tensorflow")


def test_report(models: Path, load: Load) -> None:
    report = load(models / "tf2", engine="tensorflow", num_threads=1).report
    assert (report.engine, report.device, report.precision, report.num_threads, report.notes) == (
        "tensorflow", "cpu:0", "fp32", 1, ()
    )  # fmt: skip
    assert report.load_seconds > 0


@pytest.mark.parametrize("precision", ["bf16", "int8"])
def test_less_than_float32_is_not_promised(models: Path, load: Load, precision: str) -> None:
    with pytest.raises(InvalidInput, match=precision):
        load(models / "tf2", engine="tensorflow", precision=precision)


def test_no_gpu_means_an_error_not_the_cpu(models: Path, load: Load) -> None:
    with pytest.raises(EngineNotAvailable, match="cuda:0"):
        load(models / "tf2", engine="tensorflow", device="cuda:0")


def test_threads_get_their_own_answers(models: Path, load: Load) -> None:
    model = load(models / "tf2", engine="tensorflow")
    with ThreadPoolExecutor(8) as pool:
        xs = [np.full((1 + n % 3, 2), n, np.float32) for n in range(64)]
        for x, outputs in zip(xs, pool.map(lambda x: model.predict({"x": x}), xs), strict=True):
            np.testing.assert_allclose(outputs["y"], x @ [[1, 2], [3, 4]] + [0.5, -0.5], rtol=1e-6)


def test_two_models_of_one_process_have_their_own_variables(models: Path, load: Load) -> None:
    small = load(models / "tf1", engine="tensorflow")
    large = load(models / "tf1", SignatureRequest(tags="serve,large"), engine="tensorflow")
    x = np.array([[1, 1]], np.float32)
    for _ in range(3):
        np.testing.assert_allclose(small.predict({"x": x})["y"], [[4, 2]])
        np.testing.assert_allclose(large.predict({"x": x})["y"], [[31, 29]])


def test_string_outputs_are_arrays_of_bytes(load: Load) -> None:
    model = load(MODELS / "dtypes", SignatureRequest("str"), engine="tensorflow")
    given = np.array([[b"a", b"\x00\xff"]], dtype=object)
    result = model.predict({"a": given})["b"]
    given[0, 0] = b"changed"
    assert result.tolist() == [[b"a", b"\x00\xff"]]


def test_shape_that_the_model_does_not_take(models: Path, load: Load) -> None:
    model = load(models / "frozen.pb", engine="tensorflow")
    with pytest.raises(InvalidArgumentError):
        model.predict({"x": images(1)[:, :5]})


def test_unknown_operation(models: Path, load: Load, tmp_path: Path) -> None:
    path = tmp_path / "unknown.pb"
    path.write_bytes((models / "frozen.pb").read_bytes().replace(b"MaxPool", b"MinPool"))
    with pytest.raises(UnsupportedModel, match="MinPool"):
        load(path, engine="tensorflow", allow_unsafe_operations=True)


def test_variables_cut_short(models: Path, load: Load, tmp_path: Path) -> None:
    for source in (models / "tf1").rglob("*"):
        if source.is_file():
            target = tmp_path / source.relative_to(models / "tf1")
            target.parent.mkdir(exist_ok=True)
            target.write_bytes(source.read_bytes()[: 5 if "data" in source.name else None])
    with pytest.raises(InvalidModel):
        load(tmp_path, engine="tensorflow")


def test_import_prints_nothing(models: Path) -> None:
    code = """
import sys
from elastic_inference.engines.base import EngineOptions
from elastic_inference.engines.select import load
from elastic_inference.models.package import ModelPackage
from elastic_inference.models.signature import SignatureRequest

load(ModelPackage.read(sys.argv[1]), SignatureRequest(), EngineOptions(engine="tensorflow"))
print("loaded")
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(models / "tf2")],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    assert (done.stdout, done.stderr) == ("loaded\n", "")


def test_quiet_stderr_passes_on_what_is_no_greeting(capfd: pytest.CaptureFixture[str]) -> None:
    import os

    with quiet_stderr():
        os.write(
            2, b"I0000 00:00:1.2 3 port.cc:153] oneDNN custom operations are on.\nsomething went wrong\n"
        )
    assert capfd.readouterr().err == "something went wrong\n"
