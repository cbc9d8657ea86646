"""Eight models of one architecture, three signatures each: no caller ever gets another model's results."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from elastic_inference import EIPredictor
from elastic_inference.testing import RunningAccelerator, start_accelerator
from tests.integration.many_models import check_calls
from tests.integration.small_models import NUM_INPUTS, SIGNATURES, expected, write_saved_model

NUM_MODELS, NUM_THREADS = 8, 16
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    for seed in range(NUM_MODELS):
        write_saved_model(folder / str(seed), seed)
    return folder


@pytest.fixture(scope="module")
def accelerator() -> Iterator[RunningAccelerator]:
    with start_accelerator() as running:
        yield running


def test_16_threads_of_one_process(folder: Path) -> None:
    with contextlib.ExitStack() as stack:
        predictors = {
            (seed, key): stack.enter_context(EIPredictor(folder / str(seed), key))
            for seed in range(NUM_MODELS)
            for key in SIGNATURES
        }
        assert len({p.report.accelerator_id for p in predictors.values()}) == 1
        num_checked, wrong = check_calls(predictors, NUM_THREADS, 4000, seed=1)
    assert wrong == []
    assert num_checked == 4000


def test_several_processes_on_one_accelerator(folder: Path, accelerator: RunningAccelerator) -> None:
    processes = [
        subprocess.Popen(
            [
                *(sys.executable, "-m", "tests.integration.many_models", str(folder)),
                *(str(NUM_MODELS), "8", "1200", str(seed), accelerator.address, accelerator.token),
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        for seed in range(3)
    ]
    for process in processes:
        printed, errors = process.communicate(timeout=60)
        assert (process.returncode, printed.strip()) == (0, "1200"), errors


def test_models_in_one_process_without_an_accelerator(folder: Path) -> None:
    with contextlib.ExitStack() as stack:
        predictors = {
            (seed, "both"): stack.enter_context(
                EIPredictor(folder / str(seed), "both", use_ei=False, engine="openvino")
            )
            for seed in range(NUM_MODELS)
        }
        num_checked, wrong = check_calls(predictors, NUM_THREADS, 1600, seed=2)
    assert wrong == []
    assert num_checked == 1600


def test_a_model_replaced_at_its_path_is_another_model(
    tmp_path: Path, accelerator: RunningAccelerator
) -> None:
    where = {"address": accelerator.address, "token": accelerator.token}
    path = write_saved_model(tmp_path / "model", 21)
    x = np.ones((2, NUM_INPUTS), np.float32)
    with EIPredictor(path, **where) as before:
        write_saved_model(tmp_path / "other", 22).joinpath("saved_model.pb").replace(path / "saved_model.pb")
        with EIPredictor(path, **where) as after:
            for predictor, seed in ((before, 21), (after, 22), (before, 21)):
                wanted = expected(seed, "serving_default", x)["outputs"]
                np.testing.assert_allclose(predictor({"x": x})["outputs"], wanted, rtol=1e-4, atol=1e-5)
