"""GPUs by the driver's library: against a fake one where there is no GPU, and always against the real one too."""

from __future__ import annotations

import logging
import os
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pynvml
import pytest

from elastic_inference.errors import CapacityExceeded, StartFailed
from elastic_inference.host import gpus
from elastic_inference.host.accounts.records import State
from elastic_inference.host.devices import Device
from elastic_inference.host.gpus import Gpu, list_gpus
from elastic_inference.host.host import Host
from elastic_inference.host.processes.gpu_watch import CONTEXT_BYTES, GpuMemoryWatch, Subject
from tests.host.conftest import DEVICE
from tests.host.fake_pynvml import FakeDevice, FakePynvml
from tests.host.support import wait_until

GPU = Device("cuda:0", "cuda", "Tesla T4", 2.0, 16 * 2**30, uuid="GPU-1f0c")
WIDE = replace(DEVICE, num_cores=4.0)  # an accelerator on a GPU takes a core beside it
PUBLIC_FAKE = [name for name in vars(FakePynvml) if name.lower().startswith("nvml")]


def test_gpus_are_listed_with_uuid_name_and_memory() -> None:
    nvml = FakePynvml(
        FakeDevice("GPU-a", "Tesla T4", 15 * 2**30), FakeDevice("GPU-b", "NVIDIA H100", 80 * 2**30)
    )
    assert list_gpus(nvml) == (
        Gpu("cuda:0", "GPU-a", "Tesla T4", 15 * 2**30),
        Gpu("cuda:1", "GPU-b", "NVIDIA H100", 80 * 2**30),
    )
    assert nvml.num_open == 0


def test_instances_stand_for_the_gpu_that_is_partitioned() -> None:
    small = FakeDevice("MIG-1", "NVIDIA A100 MIG 1g.5gb", 5 * 2**30)
    large = FakeDevice("MIG-2", "NVIDIA A100 MIG 3g.20gb", 20 * 2**30)
    partitioned = FakeDevice("GPU-a", is_partitioned=True, instances=[small, None, large, None])
    whole = FakeDevice("GPU-b", "NVIDIA A100", 40 * 2**30, is_partitioned=False)
    assert list_gpus(FakePynvml(partitioned, whole)) == (
        Gpu("cuda:0:0", "MIG-1", "NVIDIA A100 MIG 1g.5gb", 5 * 2**30),
        Gpu("cuda:0:2", "MIG-2", "NVIDIA A100 MIG 3g.20gb", 20 * 2**30),
        Gpu("cuda:1", "GPU-b", "NVIDIA A100", 40 * 2**30),
    )


def test_partitioned_gpu_without_an_instance_says_what_to_do(caplog: pytest.LogCaptureFixture) -> None:
    assert list_gpus(FakePynvml(FakeDevice("GPU-a", is_partitioned=True, instances=[None]))) == ()
    assert "GPU 0 is in MIG mode without an instance" in caplog.text
    assert "nvidia-smi -i 0 -mig 0" in caplog.text


