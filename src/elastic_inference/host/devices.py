"""The devices of this machine: the CPU as far as this process may use it, and NVIDIA GPUs (see `gpus`).

Their TFLOPS are measured once (`devices_benchmark`, `gpu_benchmark`) and kept in a file; those of a GPU only where
PyTorch is installed.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
import json
import math
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from elastic_inference.host.gpus import Gpu, list_gpus
from elastic_inference.limits.machine import usable_cores, usable_memory_bytes
from elastic_inference.settings import cache_dir, with_variables

_BENCHMARK_VERSION = 1
_BENCHMARK_TIMEOUT_SECONDS = 120.0


@dataclass(frozen=True)
class Device:
    """One device of a machine.

    Attributes:
        name: `cpu:0`, `cuda:0`, or `cuda:0:1` for a MIG instance.
        kind: "cpu" or "cuda".
        model: What the maker calls it.
        num_cores: CPU cores that its accelerators may use together; not whole under a quota.
        memory_bytes: All of it, as far as this process may use it.
        tflops: Measured, by precision ("fp32", "tf32", "bf16", "int8"); precisions that it does not have are absent,
            and all are where nothing was measured.
        tflops_source: What was run to measure; "" where nothing was.
        uuid: Of a GPU or MIG instance, by which its accelerators find it; "" for a CPU.
    """

    name: str
    kind: str
    model: str
    num_cores: float
    memory_bytes: int
    tflops: dict[str, float] = field(default_factory=dict)
    tflops_source: str = ""
    uuid: str = ""


def default_cache_path() -> Path:
    """Where measured TFLOPS are kept when nobody says otherwise."""
    return cache_dir() / "devices.json"


def list_devices(cache_path: Path | None = None, *, measure: bool = True) -> tuple[Device, ...]:
    """All devices, the CPU first.

    Args:
        cache_path: File that keeps measured TFLOPS; None: in the user's cache folder. A file that cannot be
            read is measured anew, one that cannot be written is not.
        measure: Whether to run the benchmark where nothing is kept; it takes some seconds of all cores.
    """
    cores = usable_cores()
    path = cache_path or default_cache_path()
    program = ("elastic_inference.host.devices_benchmark", str(max(1, math.floor(cores))))
    tflops, source = _tflops(path, cache_key(cores), program, {}, measure)
    cpu = Device("cpu:0", "cpu", cpu_model(), cores, usable_memory_bytes(), tflops, source)
    return (cpu, *(_gpu(gpu, path, cores, measure) for gpu in list_gpus()))


def _gpu(gpu: Gpu, path: Path, cores: float, measure: bool) -> Device:
    if importlib.util.find_spec("torch") is None:
        tflops: dict[str, float] = {}
        source = "not measured: PyTorch is not installed here"
    else:
        key = f"{gpu.model} | {gpu.uuid} | PyTorch {_version_of('torch')} | {_BENCHMARK_VERSION}"
        program = ("elastic_inference.host.gpu_benchmark", "cuda:0")
        tflops, source = _tflops(path, key, program, {"CUDA_VISIBLE_DEVICES": gpu.uuid}, measure)
    return Device(gpu.name, "cuda", gpu.model, cores, gpu.memory_bytes, tflops, source, gpu.uuid)


def cpu_model(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """Return the CPU's name; "unknown CPU" where the machine does not say."""
    with contextlib.suppress(OSError):
        for line in cpuinfo.read_text().splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name":
                return value.strip()
    return "unknown CPU"


def cache_key(cores: float) -> str:
    """Under which name the measured figures of this CPU are kept; a new OpenVINO is measured anew."""
    return f"{cpu_model()} | {cores:g} cores | OpenVINO {_version_of('openvino')} | {_BENCHMARK_VERSION}"


def _tflops(
    path: Path, key: str, program: tuple[str, ...], variables: dict[str, str], measure: bool
) -> tuple[dict[str, float], str]:
    """Return what is kept under this key, or else what a program measures now."""
    kept = _read_cache(path)
    if key not in kept:
        if not measure:
            return {}, ""
        kept[key] = _run_benchmark(program, variables)
        # A figure that other work made too low serves for this time only.
        if kept[key]["tflops"] and not kept[key].get("disturbed"):
            _write_cache(path, kept)
    entry = kept[key]
    note = "; too low, other work disturbed it" if entry.get("disturbed") else ""
    return dict(entry["tflops"]), entry["source"] + note


def _version_of(distribution: str) -> str:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _run_benchmark(program: tuple[str, ...], variables: dict[str, str]) -> dict[str, Any]:
    """Measure in a process of its own; {"tflops": {}, ...} with the reason as source where it fails."""
    command = [sys.executable, "-m", *program]
    environment = with_variables(**variables)
    try:
        finished = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=_BENCHMARK_TIMEOUT_SECONDS,
            check=True,
            env=environment,
        )
        measured = json.loads(finished.stdout.splitlines()[-1])
        if _is_entry(measured):
            return dict(measured)
        reason = "it printed something else"
    except subprocess.CalledProcessError as error:
        reason = (error.stderr.strip().splitlines() or [f"exit status {error.returncode}"])[-1]
    except (OSError, subprocess.TimeoutExpired, ValueError, IndexError) as error:
        reason = str(error)
    return {"tflops": {}, "source": f"not measured: {reason}"}


def _is_entry(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and isinstance(value.get("source"), str)
        and isinstance(value.get("tflops"), dict)
        and all(isinstance(v, int | float) and math.isfinite(v) and v > 0 for v in value["tflops"].values())
    )


def _read_cache(path: Path) -> dict[str, dict[str, Any]]:
    try:
        kept = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return {k: v for k, v in kept.items() if _is_entry(v)} if isinstance(kept, dict) else {}


def _write_cache(path: Path, kept: dict[str, dict[str, Any]]) -> None:
    """Replace the file in one step, so that no reader sees half of it."""
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=path.parent, delete=False) as file:
            json.dump(kept, file, indent=1)
        os.replace(file.name, path)
