"""The devices of this machine: the CPU as far as this process may use it, and NVIDIA GPUs (see `gpus`).

The CPU's TFLOPS are measured once (`devices_benchmark`) and kept in a file; those of GPUs are not measured.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import math
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from elastic_inference.host.gpus import list_gpus
from elastic_inference.limits.machine import usable_cores, usable_memory_bytes
from elastic_inference.settings import cache_dir

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
        tflops: Measured, by precision ("fp32", "bf16", "int8"); precisions that it does not have are absent,
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
    tflops, source = _cpu_tflops(cache_path or default_cache_path(), cores, measure)
    cpu = Device("cpu:0", "cpu", cpu_model(), cores, usable_memory_bytes(), tflops, source)
    gpus = [
        Device(gpu.name, "cuda", gpu.model, cores, gpu.memory_bytes, uuid=gpu.uuid) for gpu in list_gpus()
    ]
    return (cpu, *gpus)


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
    return f"{cpu_model()} | {cores:g} cores | OpenVINO {_openvino_version()} | {_BENCHMARK_VERSION}"


def _cpu_tflops(path: Path, cores: float, measure: bool) -> tuple[dict[str, float], str]:
    """Return what is kept for this CPU, these cores and this OpenVINO, or else what is measured now."""
    key = cache_key(cores)
    kept = _read_cache(path)
    if key not in kept:
        if not measure:
            return {}, ""
        kept[key] = _run_benchmark(cores)
        # A figure that other work made too low serves for this time only.
        if kept[key]["tflops"] and not kept[key].get("disturbed"):
            _write_cache(path, kept)
    entry = kept[key]
    note = "; too low, other work disturbed it" if entry.get("disturbed") else ""
    return dict(entry["tflops"]), entry["source"] + note


def _openvino_version() -> str:
    try:
        return importlib.metadata.version("openvino")
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _run_benchmark(cores: float) -> dict[str, Any]:
    """Measure in a process of its own; {"tflops": {}, ...} with the reason as source where it fails."""
    num_threads = max(1, math.floor(cores))
    command = [sys.executable, "-m", "elastic_inference.host.devices_benchmark", str(num_threads)]
    try:
        finished = subprocess.run(
            command, capture_output=True, text=True, timeout=_BENCHMARK_TIMEOUT_SECONDS, check=True
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
