"""NVIDIA's GPUs and their MIG instances, as the driver's own library (NVML) lists them.

What does not answer is not offered, and the log says why: a driver that is gone must not look like a machine without
GPUs.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Gpu:
    """A whole GPU, or a MIG instance of one.

    Attributes:
        name: `cuda:0`, or `cuda:0:1` for the instance 1 of GPU 0, in the order of the PCI bus.
        uuid: What CUDA_VISIBLE_DEVICES takes; CUDA numbers GPUs in another order than the driver.
        model: What NVIDIA calls it.
        memory_bytes: All of it.
    """

    name: str
    uuid: str
    model: str
    memory_bytes: int


def list_gpus(nvml: Any = None) -> tuple[Gpu, ...]:
    """Give all GPUs that answer; none on a machine without NVIDIA's driver.

    Args:
        nvml: The module `pynvml`, or one like it; None: that of nvidia-ml-py.
    """
    nvml = nvml or _library()
    if nvml is None:
        return ()
    try:
        nvml.nvmlInit()
    except nvml.NVMLError_LibraryNotFound:
        return ()  # no driver was ever installed here
    except nvml.NVMLError as error:
        logger.warning("NVIDIA's driver is installed but does not answer (%s), so no GPU is offered", error)
        return ()
    try:
        return tuple(gpu for index in range(_count(nvml)) for gpu in _answering(nvml, index))
    finally:
        with contextlib.suppress(nvml.NVMLError):
            nvml.nvmlShutdown()


def memory_of_processes(nvml: Any = None) -> dict[int, int] | None:
    """Return the bytes of device memory that each process has, on all GPUs together; None: the driver does not say.

    Args:
        nvml: See `list_gpus`.
    """
    nvml = nvml or _library()
    if nvml is None:
        return None
    try:
        nvml.nvmlInit()
    except nvml.NVMLError:
        return None
    try:
        found: dict[int, int] = {}
        for index in range(nvml.nvmlDeviceGetCount()):
            gpu = nvml.nvmlDeviceGetHandleByIndex(index)
            for process in nvml.nvmlDeviceGetComputeRunningProcesses(gpu):
                if (
                    process.usedGpuMemory is not None
                ):  # some drivers say it to nobody, some not of MIG instances
                    found[process.pid] = found.get(process.pid, 0) + int(process.usedGpuMemory)
        return found
    except nvml.NVMLError:
        return None
    finally:
        with contextlib.suppress(nvml.NVMLError):
            nvml.nvmlShutdown()


def _library() -> Any:
    try:
        import pynvml
    except ModuleNotFoundError:
        return None
    return pynvml


def _count(nvml: Any) -> int:
    try:
        return int(nvml.nvmlDeviceGetCount())
    except nvml.NVMLError as error:
        logger.warning("NVIDIA's driver does not say which GPUs there are (%s), so none is offered", error)
        return 0


def _answering(nvml: Any, index: int) -> list[Gpu]:
    try:
        gpu = nvml.nvmlDeviceGetHandleByIndex(index)
        if not _is_partitioned(nvml, gpu):
            return [_describe(nvml, gpu, f"cuda:{index}")]
        instances = list(_instances(nvml, gpu, index))
    except nvml.NVMLError as error:
        logger.warning("GPU %d does not answer (%s) and is not offered", index, error)
        return []
    if not instances:
        logger.warning(
            "GPU %d is in MIG mode without an instance and is not offered; make one by `nvidia-smi mig -cgi`, or "
            "leave that mode by `nvidia-smi -i %d -mig 0`", index, index,
        )  # fmt: skip
    return instances


def _is_partitioned(nvml: Any, gpu: Any) -> bool:
    """Whether it is in MIG mode now; most GPUs do not know that mode."""
    try:
        current, _pending = nvml.nvmlDeviceGetMigMode(gpu)
    except nvml.NVMLError_NotSupported:
        return False
    return bool(current == nvml.NVML_DEVICE_MIG_ENABLE)


def _instances(nvml: Any, gpu: Any, index: int) -> Iterator[Gpu]:
    for place in range(nvml.nvmlDeviceGetMaxMigDeviceCount(gpu)):
        try:
            instance = nvml.nvmlDeviceGetMigDeviceHandleByIndex(gpu, place)
        except nvml.NVMLError_NotFound:
            continue  # fewer and larger instances than there could be
        yield _describe(nvml, instance, f"cuda:{index}:{place}")


def _describe(nvml: Any, device: Any, name: str) -> Gpu:
    return Gpu(
        name=name,
        uuid=str(nvml.nvmlDeviceGetUUID(device)),
        model=str(nvml.nvmlDeviceGetName(device)),
        memory_bytes=int(nvml.nvmlDeviceGetMemoryInfo(device).total),
    )
