"""How fast the CPU computes, by a real benchmark: run as a program of its own, so that the host loads no engine.

    python -m elastic_inference.host.devices_benchmark NUM_THREADS

It prints one JSON line: {"tflops": {"fp32": 0.21, ...}, "source": what was run, "disturbed": whether other
work held cores during even the best repetition, so that the figure is too low}. With OpenVINO a chain of
convolutions (3x3, 256 to 256 channels, 28x28), as in the models that such devices serve; without it numpy's
float32 product of matrices. The best of the repetitions counts: a neighbour can make a run slower, never
faster.
"""

from __future__ import annotations

import functools
import json
import math
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

# So small that a run takes a few ms: on a busy machine some still find all cores free.
_SIDE, _CHANNELS, _LAYERS = 28, 256, 2
_CONVOLUTION_FLOP = 2 * _LAYERS * _SIDE**2 * _CHANNELS**2 * 9
_MATRIX_SIDE = 2048
_MEASURE_SECONDS = 1.5
_PATIENCE_SECONDS = 6.0
_MIN_REPETITIONS = 3
_UNDISTURBED_SHARE = 0.85

# Our name, what OpenVINO calls the capability, its hint, and the precision that the convolution must then
# report.
_PRECISIONS = (
    ("fp32", "FP32", "f32", "f32"),
    ("bf16", "BF16", "bf16", "bf16"),
    ("int8", "INT8", "f32", "u8"),
)


@dataclass(frozen=True)
class Figure:
    """A measured speed, and whether the cores were not ours during even the best repetition."""

    tflops: float
    is_disturbed: bool


def main(arguments: list[str]) -> None:
    """Measure and print."""
    num_threads = int(arguments[0])
    try:
        import openvino
    except ImportError:
        figures = measure_numpy(num_threads)
        source = f"numpy {np.__version__} matrix product, {_MATRIX_SIDE} square"
    else:
        figures = measure_openvino(num_threads)
        source = f"OpenVINO {openvino.__version__.split('-')[0]} convolutions, {num_threads} threads"
    answer = {
        "tflops": {name: figure.tflops for name, figure in figures.items()},
        "source": source,
        "disturbed": any(figure.is_disturbed for figure in figures.values()),
    }
    print(json.dumps(answer), flush=True)


def measure_openvino(num_threads: int) -> dict[str, Figure]:
    """Speeds by precision; a precision that the CPU does not have, or OpenVINO did not use, is left out."""
    import openvino as ov

    core = ov.Core()
    capabilities = core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    found: dict[str, Figure] = {}
    for name, capability, hint, executed in _PRECISIONS:
        if capability not in capabilities:
            continue
        settings = {
            "INFERENCE_NUM_THREADS": num_threads,
            "NUM_STREAMS": 1,
            "ENABLE_CPU_PINNING": False,
            "INFERENCE_PRECISION_HINT": hint,
        }
        compiled = core.compile_model(_convolutions(quantized=name == "int8"), "CPU", settings)
        if executed not in _executed_precisions(compiled):
            continue
        request = compiled.create_infer_request()
        image = np.random.default_rng(0).random((1, _CHANNELS, _SIDE, _SIDE), np.float32)
        found[name] = _best(functools.partial(request.infer, [image]), _CONVOLUTION_FLOP, num_threads)
    return found


def measure_numpy(num_threads: int) -> dict[str, Figure]:
    """Return the speed of a float32 matrix product, on as many threads as numpy takes."""
    matrix = np.random.default_rng(0).random((_MATRIX_SIDE, _MATRIX_SIDE), np.float32)
    return {"fp32": _best(lambda: matrix @ matrix, 2 * _MATRIX_SIDE**3, num_threads)}


def _best(run: Callable[[], Any], flop: int, num_threads: int) -> Figure:
    """Return the fastest repetition; goes on for a while where all were disturbed."""
    run()
    fastest_seconds, is_disturbed, repetitions = math.inf, True, 0
    began = time.perf_counter()
    while True:
        cpu_began, start = time.process_time(), time.perf_counter()
        run()
        seconds = time.perf_counter() - start
        if seconds < fastest_seconds:
            cpu_seconds = time.process_time() - cpu_began
            fastest_seconds = seconds
            is_disturbed = cpu_seconds < _UNDISTURBED_SHARE * num_threads * seconds
        repetitions += 1
        elapsed_seconds = start + seconds - began
        enough_seconds = _PATIENCE_SECONDS if is_disturbed else _MEASURE_SECONDS
        if elapsed_seconds > enough_seconds and repetitions >= _MIN_REPETITIONS:
            return Figure(round(flop / fastest_seconds / 1e12, 4), is_disturbed)


def _convolutions(quantized: bool) -> Any:
    import openvino as ov
    from openvino import opset13 as ops

    random = np.random.default_rng(0)
    data = ops.parameter([1, _CHANNELS, _SIDE, _SIDE], np.float32)
    node = data
    for _ in range(_LAYERS):
        # Scaled so that values neither grow nor vanish: denormal numbers would be slow.
        weights = random.standard_normal((_CHANNELS, _CHANNELS, 3, 3)).astype(np.float32) / 34
        kernel = ops.constant(weights)
        if quantized:
            bound = float(np.abs(weights).max())
            node = ops.fake_quantize(node, *_scalars(ops, 0.0, 4.0), levels=256)
            kernel = ops.fake_quantize(kernel, *_scalars(ops, -bound, bound), levels=255)
        node = ops.relu(ops.convolution(node, kernel, [1, 1], [1, 1], [1, 1], [1, 1]))
    return ov.Model([node], [data])


def _scalars(ops: Any, low: float, high: float) -> list[Any]:
    """Input and output range of a quantization: the same."""
    return [ops.constant(np.float32(value)) for value in (low, high, low, high)]


def _executed_precisions(compiled: Any) -> set[str]:
    """Return the precisions in which the convolutions really run, as OpenVINO tells them."""
    found = set()
    for operation in compiled.get_runtime_model().get_ordered_ops():
        info = operation.get_rt_info()
        if "layerType" in info and "Convolution" in str(info["layerType"].astype(str)):
            found.add(str(info["runtimePrecision"].astype(str)).lower())
    return found


if __name__ == "__main__":
    main(sys.argv[1:])
