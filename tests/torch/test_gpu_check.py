"""The check for machines with a GPU runs to its end without one, small: no figure of it is looked at."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from elastic_inference.engines.torch.device import Cuda

pytest.importorskip("torchvision", reason="needs PyTorch and torchvision: make test-torch")

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.timeout(290)
def test_gpu_check_dry_run_breaks_no_row(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "benchmarks.gpu",
        "--device",
        "cpu:0",
        "--seconds",
        "1",
        "-o",
        str(tmp_path),
    ]
    paths = os.pathsep.join((str(ROOT / "src"), str(ROOT), os.environ.get("PYTHONPATH", "")))
    done = subprocess.run(
        [*command, "--rows", "device,start,graphs,faults", "--limit", "240"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        check=False,
        timeout=280,
    )
    lines = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()]
    assert done.returncode == 0, [line for line in lines if "error" in line.get("detail", {})]
    assert {line["row"] for line in lines[1:]} == {"device", "start", "graphs", "faults"}
    table = (tmp_path / "table.md").read_text()
    assert "the same process answers on: yes" in table
    assert len(table.splitlines()) == len(lines) - 1 + 2


def test_gpu_check_shows_a_row_that_breaks_and_goes_on(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks.gpu", "--device", "cuda:99", "-o", str(tmp_path)]
    done = subprocess.run(
        [*command, "--rows", "device,start", "--limit", "100"], cwd=ROOT, capture_output=True, check=False,
        timeout=200,
    )  # fmt: skip
    assert done.returncode == 1
    table = (tmp_path / "table.md").read_text()
    assert "BROKEN: ended with status 1" in table
    assert "this machine lists no device cuda:99" in table
    assert "row start" in table


def test_torch_script_out_of_cuda_memory_is_known_by_its_text() -> None:
    torch = pytest.importorskip("torch")
    device = Cuda.__new__(Cuda)  # whose constructor needs a GPU
    device._torch = torch
    assert device.is_out_of_memory(RuntimeError("CUDA out of memory. Tried to allocate 8.00 GiB."))
    assert not device.is_out_of_memory(RuntimeError("CUDA error: device-side assert triggered"))
