"""How accelerators of one GPU share it: what each process is told by its environment, and what that does not isolate.

- `lease`: they take turns of one request (`limits/lease`). NVIDIA's MPS is kept away from them, since a daemon that
  happens to run would let them compute at the same time.
- `mps`: they compute at the same time through NVIDIA's MPS daemon, each on its part of the threads.
- `mig`: each has an instance of its own, made by the operator beforehand.
"""

from __future__ import annotations

import math
import os
from pathlib import Path

from elastic_inference.errors import StartFailed

GPU_SHARING = ("lease", "mps", "mig")
NOT_ISOLATED = {
    "lease": "caches and memory bandwidth pass from turn to turn; a fault that resets the GPU ends all; memory is held "
    "by each engine's own limit, and watched",
    "mps": "a fatal fault of one accelerator ends all on this GPU; shares are of threads, not of time, and memory "
    "bandwidth and caches are shared",
    "mig": "the link to the host, and power",
}
"""What neighbours can still feel of each other, for `ei host status`."""
DEFAULT_MPS_DIRECTORY = "/tmp/nvidia-mps"  # the driver's own
# CUDA looks for the daemon in the default folder, asked or not; one that is not there is how to be left alone.
_NO_MPS_DIRECTORY = "/nonexistent/elastic-inference-without-mps"


def gpu_environment(
    uuid: str,
    share: float,
    memory_bytes: int,
    sharing: str = "lease",
    mps_directory: str = DEFAULT_MPS_DIRECTORY,
) -> dict[str, str]:
    """Variables for the process of an accelerator; {} for one that is not on a GPU.

    Args:
        uuid: Of the GPU or MIG instance, "" for none. It is the only one that the process sees, as `cuda:0`.
        share: Of the device; under MPS the part of its threads, in whole percent.
        memory_bytes: Of the device; MPS holds it, counting CUDA's context too.
        sharing: One of `GPU_SHARING`.
        mps_directory: Of the daemon's pipes.
    """
    if not uuid:
        return {}
    variables = {"CUDA_VISIBLE_DEVICES": uuid, "TF_FORCE_GPU_ALLOW_GROWTH": "true"}
    if sharing != "mps":
        return variables | {"CUDA_MPS_PIPE_DIRECTORY": _NO_MPS_DIRECTORY}
    return variables | {
        "CUDA_MPS_PIPE_DIRECTORY": mps_directory,
        "CUDA_MPS_ACTIVE_THREAD_PERCENTAGE": f"{math.ceil(share * 100)}",
        "CUDA_MPS_PINNED_DEVICE_MEM_LIMIT": f"0={memory_bytes // 1024**2}M",
    }


def check_mps(directory: str = DEFAULT_MPS_DIRECTORY) -> None:
    """Make sure that NVIDIA's MPS daemon runs; without it CUDA would silently share in another way.

    Raises:
        StartFailed: None runs whose pipes are in this folder.
    """
    pid_file = Path(directory, "nvidia-cuda-mps-control.pid")
    try:
        pid = int(pid_file.read_text())
        os.kill(pid, 0)
    except PermissionError:
        return  # it lives, as another user
    except (OSError, ValueError, OverflowError) as error:
        raise StartFailed(
            f"GPU sharing 'mps' needs NVIDIA's MPS daemon, and none runs for {directory} ({error}); start it with "
            "`nvidia-cuda-mps-control -d`, so that it serves several users where accelerators have users of their own, "
            "or say where it is by CUDA_MPS_PIPE_DIRECTORY"
        ) from error


def inner_device(device: str) -> str:
    """Return the name of a device inside the process of its accelerator, which sees no other GPU: `cuda:0`."""
    return "cuda:0" if device.startswith("cuda:") else device


def is_instance(device: str) -> bool:
    """Whether a device's name is of a MIG instance, such as `cuda:0:1`."""
    return device.startswith("cuda:") and device.count(":") == 2


def describe_lease(device: str, share: float, may_burst: bool) -> str:
    """Return what is in force on a device that is shared by lease, as a statement for reports."""
    more = " and what others leave idle" if may_burst else ""
    return f"{share:.0%} of {device}'s time{more}, by lease"


def describe_gpu(device: str, share: float, sharing: str, may_burst: bool = False) -> dict[str, str]:
    """Return what is in force, as a statement for reports; {} for an accelerator that is not on a GPU."""
    if not device.startswith("cuda:"):
        return {}
    return {
        "gpu": {
            "lease": describe_lease(device, share, may_burst),
            "mps": f"{math.ceil(share * 100)}% of {device}'s threads, by MPS",
            "mig": f"all of the MIG instance {device}",
        }[sharing]
    }
