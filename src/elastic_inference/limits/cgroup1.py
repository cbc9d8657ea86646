"""Limits by cgroup v1: the controllers cpu, cpuacct and memory, and cpuset where there is one, each in its own
hierarchy or together."""

from __future__ import annotations

from pathlib import Path

from elastic_inference.errors import LimitError
from elastic_inference.limits.base import LimitRequest, LimitUsage
from elastic_inference.limits.cgroup import CPUSET, PARENT_NAME, WEIGHT_AGAINST_OTHERS, CgroupLimits, CpuQuota
from elastic_inference.limits.files import CgroupFiles
from elastic_inference.limits.mounts import GroupMounts

_CONTROLLERS = ("cpu", "cpuacct", "memory")
_SHARES_OF_ONE_CORE = 1024
_MIN_SHARES = 2
_MAX_SHARES = 262_144


class CgroupV1(CgroupLimits):
    """Limits by cgroup v1.

    Args:
        mounts: Where the controllers are.
        parent_name: The group, below the own one, that holds those of the accelerators.
        files: The edge to the kernel.
        machine_cores: Cores of the machine; None: those that this process may use.
        use_cpuset: Whether cpuset is to hold cores, where it is mounted.

    Raises:
        LimitError: A controller is not mounted.
    """

    name = "cgroup v1"

    def __init__(
        self,
        mounts: GroupMounts,
        parent_name: str = PARENT_NAME,
        files: CgroupFiles | None = None,
        machine_cores: float | None = None,
        use_cpuset: bool = True,
    ) -> None:
        missing = [name for name in _CONTROLLERS if name not in mounts.v1]
        if missing:
            raise LimitError(f"the v1 controllers {', '.join(missing)} are not mounted")
        # Controllers that are mounted together are one hierarchy, whose group must be made and entered once.
        cpuset = mounts.v1.get(CPUSET) if use_cpuset else None
        used = [mounts.v1[name] for name in _CONTROLLERS] + ([] if cpuset is None else [cpuset])
        hierarchies = tuple(dict.fromkeys(used))
        super().__init__(hierarchies, parent_name, files or CgroupFiles(), machine_cores, cpuset)
        self._index = {name: hierarchies.index(mounts.v1[name]) for name in _CONTROLLERS}

    def _group(self, controller: str, accelerator_id: str) -> Path:
        return self._directories(accelerator_id)[self._index[controller]]

    def usage(self, accelerator_id: str) -> LimitUsage:
        self._require(accelerator_id)
        cpu, cpuacct, memory = (self._group(name, accelerator_id) for name in _CONTROLLERS)
        statistics = self._files.table(memory / "memory.stat")
        used_bytes = int(self._files.read(memory / "memory.usage_in_bytes"))
        return LimitUsage(
            cpu_seconds=int(self._files.read(cpuacct / "cpuacct.usage")) / 1e9,
            throttled_seconds=self._files.table(cpu / "cpu.stat").get("throttled_time", 0) / 1e9,
            memory_bytes=max(0, used_bytes - statistics.get("total_inactive_file", 0)),
            memory_limit_bytes=int(self._files.read(memory / "memory.limit_in_bytes")),
            num_oom_kills=self._files.table(memory / "memory.oom_control").get("oom_kill", 0),
        )

    def _prepare_parents(self, num_cores: float) -> None:
        for parent in self._parents:
            self._files.make(parent)
        cpu, memory = (self._parents[self._index[name]] for name in ("cpu", "memory"))
        shares = round(_SHARES_OF_ONE_CORE * WEIGHT_AGAINST_OTHERS * num_cores)
        self._files.write(cpu / "cpu.shares", min(_MAX_SHARES, shares))
        hierarchy = memory / "memory.use_hierarchy"
        if self._files.exists(hierarchy) and self._files.read(hierarchy).strip() == "0":
            self._files.write(hierarchy, 1)

    def _write_limits(self, request: LimitRequest, quota: CpuQuota) -> None:
        if self._cpuset is not None:
            self._fill_cpuset(self._directories(request.accelerator_id)[self._cpuset])
        self._write_memory(self._group("memory", request.accelerator_id), request.memory_bytes)
        cpu = self._group("cpu", request.accelerator_id)
        # Off first: a shorter period with the old quota could be more than a group around this one allows.
        self._files.write(cpu / "cpu.cfs_quota_us", -1)
        self._files.write(cpu / "cpu.cfs_period_us", quota.period_us)
        if quota.quota_us is not None:
            self._files.write(cpu / "cpu.cfs_quota_us", quota.quota_us)
        shares = round(_SHARES_OF_ONE_CORE * request.cores)
        self._files.write(cpu / "cpu.shares", min(_MAX_SHARES, max(_MIN_SHARES, shares)))

    def _fill_cpuset(self, group: Path) -> None:
        """Let a group use what the host may use, until it is kept to cores: with nothing it takes no process."""
        parent, own = group.parent, group.parent.parent
        for name in ("cpus", "mems"):
            effective = own / f"cpuset.effective_{name}"
            source = effective if self._files.exists(effective) else own / f"cpuset.{name}"
            usable = self._files.read(source).strip()
            # The parent each time, for that of an earlier host may have been given less; it has to be first.
            self._files.write(parent / f"cpuset.{name}", usable)
            if not self._files.read(group / f"cpuset.{name}").strip():
                self._files.write(group / f"cpuset.{name}", usable)

    def _write_memory(self, group: Path, limit_bytes: int) -> None:
        """Limit memory, and memory with swap to the same: an accelerator that swaps would hold no latency."""
        plain, with_swap = group / "memory.limit_in_bytes", group / "memory.memsw.limit_in_bytes"
        order = [plain, with_swap]
        if int(self._files.read(plain)) < limit_bytes:
            order.reverse()  # the one with swap may never be the smaller
        for path in order:
            if self._files.exists(path):
                self._files.write(path, limit_bytes)
