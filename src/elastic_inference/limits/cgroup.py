"""What cgroup v1 and v2 share: one group an accelerator below a common parent, quota and weight from a request.

Compute is held twice. The quota is the ceiling: the group gets no more than its share in each period. The weight, in
proportion to the share, is what it gets while groups compete, also when something else on the machine leaves less than
all cores to them; with the quota alone the small tenant would then get too much. A bursting accelerator has the weight
but no quota: it takes what neighbours leave idle, and is back at its share as soon as they want theirs.

Cores are held by the controller cpuset where it is there and takes what is written, else by the affinity of threads.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from pathlib import Path

from elastic_inference.errors import AcceleratorNotFound, LimitError
from elastic_inference.limits import affinity
from elastic_inference.limits.base import (
    AppliedLimits,
    LimitRequest,
    Limits,
    fit_threads,
    is_accelerator_id,
    rlimit_inside,
)
from elastic_inference.limits.files import CgroupFiles, kill_all, remove_groups, set_data_limit
from elastic_inference.limits.machine import usable_cores
from elastic_inference.limits.mounts import GroupMount
from elastic_inference.units import format_bytes

PARENT_NAME = "elastic-inference"
CPUSET = "cpuset"
"""The controller that holds processes to cores; both versions call it so."""

PERIOD_US = 10_000
"""The kernel's default of 100 ms lets a group spend its quota at once and then stand still for the rest of
it: a 7.5 ms model on half a core had a p95 of 60 ms, with 10 ms a p95 of 19 ms."""

WEIGHT_AGAINST_OTHERS = 10
"""How much a core of all accelerators together weighs against an ordinary busy thread of the machine. With 1, other
work took half of each core while it was there, and shares of 10:90 came out as 13:87 (the larger tenant lost
more); with more than 10 little is gained, and clients on the same machine wait longer for their turn."""

MIN_QUOTA_US = 1_000
"""The kernel takes no quota below 1 ms."""

MAX_PERIOD_US = 1_000_000
"""The kernel takes no period above 1 s."""


@dataclass(frozen=True)
class CpuQuota:
    """CPU time, over all cores, in each period; None for the quota means no ceiling."""

    quota_us: int | None
    period_us: int


def fit_quota(request: LimitRequest, machine_cores: float) -> CpuQuota:
    """Return the quota of a request.

    None for a bursting accelerator, and for one that has the whole device, where at most part of one core of the
    machine is kept free of accelerators: there is no neighbour to hold it back for. A share too small for the least
    quota gets a longer period.
    """
    has_all = request.compute_share == 1 and request.num_cores > machine_cores - 1
    if request.may_burst or has_all:
        return CpuQuota(None, PERIOD_US)
    period_us = max(PERIOD_US, round(MIN_QUOTA_US / request.cores))
    if period_us > MAX_PERIOD_US:
        raise LimitError(
            f"{request.cores:.5f} cores is less than the kernel can hold: "
            f"{MIN_QUOTA_US / MAX_PERIOD_US} cores"
        )
    return CpuQuota(round(period_us * request.cores), period_us)


class CgroupLimits(Limits):
    """Limits by control groups; what differs between v1 and v2 is left to the subclasses.

    Args:
        mounts: The hierarchies to hold processes in, one of each.
        parent_name: The group below the own one that holds those of the accelerators.
        files: The edge to the kernel.
        machine_cores: Cores of the machine; None: those that this process may use.
        cpuset: The one of `mounts` that holds processes to cores; None: the affinity of threads does.
    """

    def __init__(
        self,
        mounts: tuple[GroupMount, ...],
        parent_name: str,
        files: CgroupFiles,
        machine_cores: float | None = None,
        cpuset: GroupMount | None = None,
    ) -> None:
        self._mounts = mounts
        self._parent_name = parent_name
        self._parents = tuple(mount.own_group / parent_name for mount in mounts)
        self._files = files
        self._machine_cores = usable_cores() if machine_cores is None else machine_cores
        self._cpuset = None if cpuset is None else mounts.index(cpuset)
        self._rlimits: dict[str, int] = {}
        self._elsewhere: dict[tuple[int, str], Path] = {}

    def apply(self, request: LimitRequest) -> AppliedLimits:
        directories = self._directories(request.accelerator_id)
        is_new = not any(self._files.exists(directory) for directory in directories)
        self._prepare_parents(request.num_cores)
        try:
            for directory in directories:
                self._files.make(directory)
            applied = self._put_in_force(request)
            self._complete(request.accelerator_id)
        except LimitError:
            if is_new:
                remove_groups(self._files, directories)
            raise
        return applied

    def add_process(self, accelerator_id: str, pid: int) -> None:
        self._require(accelerator_id)
        for directory in self._directories(accelerator_id):
            self._files.write(directory / "cgroup.procs", pid)
        if accelerator_id in self._rlimits:
            set_data_limit([pid], self._rlimits[accelerator_id])

    def update(self, request: LimitRequest) -> AppliedLimits:
        self._require(request.accelerator_id)
        used_bytes = self.usage(request.accelerator_id).memory_bytes
        if used_bytes > request.memory_bytes:
            # v2 would kill, v1 would refuse after a long time of trying.
            raise LimitError(
                f"accelerator {request.accelerator_id} uses {format_bytes(used_bytes)}, more than "
                f"the new limit of {format_bytes(request.memory_bytes)}; unload a model first"
            )
        applied = self._put_in_force(request)
        set_data_limit(self.processes(request.accelerator_id), applied.rlimit_data_bytes)
        return applied

    def keep_to_cores(self, accelerator_id: str, cores: frozenset[int]) -> str:
        means = CPUSET if self._write_cores(accelerator_id, cores) else affinity.MEANS
        # Inside a cpuset too: a thread that set its own affinity would use no core that is added to the group.
        affinity.keep_to_cores(self.processes(accelerator_id), cores)
        return means

    def processes(self, accelerator_id: str) -> tuple[int, ...]:
        pids = {
            pid for directory in self._directories(accelerator_id) for pid in self._files.processes(directory)
        }
        return tuple(sorted(pids))

    def release(self, accelerator_id: str) -> None:
        directories = [d for d in self._directories(accelerator_id) if self._files.exists(d)]
        kill_all(self._files, directories)
        remove_groups(self._files, directories)
        for index in range(len(self._parents)):
            self._elsewhere.pop((index, accelerator_id), None)
        self._rlimits.pop(accelerator_id, None)

    def list_existing(self) -> tuple[str, ...]:
        """As `Limits.list_existing`; looks in the whole of each hierarchy.

        A host that is started again from another login session has another own group, and those of its
        predecessor are not below it.
        """
        self._elsewhere.clear()
        names = set()
        for index, mount in enumerate(self._mounts):
            for parent in self._files.find(mount.mount_point, self._parent_name):
                for group in self._files.groups(parent):
                    if is_accelerator_id(group.name):
                        names.add(group.name)
                        self._elsewhere[index, group.name] = group
        return tuple(sorted(names))

    def close(self) -> None:
        for parent in self._parents:
            self._files.remove(parent)

    @abstractmethod
    def _prepare_parents(self, num_cores: float) -> None:
        """Make the parents, so that groups with limits can be made in them."""

    @abstractmethod
    def _write_limits(self, request: LimitRequest, quota: CpuQuota) -> None:
        """Write quota, weight and memory limit of a group that exists."""

    def _complete(self, accelerator_id: str) -> None:
        """Put the processes of a group that is taken over into every hierarchy: its host may have used fewer."""
        for directory in self._directories(accelerator_id):
            while missing := set(self.processes(accelerator_id)) - set(self._files.processes(directory)):
                for pid in missing:
                    try:
                        self._files.write(directory / "cgroup.procs", pid)
                    except LimitError:
                        if pid in self.processes(accelerator_id):
                            raise

    def _write_cores(self, accelerator_id: str, cores: frozenset[int]) -> bool:
        """Let the controller cpuset hold a group to cores; False where it does not hold this group."""
        if self._cpuset is None:
            return False
        path = self._directories(accelerator_id)[self._cpuset] / "cpuset.cpus"
        try:
            if self._files.exists(path):
                self._files.write(path, ",".join(map(str, sorted(cores))))
                return True
        except LimitError:
            if self._files.exists(path):  # else another thread has released it meanwhile
                raise
        return False

    def _put_in_force(self, request: LimitRequest) -> AppliedLimits:
        quota = fit_quota(request, self._machine_cores)
        self._write_limits(request, quota)
        rlimit_bytes = rlimit_inside(request.memory_bytes)
        self._rlimits[request.accelerator_id] = rlimit_bytes
        return AppliedLimits(
            accelerator_id=request.accelerator_id,
            num_threads=fit_threads(request),
            rlimit_data_bytes=rlimit_bytes,
            duty_cycle_share=None,
            description={
                "compute": self._describe_compute(request, quota),
                "memory": f"{format_bytes(request.memory_bytes)} by {self.name}; "
                f"RLIMIT_DATA {format_bytes(rlimit_bytes)}, so that too large a model is an error, "
                "not a kill",
            },
        )

    def _describe_compute(self, request: LimitRequest, quota: CpuQuota) -> str:
        share = f"{request.compute_share:.2f} of {request.num_cores:g} cores"
        if quota.quota_us is not None:
            figures = f"{quota.quota_us / 1000:g} ms in each {quota.period_us / 1000:g} ms"
            return f"{share}: quota {figures} and weight by {self.name}"
        if request.may_burst:
            means = f"weight by {self.name}, no quota"
            return f"{share} while neighbours want theirs, more while they do not: {means}"
        return f"{share}: weight by {self.name}; no quota, for it has the whole device"

    def _directories(self, accelerator_id: str) -> tuple[Path, ...]:
        if not is_accelerator_id(accelerator_id):
            raise AcceleratorNotFound(f"{accelerator_id!r} is not the id of an accelerator")
        return tuple(
            self._elsewhere.get((index, accelerator_id), parent / accelerator_id)
            for index, parent in enumerate(self._parents)
        )

    def _is_there(self, accelerator_id: str) -> bool:
        return all(self._files.exists(directory) for directory in self._directories(accelerator_id))

    def _require(self, accelerator_id: str) -> None:
        if not self._is_there(accelerator_id):
            raise AcceleratorNotFound(f"accelerator {accelerator_id} has no {self.name} group here")
