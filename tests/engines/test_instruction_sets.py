"""Engines where oneDNN is kept from instructions that the CPU has."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

PROGRAM = """
import sys
import numpy as np
from elastic_inference.engines import select
from elastic_inference.engines.base import EngineOptions
from elastic_inference.models.package import ModelPackage
from elastic_inference.models.signature import SignatureRequest
request = SignatureRequest(input_names={"image": "x:0"}, output_names={"p": "probabilities:0"})
model = select.load(ModelPackage.read(sys.argv[1]), request, EngineOptions("openvino", precision="fp32"))
size = [1 if size is None else size for size in model.signature.inputs["image"].shape]
chance = np.random.default_rng(0).random(size)
print(*model.predict({"image": chance.astype(np.float32)})["p"].ravel())
"""


def test_openvino_computes_in_fp32_within_avx2(models: Path) -> None:
    answers = [
        subprocess.run(
            [sys.executable, "-c", PROGRAM, str(models / "frozen.pb")],
            stdout=subprocess.PIPE, text=True, check=True, timeout=300, env=os.environ | limits,
        ).stdout
        for limits in ({}, {"ONEDNN_MAX_CPU_ISA": "AVX2"})
    ]  # fmt: skip
    free, capped = ([float(number) for number in answer.split()] for answer in answers)
    assert max(abs(a - b) for a, b in zip(free, capped, strict=True)) < 1e-5
