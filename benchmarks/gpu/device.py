"""Which device it is, how fast bare PyTorch multiplies on it, and which types a host offers of it."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator

import torch

from benchmarks.common import Row
from benchmarks.gpu.setting import Setting, gpu_host
from elastic_inference.host.devices import list_devices

REPEATS = 10


def rows(setting: Setting) -> Iterator[Row]:
    """Device, TFLOPS, types."""
    device = next((one for one in list_devices() if one.name == setting.device), None)
    if device is None:
        raise SystemExit(f"this machine lists no device {setting.device}")
    driver = _driver(setting)
    yield Row(
        "device, as the host lists it",
        f"{device.model}, {device.memory_bytes / 2**30:.0f} GiB, {device.uuid or 'no UUID'}",
        f"driver {driver}, torch {torch.__version__}, CUDA {torch.version.cuda}",
        None,
        detail={"host_tflops": device.tflops, "host_tflops_source": device.tflops_source},
    )
    side = 512 if setting.is_small else 8192
    figures = {name: _tflops(setting, name, side) for name in ("fp32", "tf32", "bf16")}
    yield Row(
        f"TFLOPS of bare torch's product of {side} x {side} matrices",
        ", ".join(f"{name} {figure:.3g}" for name, figure in figures.items()),
        f"median of {REPEATS}; the host's own: {device.tflops or 'measured nothing'}",
        None,
        detail=figures,
    )
    with gpu_host(setting) as host:
        types = host.session.request("GET", "/v1/types")
        status = host.status
    offered = ", ".join(f"{one['name']} {one.get('num_available', '')}".strip() for one in types)
    yield Row("types offered, and how many fit", offered, "", None, detail={"types": types, "status": status})


def _driver(setting: Setting) -> str:
    if setting.is_small:
        return "none"
    import pynvml

    pynvml.nvmlInit()
    return str(pynvml.nvmlSystemGetDriverVersion())


def _tflops(setting: Setting, name: str, side: int) -> float:
    """Random values, for zeros are multiplied faster."""
    torch.backends.cuda.matmul.allow_tf32 = name == "tf32"
    dtype = torch.bfloat16 if name == "bf16" else torch.float32
    a, b = (torch.randn(side, side, device=setting.torch_device).to(dtype) for _ in range(2))
    taken = []
    for number in range(REPEATS + 3):
        started = time.perf_counter()
        a @ b
        if not setting.is_small:
            torch.cuda.synchronize()
        if number >= 3:
            taken.append(time.perf_counter() - started)
    return 2 * side**3 / statistics.median(taken) / 1e12
