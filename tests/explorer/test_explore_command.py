"""`ei explore --model` as a user runs it: real engine, real processes; ended by Ctrl-C and taken up again."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np

from tests.oracle import MODELS


def arguments(output: Path) -> list[str]:
    model = MODELS / "scalar"
    inputs = output.parent / "inputs.npz"
    np.savez(inputs, a=np.float32(2), b=np.ones(3, np.float32))
    return [
        sys.executable, "-c", "import sys; from elastic_inference.cli import main; sys.exit(main())",
        "explore", "--model", str(model), "--input", str(inputs), "--clients", "cores=1,2", "--exhaustive",
        "--repeats", "1", "--engine", "openvino", "--no-curves", "--cell-time", "2s", "-o", str(output),
    ]  # fmt: skip


def journal(output: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (output / "journal.jsonl").read_text().splitlines()[1:]]


def test_interrupted_by_ctrl_c_and_taken_up_again(tmp_path: Path) -> None:
    output = tmp_path / "report"
    process = subprocess.Popen(
        arguments(output), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    assert process.stderr is not None
    for line in process.stderr:
        if "measuring cores=2" in line:
            process.send_signal(signal.SIGINT)
            break
    _, rest = process.communicate(timeout=120)
    assert process.returncode == 130, rest
    assert rest.splitlines()[-1].startswith("interrupted; the measurements so far are in ")
    kept = journal(output)
    assert [run["cell"] for run in kept] == [{"client": "cores=1", "accelerator": None, "precision": "fp32"}]
    assert "undecided" in (output / "report.html").read_text()

    again = subprocess.run(arguments(output), capture_output=True, text=True, timeout=200)
    assert again.returncode == 0, again.stderr
    assert "measuring cores=1" not in again.stderr
    assert "is the cheapest combination" in again.stdout
    assert journal(output)[0] == kept[0]
    assert len(journal(output)) == 2
