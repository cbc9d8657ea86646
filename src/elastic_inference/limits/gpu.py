"""What an accelerator on a GPU is told by its environment: which GPU or MIG instance, and its part of it by MPS.

Without NVIDIA's MPS daemon the driver takes no notice of the share; memory is then held by the engine's own limit
alone.
"""

from __future__ import annotations

import math


def gpu_environment(uuid: str, share: float, memory_bytes: int) -> dict[str, str]:
    """Variables for the process of an accelerator; {} for one that is not on a GPU.

    Args:
        uuid: Of the GPU or MIG instance, "" for none. It is the only one that the process sees, as `cuda:0`.
    """
    if not uuid:
        return {}
    return {
        "CUDA_VISIBLE_DEVICES": uuid,
        "CUDA_MPS_ACTIVE_THREAD_PERCENTAGE": f"{math.ceil(share * 100)}",
        "CUDA_MPS_PINNED_DEVICE_MEM_LIMIT": f"0={memory_bytes // 1024**2}M",
        "TF_FORCE_GPU_ALLOW_GROWTH": "true",
    }


def inner_device(device: str) -> str:
    """Return the name of a device inside the process of its accelerator, which sees no other GPU: `cuda:0`."""
    return "cuda:0" if device.startswith("cuda:") else device


def describe_gpu(device: str, share: float) -> dict[str, str]:
    """Return what is asked for, as a statement for reports; {} for an accelerator that is not on a GPU."""
    if not device.startswith("cuda:"):
        return {}
    return {"gpu": f"{share:.0%} of {device}'s threads by MPS, if its daemon runs (untested)"}
