"""What this process may use of its machine: cores and memory, its own limits taken into account."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from elastic_inference.limits.mounts import GroupMount, GroupMounts, read_mounts


def usable_cores(mounts: GroupMounts | None = None) -> float:
    """Cores that this process may use: those of its affinity, or less by the quota of a group around it.

    Not whole under a quota such as a container's `--cpus 1.5`.
    """
    mounts = mounts or read_mounts()
    quotas = [float(len(os.sched_getaffinity(0)))]
    if mounts.v2 is not None:
        quotas += _along(mounts.v2, _quota_v2)
    if "cpu" in mounts.v1:
        quotas += _along(mounts.v1["cpu"], _quota_v1)
    return min(quotas)


def usable_memory_bytes(mounts: GroupMounts | None = None) -> int:
    """Memory that this process may use: the machine's, or less by the limit of a group around it."""
    mounts = mounts or read_mounts()
    limits = [float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))]
    if mounts.v2 is not None:
        limits += _along(mounts.v2, lambda group: _number(group / "memory.max"))
    if "memory" in mounts.v1:
        limits += _along(mounts.v1["memory"], lambda group: _number(group / "memory.limit_in_bytes"))
    return int(min(limits))


def is_limited(mount: GroupMount) -> bool:
    """Whether the v2 own group, or one around it, has a quota or a memory limit."""
    return bool(_along(mount, _quota_v2) or _along(mount, lambda group: _number(group / "memory.max")))


def _along(mount: GroupMount, read: Callable[[Path], float | None]) -> list[float]:
    """Return what `read` finds in the own group and every group around it."""
    groups = [mount.own_group, *mount.own_group.parents]
    inside = [group for group in groups if group.is_relative_to(mount.mount_point)]
    return [value for value in map(read, inside) if value is not None]


def _quota_v2(group: Path) -> float | None:
    try:
        quota, period = (group / "cpu.max").read_text().split()
    except (OSError, ValueError):
        return None
    return None if quota == "max" else int(quota) / int(period)


def _quota_v1(group: Path) -> float | None:
    quota, period = _number(group / "cpu.cfs_quota_us"), _number(group / "cpu.cfs_period_us")
    return quota / period if quota is not None and period and quota > 0 else None


def _number(path: Path) -> float | None:
    try:
        return float(path.read_text())
    except (OSError, ValueError):  # absent, or "max"
        return None
