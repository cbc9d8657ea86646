"""Which process is which, whether it lives, what it holds and when it ends: what /proc and pidfds say."""

from __future__ import annotations

import contextlib
import os
import resource
import select
import signal
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

_MANY_DESCRIPTORS = 1 << 20


@dataclass(frozen=True)
class ProcessIdentity:
    """Which process it is, also after process ids were used again or the machine started anew.

    Attributes:
        start_ticks: When it started, in clock ticks since the machine started (field 22 of /proc/PID/stat).
        boot_id: Of the machine's run.
        uid: The user that it runs as.
    """

    pid: int
    start_ticks: int
    boot_id: str
    uid: int

    @classmethod
    def of_pid(cls, pid: int, uid: int) -> ProcessIdentity:
        """Read the identity of a process that runs now; ProcessLookupError where there is none."""
        ticks = start_ticks(pid)
        if ticks is None:
            raise ProcessLookupError(f"no process {pid}")
        return cls(pid, ticks, boot_id(), uid)

    def is_alive(self) -> bool:
        """Whether exactly this process still runs."""
        return self.boot_id == boot_id() and start_ticks(self.pid) == self.start_ticks


def boot_id() -> str:
    """Return the kernel's random name for this run of the machine."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def start_ticks(pid: int) -> int | None:
    """Start time of a live process in clock ticks; None where there is none, or a zombie."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The command name may hold blanks and brackets, so count from behind the last one.
    after_name = text.rpartition(")")[2].split()
    return None if after_name[0] in "ZX" else int(after_name[19])


def is_stopped(pid: int) -> bool:
    """Whether a process is stopped, by a signal or a debugger; False where there is none."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return text.rpartition(")")[2].split()[0] in "Tt"


def list_processes() -> tuple[int, ...]:
    """All process ids of the machine (or the container) that show now."""
    return tuple(int(name) for name in os.listdir("/proc") if name.isdigit())


def process_uid(pid: int) -> int | None:
    """Return the user as which a process runs; None where there is none, or a zombie.

    Not the owner of /proc/PID, which the kernel makes root for processes that may not be looked at.
    """
    try:
        text = Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    values = dict(line.partition(":")[::2] for line in text.splitlines())
    return None if values["State"].split()[0] in "ZX" else int(values["Uid"].split()[0])


def users_with_processes() -> frozenset[int]:
    """Users as which some process runs now."""
    return frozenset(uid for pid in list_processes() if (uid := process_uid(pid)) is not None)


def data_size_bytes(pid: int) -> int:
    """Return what RLIMIT_DATA counts of a process now (VmData of /proc/PID/status); 0 where there is none."""
    try:
        text = Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    lines = (line.split() for line in text.splitlines())
    return next((int(line[1]) * 1024 for line in lines if line[0] == "VmData:"), 0)


def data_limit_bytes(pid: int) -> int | None:
    """Return the soft RLIMIT_DATA of a process; None where there is none. /proc, for prlimit needs one more right."""
    with contextlib.suppress(OSError, ValueError):
        for line in Path(f"/proc/{pid}/limits").read_text().splitlines():
            if line.startswith("Max data size"):
                return int(line.split()[3])
    return None


def send_signal(pidfd: int, number: int) -> None:
    """Send a signal to the process of a descriptor; one that has ended is fine."""
    with contextlib.suppress(ProcessLookupError):
        signal.pidfd_send_signal(pidfd, number)


def open_pidfd(identity: ProcessIdentity) -> int | None:
    """Return a descriptor that becomes readable when the process ends; None where it has ended already."""
    try:
        fd = os.pidfd_open(identity.pid)
    except ProcessLookupError:
        return None
    if identity.is_alive():  # asked after opening: from here on the number cannot mean another process
        return fd
    os.close(fd)
    return None


def wait_readable(fds: Iterable[int], seconds: float | None) -> frozenset[int]:
    """Those of `fds` that are readable, as soon as one is or after `seconds` (None: without limit)."""
    poller = select.poll()  # select cannot watch descriptors beyond 1023
    for fd in fds:
        poller.register(fd, select.POLLIN)
    milliseconds = None if seconds is None else max(0, round(seconds * 1000))
    return frozenset(fd for fd, _ in poller.poll(milliseconds))


def raise_descriptor_limit() -> int:
    """Let this process open as many descriptors as its hard limit says; gives that number.

    The usual soft limit of 1,024 is for programs that use `select`, which cannot watch more.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard if hard != resource.RLIM_INFINITY else _MANY_DESCRIPTORS
