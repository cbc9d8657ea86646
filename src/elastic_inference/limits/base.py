"""What a way of limiting an accelerator must do, and the value objects it speaks in; which one is `detect`.

A limit holds a group of processes: the accelerator process is added before it executes, so all that it starts
is held too. The order is `apply`, then `add_process` in the new child before exec, then `usage` and `update`
as often as wanted, then `release`.
"""

from __future__ import annotations

import math
import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field

from elastic_inference.errors import InvalidInput

MEBIBYTE = 1024**2
MIN_MEMORY_BYTES = 64 * MEBIBYTE
"""Less than this, and the interpreter of the accelerator itself does not start."""

_ACCELERATOR_ID = re.compile(r"eia-[0-9a-f]{32}")


def is_accelerator_id(text: str) -> bool:
    """Whether a text is `eia-` and 32 hexadecimal digits, and so fit to be a directory name."""
    return _ACCELERATOR_ID.fullmatch(text) is not None


@dataclass(frozen=True)
class LimitRequest:
    """What one accelerator may use.

    Attributes:
        accelerator_id: `eia-` and 32 hexadecimal digits; it becomes a directory name, so nothing else is let
            in.
        compute_share: Part of the device's cores, above 0 and up to 1.
        num_cores: Cores that the device has for all accelerators together; not whole under a quota.
        memory_bytes: Hard limit of the group, 64 MiB or more.
        may_burst: Whether it may use compute that its neighbours leave idle.
    """

    accelerator_id: str
    compute_share: float
    num_cores: float
    memory_bytes: int
    may_burst: bool = False

    def __post_init__(self) -> None:
        if not is_accelerator_id(self.accelerator_id):
            raise InvalidInput(
                f"accelerator id {self.accelerator_id!r} is not eia- and 32 hexadecimal digits"
            )
        if not 0 < self.compute_share <= 1:
            raise InvalidInput(f"compute_share {self.compute_share} is not above 0 and up to 1")
        if not (math.isfinite(self.num_cores) and self.num_cores > 0):
            raise InvalidInput(f"num_cores {self.num_cores} is not above 0")
        if self.memory_bytes < MIN_MEMORY_BYTES:
            raise InvalidInput(f"memory_bytes {self.memory_bytes} is less than {MIN_MEMORY_BYTES} (64 MiB)")

    @property
    def cores(self) -> float:
        """The share in cores."""
        return self.compute_share * self.num_cores


@dataclass(frozen=True)
class AppliedLimits:
    """What is now in force, and what the accelerator process must be told.

    Attributes:
        accelerator_id: Whose limits these are.
        num_threads: Threads of the engine that suit the share.
        rlimit_data_bytes: For the process's own RLIMIT_DATA: so far inside the memory limit that a model that
            is too large gets an error, not a kill.
        duty_cycle_share: Part of the time for which its `num_threads` threads may run, 1.0 included; the
            process must hold this itself (`CpuDutyCycle`). None where the kernel holds the share.
        description: `{"compute": ..., "memory": ...}`, statements with figures and means, for reports.
    """

    accelerator_id: str
    num_threads: int
    rlimit_data_bytes: int
    duty_cycle_share: float | None
    description: dict[str, str] = field(default_factory=dict)

    def describe(self) -> dict[str, str]:
        """Return a copy of the statements for reports."""
        return dict(self.description)


@dataclass(frozen=True)
class LimitUsage:
    """What a group has used since it was made, and uses now.

    Attributes:
        cpu_seconds: Over all cores and processes, those that ended included.
        throttled_seconds: Time for which the group wanted to run and was held back, summed over cores; 0.0
            where the accelerator holds its share itself (its own statistics say it then).
        memory_bytes: Now; page cache that the kernel can drop at will is not counted.
        memory_limit_bytes: The limit in force.
        num_oom_kills: Processes that the kernel killed for memory.
    """

    cpu_seconds: float
    throttled_seconds: float
    memory_bytes: int
    memory_limit_bytes: int
    num_oom_kills: int


