"""Every check recorded from TensorFlow's own predictor, wherever the model is computed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from elastic_inference import EIPredictor
from elastic_inference.testing import start_accelerator
from tests.oracle import FOLDER
from tests.oracle.recorded import DEVIATION, Case, findings, num_checks, read_cases

ROOT = Path(__file__).resolve().parents[2]
NO_TENSORFLOW = """import sys
for name in ("tensorflow", "keras", "tf_keras"):
    sys.modules[name] = None
"""


@pytest.fixture(scope="module")
def folder() -> Path:
    return FOLDER


@pytest.fixture(scope="module")
def cases(folder: Path) -> list[Case]:
    return read_cases(folder)


@pytest.fixture
def embedded(folder: Path, cases: list[Case]) -> Iterator[None]:
    """An embedded accelerator that stays while the cases come and go."""
    with EIPredictor(str(folder / "models" / cases[0]["model"])):
        yield


def all_findings(cases: list[Case], folder: Path, **arguments: Any) -> dict[str, list[str]]:
    def make(model: str, **constructor: Any) -> EIPredictor:
        return EIPredictor(model, **constructor, **arguments)

    found = {case["note"]: findings(case, folder, make) for case in cases}
    return {note: texts for note, texts in found.items() if texts}


def test_there_are_71_checks_in_33_cases(cases: list[Case]) -> None:
    assert (len(cases), num_checks(cases)) == (33, 71)
    assert sum(case["note"].startswith(DEVIATION) for case in cases) == 1


@pytest.mark.usefixtures("embedded")
def test_all_hold_on_the_embedded_accelerator(cases: list[Case], folder: Path) -> None:
    assert all_findings(cases, folder) == {}


def test_all_hold_on_one_accelerator_that_keeps_all_models(cases: list[Case], folder: Path) -> None:
    with start_accelerator() as accelerator:
        where = {"address": accelerator.address, "token": accelerator.token}
        assert all_findings(cases, folder, **where) == {}


@pytest.mark.usefixtures("embedded")
def test_all_hold_on_engine_tensorflow_of_an_accelerator(cases: list[Case], folder: Path) -> None:
    pytest.importorskip("tensorflow")
    assert all_findings(cases, folder, engine="tensorflow") == {}


def test_all_hold_in_this_process_on_tensorflow(cases: list[Case], folder: Path) -> None:
    pytest.importorskip("tensorflow")
    with EIPredictor(str(folder / "models" / cases[0]["model"]), use_ei=False) as predictor:
        assert predictor.report.engine == "tensorflow"
    assert all_findings(cases, folder, use_ei=False) == {}


@pytest.mark.parametrize("use_ei", [True, False], ids=["accelerator", "in process"])
def test_all_hold_where_tensorflow_is_not_installed(use_ei: bool, folder: Path, tmp_path: Path) -> None:
    # On both sides: the embedded accelerator inherits the path on which this file lies.
    (tmp_path / "sitecustomize.py").write_text(NO_TENSORFLOW)
    done = subprocess.run(
        [sys.executable, "-m", "tests.oracle.recorded", str(folder), json.dumps({"use_ei": use_ei})],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": f"{tmp_path}:{ROOT}:{ROOT}/src"},
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert {note: texts for note, texts in json.loads(done.stdout).items() if texts} == {}
