"""TensorFlow Serving's stubs and OpenVINO's client, unmodified, against an accelerator and `ei serve`.

`make test-clients` installs them: ovmsclient into an environment of its own (`.venv-ovms`), the stubs into a folder
(`.tensorflow-serving-api`), without the TensorFlow that they ask for: the tests have one.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from elastic_inference import EIPredictor
from elastic_inference.testing import start_accelerator, write_model
from tests.integration.serve_process import serving
from tests.integration.small_models import expected, write_saved_model

ROOT = Path(__file__).resolve().parents[2]
OVMS_PYTHON = ROOT / ".venv-ovms" / "bin" / "python"
STUBS = ROOT / ".tensorflow-serving-api"
PROGRAMS = Path(__file__).with_name("programs")
TENSOR = {"x": ("uint8", (None, None))}


def run(python: Path | str, program: str, *arguments: str, **variables: str) -> None:
    """Run a program of another maker's client, which prints what is wrong and fails."""
    done = subprocess.run(
        [str(python), str(PROGRAMS / program), *arguments],
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.parametrize("kind", ["grpc", "http"])
def test_openvinos_client(tmp_path: Path, kind: str) -> None:
    if not OVMS_PYTHON.exists():
        pytest.skip("needs .venv-ovms, which `make test-clients` makes")
    model = write_model(tmp_path / "echo.testing", TENSOR, TENSOR)
    with (  # it can send no token
        start_accelerator(token_sha256=None) as accelerator,
        EIPredictor(str(model), address=accelerator.address, name="echo"),
    ):
        run(OVMS_PYTHON, "ovms.py", kind, accelerator.address.removeprefix("tcp:"), "", "echo")


def test_the_stubs_of_tensorflow_serving(tmp_path: Path) -> None:
    if not STUBS.exists():
        pytest.skip("needs .tensorflow-serving-api, which `make test-clients` makes")
    pytest.importorskip("tensorflow")
    models = tmp_path / "models"
    variables = {"PYTHONPATH": str(STUBS), "TF_CPP_MIN_LOG_LEVEL": "3"}
    run(sys.executable, "write_example_models.py", str(models), **variables)
    x = np.array([[1, 2, 3, 4]], np.float32)
    answers = {}
    for version in (1, 2):
        write_saved_model(models / "linear" / str(version), version)
        answers[str(version)] = expected(version, "serving_default", x)["outputs"].tolist()
        answers[f"{version} shifted"] = expected(version, "shifted", x)["outputs"].tolist()
    (models / "linear" / "model.toml").write_text('versions = "all"\nlabels = {stable = 1, canary = 2}\n')
    (models / "broken").mkdir()
    (models / "broken" / "model.onnx").write_bytes(b"no model")
    (tmp_path / "expected.json").write_text(json.dumps(answers))
    with serving(models, "--tf-serving", "0,0", scratch=tmp_path) as served:
        address = served.endpoints["tensorflow-serving"]
        arguments = (address, str(tmp_path / "expected.json"), str(models))
        run(sys.executable, "tensorflow_serving_stubs.py", *arguments, **variables)
