"""What this machine offers: cores, memory, and compute as a real benchmark measures it."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from elastic_inference.host import devices, devices_benchmark
from elastic_inference.host.devices import Device, cache_key, cpu_model, list_devices
from elastic_inference.host.gpus import Gpu
from elastic_inference.host.settings import offered_cores, offered_memory_bytes
from elastic_inference.limits.machine import usable_cores


def test_the_cpu_is_measured_for_real_and_the_figure_kept(tmp_path: Path) -> None:
    path = tmp_path / "made" / "devices.json"
    cpu = list_devices(path)[0]
    assert cpu.name == "cpu:0"
    assert 0 < cpu.num_cores <= len(os.sched_getaffinity(0))
    assert cpu.memory_bytes > 2**28
    assert 0.001 < cpu.tflops["fp32"] < 1000
    assert "OpenVINO" in cpu.tflops_source
    # A machine that is busy with other work gives a figure that must not be kept.
    assert path.exists() == ("too low" not in cpu.tflops_source)


def write_cache(path: Path, key: str) -> Path:
    path.write_text(json.dumps({key: {"tflops": {"fp32": 123.0}, "source": "written by a test"}}))
    return path


def test_a_kept_figure_is_not_measured_again(tmp_path: Path) -> None:
    cpu = list_devices(write_cache(tmp_path / "devices.json", cache_key(usable_cores())))[0]
    assert (cpu.tflops, cpu.tflops_source) == ({"fp32": 123.0}, "written by a test")


def test_what_was_measured_for_another_machine_or_version_is_not_believed(tmp_path: Path) -> None:
    path = write_cache(tmp_path / "devices.json", "Some Other CPU | 64 cores | OpenVINO 1 | 1")
    assert list_devices(path, measure=False)[0].tflops == {}


@pytest.mark.parametrize("text", ["", "[]", "{", '{"x": 1}', '{"x": {"tflops": {"fp32": -1}, "source": ""}}'])
def test_a_broken_cache_is_as_good_as_none(tmp_path: Path, text: str) -> None:
    path = tmp_path / "devices.json"
    path.write_text(text)
    assert list_devices(path, measure=False)[0].tflops == {}


def test_without_openvino_numpy_gives_the_figure() -> None:
    assert 0.0001 < devices_benchmark.measure_numpy(2)["fp32"].tflops < 1000


def test_the_model_name_of_the_cpu(tmp_path: Path) -> None:
    file = tmp_path / "cpuinfo"
    file.write_text("processor\t: 0\nmodel name\t: AMD EPYC 9R14\n")
    assert cpu_model(file) == "AMD EPYC 9R14"
    assert cpu_model(tmp_path / "absent") == "unknown CPU"


@pytest.mark.parametrize(
    ("memory_mebibytes", "kept_mebibytes"), [(100, 10), (10_000, 1000), (10_240, 1024), (65_536, 1024)]
)
def test_a_tenth_of_the_memory_is_kept_for_the_host_and_at_most_one_gibibyte(
    memory_mebibytes: int, kept_mebibytes: int
) -> None:
    cpu = Device("cpu:0", "cpu", "any", 4.0, memory_mebibytes * 2**20)
    assert offered_memory_bytes(cpu) == (memory_mebibytes - kept_mebibytes) * 2**20
    gpu = Device("cuda:0", "cuda", "any", 4.0, memory_mebibytes * 2**20)
    assert offered_memory_bytes(gpu) == gpu.memory_bytes


@pytest.mark.parametrize(("cores", "offered"), [(2.0, 1.9), (10.0, 9.5), (16.0, 15.5)])
def test_a_twentieth_of_the_cores_is_kept_for_the_host_and_at_most_half_a_core(
    cores: float, offered: float
) -> None:
    assert offered_cores(Device("cpu:0", "cpu", "any", cores, 2**30)) == pytest.approx(offered)


def test_a_gpu_is_measured_only_where_pytorch_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = Gpu("cuda:0", "GPU-1f0c", "Tesla T4", 16 * 2**30)
    monkeypatch.setattr(devices, "list_gpus", lambda: (gpu,))
    monkeypatch.setattr(devices.importlib.util, "find_spec", lambda _: None)
    path = write_cache(tmp_path / "devices.json", cache_key(usable_cores()))
    assert list_devices(path)[1] == Device(
        "cuda:0", "cuda", "Tesla T4", usable_cores(), 16 * 2**30, {},
        "not measured: PyTorch is not installed here", "GPU-1f0c",
    )  # fmt: skip
    monkeypatch.setattr(devices.importlib.util, "find_spec", lambda _: object())
    monkeypatch.setattr(devices, "_version_of", lambda name: {"torch": "2.11.0"}.get(name, "0"))
    write_cache(path, "Tesla T4 | GPU-1f0c | PyTorch 2.11.0 | 1")
    assert list_devices(path, measure=False)[1].tflops == {"fp32": 123.0}
