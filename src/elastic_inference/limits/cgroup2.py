"""Limits by cgroup v2: cpu.max, cpu.weight, memory.max and, where it is offered, cpuset.cpus in the one hierarchy.

A group that hands controllers to its children may hold no process itself. Where the own group does, as that
of a systemd service with `Delegate=yes`, this process moves to a leaf beside the accelerators first.

Tested on a directory that behaves as the kernel's documentation says, and on the v2 hierarchy of a real kernel
for what needs neither controller: membership, killing, CPU seconds, handing a controller on. No machine with
cpu and memory on v2 was at hand.
"""

from __future__ import annotations

import os

from elastic_inference.errors import LimitError
from elastic_inference.limits.base import LimitRequest, LimitUsage
from elastic_inference.limits.cgroup import CPUSET, PARENT_NAME, WEIGHT_AGAINST_OTHERS, CgroupLimits, CpuQuota
from elastic_inference.limits.files import CgroupFiles
from elastic_inference.limits.mounts import GroupMount, GroupMounts

_CONTROLLERS = ("cpu", "memory")
_MAX_WEIGHT = 10_000
_WEIGHT_OF_ONE_CORE = 100


class CgroupV2(CgroupLimits):
    """Limits by cgroup v2.

    Args:
        mounts: Where the hierarchy is.
        parent_name: The group, below the own one, that holds those of the accelerators.
        files: The edge to the kernel.
        machine_cores: Cores of the machine; None: those that this process may use.
        use_cpuset: Whether cpuset is to hold cores, where it is offered.

    Raises:
        LimitError: The hierarchy is not mounted, or does not hold the controllers cpu and memory.
    """

    name = "cgroup v2"

    def __init__(
        self,
        mounts: GroupMounts,
        parent_name: str = PARENT_NAME,
        files: CgroupFiles | None = None,
        machine_cores: float | None = None,
        use_cpuset: bool = True,
    ) -> None:
        files = files or CgroupFiles()
        if mounts.v2 is None:
            raise LimitError("the v2 hierarchy is not mounted")
        self._base, leaf_name = mounts.v2.own_group, f"{parent_name}-host"
        if self._base.name == leaf_name:  # this process, or the one that started it, has moved already
            self._base = self._base.parent
        self._leaf = self._base / leaf_name
        offered = files.read(self._base / "cgroup.controllers").split()
        missing = [name for name in _CONTROLLERS if name not in offered]
        if missing:
            raise LimitError(f"the v2 group {self._base} does not offer the controllers {', '.join(missing)}")
        mount = GroupMount(mounts.v2.mount_point, self._base)
        has_cpuset = use_cpuset and CPUSET in offered
        super().__init__((mount,), parent_name, files, machine_cores, mount if has_cpuset else None)
        self._parent = self._parents[0]
        self._handed_on = (*_CONTROLLERS, CPUSET) if has_cpuset else _CONTROLLERS

    def usage(self, accelerator_id: str) -> LimitUsage:
        self._require(accelerator_id)
        (group,) = self._directories(accelerator_id)
        cpu = self._files.table(group / "cpu.stat")
        inactive_bytes = self._files.table(group / "memory.stat").get("inactive_file", 0)
        limit = self._files.read(group / "memory.max").strip()
        return LimitUsage(
            cpu_seconds=cpu["usage_usec"] / 1e6,
            throttled_seconds=cpu.get("throttled_usec", 0) / 1e6,
            memory_bytes=max(0, int(self._files.read(group / "memory.current")) - inactive_bytes),
            memory_limit_bytes=0 if limit == "max" else int(limit),
            num_oom_kills=self._files.table(group / "memory.events").get("oom_kill", 0),
        )

    def close(self) -> None:
        super().close()
        self._files.remove(self._leaf)

    def _prepare_parents(self, num_cores: float) -> None:
        wanted = " ".join(f"+{name}" for name in self._handed_on)
        self._files.make(self._parent)
        try:
            self._files.write(self._base / "cgroup.subtree_control", wanted)
        except LimitError:
            self._move_to_leaf()
            self._files.write(self._base / "cgroup.subtree_control", wanted)
        self._files.write(self._parent / "cgroup.subtree_control", wanted)
        weight = _weight(_WEIGHT_OF_ONE_CORE * WEIGHT_AGAINST_OTHERS * num_cores)
        self._files.write(self._parent / "cpu.weight", weight)

    def _move_to_leaf(self) -> None:
        """Make room in the own group: only this process is moved, others are not ours to move."""
        others = set(self._files.processes(self._base)) - {os.getpid()}
        if others:
            raise LimitError(
                f"the v2 group {self._base} also holds the processes {sorted(others)}; give the host a "
                f"group of its own, such as a systemd service with Delegate=yes"
            )
        self._files.make(self._leaf)
        self._files.write(self._leaf / "cgroup.procs", os.getpid())

    def _write_limits(self, request: LimitRequest, quota: CpuQuota) -> None:
        (group,) = self._directories(request.accelerator_id)
        self._files.write(group / "memory.max", request.memory_bytes)
        swap, together = group / "memory.swap.max", group / "memory.oom.group"
        if self._files.exists(swap):  # an accelerator that swaps would hold no latency
            self._files.write(swap, 0)
        if self._files.exists(together):  # no half of an accelerator may be left over
            self._files.write(together, 1)
        quota_text = "max" if quota.quota_us is None else str(quota.quota_us)
        self._files.write(group / "cpu.max", f"{quota_text} {quota.period_us}")
        self._files.write(group / "cpu.weight", _weight(_MAX_WEIGHT * request.compute_share))


def _weight(value: float) -> int:
    return min(_MAX_WEIGHT, max(1, round(value)))
