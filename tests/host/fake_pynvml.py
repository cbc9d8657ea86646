"""A stand-in for nvidia-ml-py's module where no GPU is: its names and errors, and GPUs as a test describes them."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace

import pynvml


@dataclass
class FakeDevice:
    """A GPU or a MIG instance; `fails` is the code with which every question about it is answered."""

    uuid: str
    name: str = "Tesla T4"
    memory_bytes: int = 16 * 2**30
    fails: int | None = None
    is_partitioned: bool | None = None  # None: it does not know MIG
    instances: list[FakeDevice | None] = field(default_factory=list)
    processes: dict[int, int | None] = field(
        default_factory=dict
    )  # bytes by process, None: the driver does not say


class FakePynvml:
    """What `gpus` asks of pynvml; `fails` says with which code which function fails."""

    NVMLError = pynvml.NVMLError
    NVMLError_LibraryNotFound = pynvml.NVMLError_LibraryNotFound
    NVMLError_NotSupported = pynvml.NVMLError_NotSupported
    NVMLError_NotFound = pynvml.NVMLError_NotFound
    NVML_DEVICE_MIG_ENABLE = pynvml.NVML_DEVICE_MIG_ENABLE

    def __init__(self, *devices: FakeDevice, **fails: int) -> None:
        self._devices, self._fails = devices, fails
        self.num_open = 0

    def _check(self, function: str, device: FakeDevice | None = None) -> None:
        code = self._fails.get(function, None if device is None else device.fails)
        if code is not None:
            raise pynvml.NVMLError(code)

    def nvmlInit(self) -> None:  # noqa: N802
        self._check("nvmlInit")
        self.num_open += 1

    def nvmlShutdown(self) -> None:  # noqa: N802
        self.num_open -= 1
        self._check("nvmlShutdown")

    def nvmlDeviceGetCount(self) -> int:  # noqa: N802
        self._check("nvmlDeviceGetCount")
        return len(self._devices)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> FakeDevice:  # noqa: N802
        self._check("nvmlDeviceGetHandleByIndex", self._devices[index])
        return self._devices[index]

    def nvmlDeviceGetMigMode(self, device: FakeDevice) -> list[int]:  # noqa: N802
        if device.is_partitioned is None:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)
        return [int(device.is_partitioned)] * 2

    def nvmlDeviceGetMaxMigDeviceCount(self, device: FakeDevice) -> int:  # noqa: N802
        return len(device.instances)

    def nvmlDeviceGetMigDeviceHandleByIndex(self, device: FakeDevice, place: int) -> FakeDevice:  # noqa: N802
        instance = device.instances[place]
        if instance is None:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_FOUND)
        return instance

    def nvmlDeviceGetUUID(self, device: FakeDevice) -> str:  # noqa: N802
        self._check("nvmlDeviceGetUUID", device)
        return device.uuid

    def nvmlDeviceGetName(self, device: FakeDevice) -> str:  # noqa: N802
        self._check("nvmlDeviceGetName", device)
        return device.name

    def nvmlDeviceGetMemoryInfo(self, device: FakeDevice) -> SimpleNamespace:  # noqa: N802
        self._check("nvmlDeviceGetMemoryInfo", device)
        return SimpleNamespace(total=device.memory_bytes, free=0, used=device.memory_bytes)

    def nvmlDeviceGetComputeRunningProcesses(self, device: FakeDevice) -> list[SimpleNamespace]:  # noqa: N802
        self._check("nvmlDeviceGetComputeRunningProcesses", device)
        return [
            SimpleNamespace(pid=pid, usedGpuMemory=num_bytes) for pid, num_bytes in device.processes.items()
        ]
