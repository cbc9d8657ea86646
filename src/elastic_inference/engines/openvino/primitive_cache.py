"""How many compiled primitives oneDNN, with which OpenVINO computes, keeps for all models of the process together.

OpenVINO has no property for it, and oneDNN's own number is 1,024, of nearly 1 MiB of address space each, which is what
RLIMIT_DATA counts. oneDNN reads its variable once, at its first primitive, so it is set for that time alone: PyTorch
and TensorFlow have copies of oneDNN that read the same name.
"""

from __future__ import annotations

import numpy as np
import openvino as ov
from openvino import opset8

from elastic_inference import settings

ENTRIES = 50
"""As many as OpenVINO itself keeps of what it makes of them (`compile.RUNTIME_CACHE_ENTRIES`)."""


def bound(core: ov.Core) -> None:
    """Compile a convolution, so that oneDNN reads the number; one that the user has set stays."""
    setting = settings.ONEDNN_PRIMITIVE_CACHE_CAPACITY
    if setting.get() is None:
        with settings.variable(setting.name, str(ENTRIES)):
            _compile_small_model(core)


def _compile_small_model(core: ov.Core) -> None:
    x = opset8.parameter([1, 8, 1, 1], np.float32)
    weights = opset8.constant(np.ones((8, 8, 1, 1), np.float32))
    y = opset8.convolution(x, weights, [1, 1], [0, 0], [0, 0], [1, 1])
    properties = {
        "INFERENCE_NUM_THREADS": 1,
        "NUM_STREAMS": 1,
        "ENABLE_CPU_PINNING": False,
        # By itself OpenVINO takes what the CPU has, also where ONEDNN_MAX_CPU_ISA keeps oneDNN from it, and then fails.
        "INFERENCE_PRECISION_HINT": "f32",
    }
    core.compile_model(ov.Model([y], [x]), "CPU", properties)
