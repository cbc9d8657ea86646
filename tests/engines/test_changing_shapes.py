"""Memory that an engine keeps for input shapes seen before has an end."""

from __future__ import annotations

import subprocess
import sys

# A fresh process, because memory that an earlier test freed would hide what this one keeps.
PROGRAM = """
import numpy as np, openvino as ov, psutil
from openvino import opset8 as ops
from elastic_inference.engines.base import EngineOptions
from elastic_inference.engines.openvino.compile import _properties, core

rng = np.random.default_rng(0)
x = y = ops.parameter([-1, 3, -1, -1], np.float32, name="x")
for channels in ((3, 32), (32, 32)):
    weights = ops.constant(rng.random((channels[1], channels[0], 3, 3), np.float32))
    y = ops.relu(ops.convolution(y, weights, [1, 1], [1, 1], [1, 1], [1, 1]))
compiled = core().compile_model(ov.Model([y], [x]), "CPU", _properties(EngineOptions(num_threads=1)))
request = compiled.create_infer_request()
for number in range(600):
    height, width = (int(value) for value in rng.integers(16, 100, 2))
    request.infer({0: np.zeros((1, 3, height, width), np.float32)})
    if number in (300, 599):
        print(psutil.Process().memory_info().rss >> 20)
"""


def test_openvino_forgets_shapes_seen_long_ago() -> None:
    """With OpenVINO's own bound of 5,000 this grew by 62 MiB."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=200, check=True
    )
    before, after = map(int, done.stdout.split())
    assert after - before < 25
