"""The example notebook runs from top to bottom, and its two predictor cells differ in `use_ei` alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.shared import shared_path
from tests.video.clips import read_all

NOTEBOOK = Path(__file__).resolve().parents[1] / "examples" / "video_object_detection.ipynb"
# In a process of its own: kernels, and the sockets to them, warn in ways that are none of ours.
RUN = """
import sys, nbformat
from nbclient import NotebookClient
notebook = nbformat.read(sys.argv[1], as_version=4)
NotebookClient(notebook, timeout=240, kernel_name="python3").execute()
nbformat.write(notebook, sys.argv[2])
"""


def _cells() -> list[dict[str, Any]]:
    cells: list[dict[str, Any]] = json.loads(NOTEBOOK.read_text())["cells"]
    return cells


def test_the_predictor_cells_differ_in_use_ei_alone() -> None:
    sources = ["".join(cell["source"]) for cell in _cells()]
    without, with_ei = (source for source in sources if "EIPredictor(" in source)
    assert without != with_ei
    assert without.replace("use_ei=False", "use_ei=True") == with_ei


def test_no_outputs_are_committed() -> None:
    code = [cell for cell in _cells() if cell["cell_type"] == "code"]
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code)


def test_the_notebook_runs(tmp_path: Path) -> None:
    pytest.importorskip("nbclient", reason="needs nbclient and ipykernel to execute the notebook")
    environment = os.environ | {
        "EI_NOTEBOOK_FRAMES": "4",
        "EI_NOTEBOOK_MODEL": str(shared_path("assets/models/ssd_mobilenet_v2_coco_2018_03_29.pb")),
    }
    done = subprocess.run(
        [sys.executable, "-c", RUN, str(NOTEBOOK), "done.ipynb"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stderr
    outputs = [output for cell in json.loads((tmp_path / "done.ipynb").read_text())["cells"]
               for output in cell.get("outputs", [])]  # fmt: skip
    text = "".join("".join(output.get("text", [])) for output in outputs)
    kinds = {kind for output in outputs for kind in output.get("data", {})}
    assert text.count("number of frames        4") == 2
    assert "num_unmatched=0" in text
    assert "m5.large + eia1.large" in text
    assert {"text/html", "image/png"} <= kinds  # the video and the plot
    assert len(read_all(tmp_path / "annotated_notebook.mp4")[0]) == 4
