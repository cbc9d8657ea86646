"""How fast a GPU computes, by a real benchmark: run as a program of its own, so that the host loads no engine.

    CUDA_VISIBLE_DEVICES=GPU-... python -m elastic_inference.host.gpu_benchmark cuda:0

It prints one JSON line: {"tflops": {"fp32": 51.3, "tf32": ..., "bf16": ...}, "source": what was run}. PyTorch's product
of square matrices, which is what such devices are rated by; the best of the repetitions counts, since a neighbour can
make a run slower, never faster. `cpu` in place of the device shows that the program works where no GPU is.
"""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections.abc import Callable
from typing import Any

_SIDE = 8192  # 256 MiB a matrix in fp32: large enough that an H200's bf16 runs some ms
_CPU_SIDE = 512
_REPETITIONS = 10
_PRECISIONS = ("fp32", "tf32", "bf16")


def main(arguments: list[str]) -> None:
    """Measure and print."""
    import torch

    device = arguments[0]
    side = _CPU_SIDE if device == "cpu" else _SIDE
    answer = {
        "tflops": {name: _tflops(torch, device, name, side) for name in _PRECISIONS},
        "source": f"PyTorch {torch.__version__} matrix product, {side} square",
    }
    print(json.dumps(answer), flush=True)


def _tflops(torch: Any, device: str, precision: str, side: int) -> float:
    torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    matrix = torch.randn((side, side), device=device).to(dtype)  # zeros would be quicker
    wait: Callable[[], Any] = torch.cuda.synchronize if device != "cpu" else contextlib.nullcontext
    seconds = min(_seconds(lambda: matrix @ matrix, wait) for _ in range(_REPETITIONS))
    return float(f"{2 * side**3 / seconds / 1e12:.4g}")


def _seconds(run: Callable[[], Any], wait: Callable[[], Any]) -> float:
    wait()
    start = time.perf_counter()
    run()
    wait()
    return time.perf_counter() - start


if __name__ == "__main__":
    main(sys.argv[1:])
