"""The program that measures GPUs, on the CPU, where it does the same with smaller matrices."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

torch = pytest.importorskip("torch", reason="needs PyTorch: make test-torch")


def test_it_prints_figures_and_what_was_run() -> None:
    command = [sys.executable, "-m", "elastic_inference.host.gpu_benchmark", "cpu"]
    answer = json.loads(
        subprocess.run(command, capture_output=True, text=True, check=True, timeout=300).stdout
    )
    assert answer["tflops"].keys() == {"fp32", "tf32", "bf16"}
    assert all(0.0001 < figure < 1000 for figure in answer["tflops"].values())
    assert answer["source"] == f"PyTorch {torch.__version__} matrix product, 512 square"