class Limits(ABC):
    """One way of holding accelerators to their share.

    Attributes:
        name: "cgroup v1", "cgroup v2" or "rlimit and duty cycle".
        reason: Why a better way is not used here, or what was found; a sentence for `host status`.
    """

    name: str
    reason: str = ""

    @abstractmethod
    def apply(self, request: LimitRequest) -> AppliedLimits:
        """Make the group and put its limits in force. A group that exists is taken over with its processes.

        Raises:
            LimitError: The kernel refused; nothing is left behind.
        """

    @abstractmethod
    def add_process(self, accelerator_id: str, pid: int) -> None:
        """Hold a process and all that it starts from now on; call it before it executes its program.

        It needs the host's rights; `held_command` gives the moment for it without `preexec_fn`.

        Raises:
            AcceleratorNotFound: No limits were applied for this id.
            LimitError: The kernel refused, such as for a process that has ended.
        """

    @abstractmethod
    def update(self, request: LimitRequest) -> AppliedLimits:
        """Change the limits of a running accelerator; the RLIMIT_DATA of its processes too.

        `num_threads` and `duty_cycle_share` of the answer are for the process to be told: a loaded model keeps
        its threads until it is loaded again.

        Raises:
            AcceleratorNotFound: No limits were applied for this id.
            LimitError: The kernel refused, such as memory below what is in use; the old limits stand.
        """

    @abstractmethod
    def keep_to_cores(self, accelerator_id: str, cores: frozenset[int]) -> str:
        """Move all processes of an accelerator to these cores; no group of that id is fine.

        Returns:
            By what means they are kept there, for reports: "cpuset", which the kernel holds, or "affinity of
            threads", which a thread may change for itself.

        Raises:
            LimitError: The kernel refused, such as cores that this process may not use itself.
        """

    @abstractmethod
    def usage(self, accelerator_id: str) -> LimitUsage:
        """Return what the group has used. Raises AcceleratorNotFound where there is no such group."""

    @abstractmethod
    def processes(self, accelerator_id: str) -> tuple[int, ...]:
        """Process ids now in the group; empty for a group that is not there."""

    @abstractmethod
    def release(self, accelerator_id: str) -> None:
        """Kill what is left in the group and remove it; no group of that id is fine."""

    @abstractmethod
    def list_existing(self) -> tuple[str, ...]:
        """Ids whose groups exist, so that a restarted host finds those of its predecessor."""

    def close(self) -> None:
        """Remove what this object made for itself, where no accelerator is left in it. Twice is fine."""
        return


def fit_threads(request: LimitRequest) -> int:
    """Return the threads of an engine that suit a share; a bursting one gets a thread for each core of the device."""
    return whole_cores(request.num_cores if request.may_burst else request.cores)


def whole_cores(cores: float) -> int:
    """Return the threads that suit this many cores, which a quota makes a fraction.

    As many as there are cores, rounded up, but not for a sliver: two threads where only one core is free cost more than
    one thread (measured; an engine's threads wait for each other).
    """
    return max(1, math.ceil(cores - 0.25))


def fit_duty_cycle(request: LimitRequest) -> float:
    """Part of the time for which the threads that `fit_threads` gives may run, so that they use the share.

    All of it for the whole device, where there is no neighbour to hold it back for.
    """
    if request.compute_share == 1:
        return 1.0
    return min(1.0, request.cores / fit_threads(request))


def rlimit_inside(memory_bytes: int) -> int:
    """RLIMIT_DATA just inside a cgroup memory limit.

    What lies between is for what the kernel charges to the group and RLIMIT_DATA does not count: page tables,
    stacks in the kernel, socket buffers, file pages in use.
    """
    return memory_bytes - max(16 * MEBIBYTE, memory_bytes // 32)


def held_command(command: Sequence[str]) -> list[str]:
    """Return a command line that waits for one line of standard input, then executes `command` with the rest.

    So the host can call `add_process` before the program starts, and from a process with threads, where
    `preexec_fn` may deadlock: start it, add its pid, write a newline, then what the program itself reads.
    """
    # POSIX lets `read` take no byte beyond the newline, so the program finds the rest of the pipe whole.
    return ["/bin/sh", "-c", 'read -r _ && exec "$@"', "held", *command]
