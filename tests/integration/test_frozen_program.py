"""A program that PyInstaller froze: what it takes for its accelerator's Python, and that it never starts itself."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.small_models import write_saved_model

pytest.importorskip("PyInstaller")
pytestmark = pytest.mark.timeout(600)
BUILD_SECONDS = 500
SOURCE = Path(__file__).parents[2] / "src"
PROGRAM = """
import os, sys
with open(os.environ["STARTS"], "a") as starts:
    starts.write("x")
from elastic_inference import EIPredictor
from elastic_inference.errors import ElasticInferenceError
try:
    with EIPredictor(sys.argv[1]) as predictor:
        print("answer", predictor({"x": [[0.0, 0.0, 0.0, 0.0]]})["outputs"].tolist())
except ElasticInferenceError as error:
    print(type(error).__name__, error)
"""
# The client needs numpy alone; PyInstaller would pack whatever a module of ours may import.
NOT_PACKED = (
    "openvino", "tensorflow", "torch", "onnxruntime", "ai_edge_litert", "keras", "h5py", "scipy", "matplotlib", "cv2",
    "av", "IPython", "sqlalchemy", "fastapi", "pydantic", "PIL", "google", "psutil", "cryptography", "pandas", "rich",
    "typer", "gevent", "setuptools", "tkinter",
)  # fmt: skip


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The frozen program; built once, in some 15 s."""
    folder = tmp_path_factory.mktemp("frozen")
    (folder / "frozen.py").write_text(PROGRAM)
    command = [sys.executable, "-m", "PyInstaller", "--log-level", "ERROR", "--paths", str(SOURCE)]
    command += [word for name in NOT_PACKED for word in ("--exclude-module", name)]
    done = subprocess.run(
        [*command, "frozen.py"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=BUILD_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return folder / "dist/frozen/frozen"


def run(program: Path, folder: Path, **variables: str) -> tuple[str, int]:
    """What it printed, and how often it was started."""
    model, starts = write_saved_model(folder / "model", seed=1), folder / "starts"
    kept = {name: value for name, value in os.environ.items() if name not in ("EI_PYTHON", "EI_EMBEDDED")}
    done = subprocess.run(
        [str(program), str(model)], capture_output=True, text=True, timeout=120, check=False,
        env={**kept, "STARTS": str(starts), **variables},
    )  # fmt: skip
    return done.stdout.strip() or done.stderr[-2000:], len(starts.read_text())


def test_with_ei_python_it_computes(program: Path, tmp_path: Path) -> None:
    assert run(program, tmp_path, EI_PYTHON=sys.executable) == ("answer [[0.0, 0.0, 0.0]]", 1)


def test_without_a_python_it_says_what_to_set_and_starts_once(program: Path, tmp_path: Path) -> None:
    text, starts = run(program, tmp_path)
    assert text.startswith("EngineNotAvailable")
    assert "set EI_PYTHON to the Python that has elastic-inference[host]" in text
    assert starts == 1