def test_machine_without_a_driver_has_no_gpu_and_nothing_to_say(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    assert list_gpus(FakePynvml(nvmlInit=pynvml.NVML_ERROR_LIBRARY_NOT_FOUND)) == ()
    assert caplog.text == ""


@pytest.mark.parametrize(
    ("nvml", "message"),
    [
        (
            FakePynvml(FakeDevice("GPU-a"), nvmlInit=pynvml.NVML_ERROR_DRIVER_NOT_LOADED),
            "driver is installed but does not answer (Driver Not Loaded), so no GPU is offered",
        ),
        (
            FakePynvml(FakeDevice("GPU-a"), nvmlDeviceGetCount=pynvml.NVML_ERROR_UNKNOWN),
            "does not say which GPUs there are (Unknown Error)",
        ),
    ],
)
def test_driver_that_does_not_answer_is_named(
    nvml: FakePynvml, message: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert list_gpus(nvml) == ()
    assert message in caplog.text
    assert nvml.num_open == 0


def test_gpu_that_is_lost_is_left_out_and_named(caplog: pytest.LogCaptureFixture) -> None:
    lost = FakeDevice("GPU-a", fails=pynvml.NVML_ERROR_GPU_IS_LOST)
    found = list_gpus(
        FakePynvml(lost, FakeDevice("GPU-b"), nvmlShutdown=pynvml.NVML_ERROR_UNKNOWN)  # even as it is let go
    )
    assert [(gpu.name, gpu.uuid) for gpu in found] == [("cuda:1", "GPU-b")]
    assert "GPU 0 does not answer (GPU is lost) and is not offered" in caplog.text


@pytest.mark.parametrize("name", PUBLIC_FAKE)
def test_the_fake_has_no_name_that_the_real_one_lacks(name: str) -> None:
    assert hasattr(pynvml, name)


def test_the_real_library_lists_what_nvidia_smi_lists() -> None:
    try:
        command = ["nvidia-smi", "--query-gpu=uuid", "--format=csv,noheader"]
        told = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout.split()
    except FileNotFoundError:
        told = []  # no driver: no GPU, and no error
    listed = list_gpus()
    assert {gpu.uuid for gpu in listed if gpu.uuid.startswith("GPU-")} <= set(told)
    assert bool(listed) == bool(told)
    assert all(gpu.memory_bytes > 2**30 for gpu in listed)


def test_process_of_a_gpu_sees_that_one_alone(open_host: Callable[..., Host]) -> None:
    host = open_host(devices=(DEVICE, GPU), cpu=DEVICE)
    record, _ = host.service.attach("gpu.half")
    assert record.device == "cuda:0"
    assert record.process is not None
    variables = Path(f"/proc/{record.process.pid}/environ").read_bytes().split(b"\0")
    assert b"CUDA_VISIBLE_DEVICES=GPU-1f0c" in variables


def test_accelerator_whose_gpu_is_gone_says_so(open_host: Callable[..., Host], state_dir: Path) -> None:
    before = open_host(devices=(DEVICE, GPU), cpu=DEVICE)
    record, _ = before.service.attach("gpu.half")
    before.close()
    host = open_host(devices=(DEVICE,), cpu=DEVICE, state_dir=state_dir)
    wait_until(lambda: "cuda:0" in host.service.get(record.accelerator_id).last_exit, "the reason")
    now = host.service.get(record.accelerator_id)
    assert now.state is State.RESTARTING
    assert "is not among the host's devices (cpu:0); see what `ei devices` says" in now.last_exit


def test_without_its_daemon_a_host_does_not_share_by_mps(
    open_host: Callable[..., Host], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_MPS_PIPE_DIRECTORY", str(tmp_path))
    with pytest.raises(StartFailed, match="needs NVIDIA's MPS daemon"):
        open_host(devices=(DEVICE, GPU), cpu=DEVICE, gpu_sharing="mps")
    (tmp_path / "nvidia-cuda-mps-control.pid").write_text(f"{os.getpid()}")
    host = open_host(devices=(DEVICE, GPU), cpu=DEVICE, gpu_sharing="mps")
    record, _ = host.service.attach("gpu.half")
    assert host.service.limits_of(record)["gpu"] == "50% of cuda:0's threads, by MPS"
    assert host.status()["devices"][1]["sharing"] == "mps"
    assert "ends all on this GPU" in host.status()["devices"][1]["not_isolated"]


def test_an_instance_goes_to_one_accelerator_whatever_its_type(open_host: Callable[..., Host]) -> None:
    instances = tuple(replace(GPU, name=f"cuda:0:{place}", uuid=f"MIG-{place}") for place in range(2))
    host = open_host(devices=(WIDE, *instances), cpu=WIDE, gpu_sharing="mig")
    records = [host.service.attach("gpu.tenth")[0] for _ in instances]
    assert [(r.device, r.share, r.kind.device_memory_bytes) for r in records] == [
        (each.name, 1.0, GPU.memory_bytes) for each in instances
    ]
    with pytest.raises(CapacityExceeded):
        host.service.attach("gpu.tenth")


def test_memory_of_processes_is_added_up_over_gpus() -> None:
    one = FakeDevice("GPU-1", processes={7: 100, 8: None})
    other = FakeDevice("GPU-2", processes={7: 20})
    assert gpus.memory_of_processes(FakePynvml(one, other)) == {7: 120}
    assert gpus.memory_of_processes(FakePynvml(one, nvmlInit=pynvml.NVML_ERROR_UNKNOWN)) is None
    assert (
        gpus.memory_of_processes(FakePynvml(FakeDevice("GPU-3", fails=pynvml.NVML_ERROR_GPU_IS_LOST))) is None
    )


def test_who_has_more_of_a_gpus_memory_than_it_may_is_ended_and_started_again(
    open_host: Callable[..., Host],
) -> None:
    host = open_host(devices=(WIDE, GPU), cpu=WIDE)
    greedy, modest = (host.service.attach("gpu.tenth")[0] for _ in range(2))
    limit = greedy.kind.device_memory_bytes
    assert greedy.process is not None
    assert modest.process is not None
    assert limit is not None
    device = FakeDevice("GPU-1", processes={greedy.process.pid: limit, modest.process.pid: limit})
    watch = GpuMemoryWatch(host.service.on_gpus, host.service.kill, FakePynvml(device))
    watch.look()
    assert watch.used_bytes(greedy.accelerator_id) == limit
    device.processes[greedy.process.pid] = limit + CONTEXT_BYTES + 1
    watch.look()
    wait_until(lambda: host.service.get(greedy.accelerator_id).num_restarts == 1, "the end of the greedy one")
    assert "of the GPU's memory; its limit is" in host.service.get(greedy.accelerator_id).last_exit
    assert host.service.get(modest.accelerator_id).num_restarts == 0


def test_a_driver_that_says_nothing_of_memory_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    nvml = FakePynvml(nvmlInit=pynvml.NVML_ERROR_UNKNOWN)
    watch = GpuMemoryWatch(lambda: [Subject("eia-1", 7, 1)], pytest.fail, nvml)
    watch.look()
    watch.look()
    assert [record.message for record in caplog.records] == [
        "the driver does not say which process has how much of a GPU's memory"
    ]


def test_module_of_nvidia_is_what_is_used() -> None:
    assert gpus._library() is pynvml
