"""What a host remembers of an accelerator: plain values, as they stand in its database."""

from __future__ import annotations

import os
import select
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from decimal import Decimal
from enum import Enum
from pathlib import Path
from typing import Any

from elastic_inference.host.types import AcceleratorType
from elastic_inference.host.usage import Sample


class State(Enum):
    """Where an accelerator is in its life."""

    STARTING = "starting"  # attached, its process does not serve yet
    READY = "ready"  # its process serves
    RESTARTING = "restarting"  # its process died, and the next one is being started
    DRAINING = "draining"  # it finishes what is in flight and takes nothing new
    STOPPED = "stopped"  # the host was stopped in order; its next start starts the process again


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
    """The kernel's random name for this run of the machine."""
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


def data_size_bytes(pid: int) -> int:
    """What RLIMIT_DATA counts of a process now (VmData of /proc/PID/status); 0 where there is none."""
    try:
        text = Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    lines = (line.split() for line in text.splitlines())
    return next((int(line[1]) * 1024 for line in lines if line[0] == "VmData:"), 0)


def open_pidfd(identity: ProcessIdentity) -> int | None:
    """A descriptor that becomes readable when the process ends; None where it has ended already."""
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


@dataclass(frozen=True)
class AcceleratorRecord:
    """One attached accelerator.

    Attributes:
        kind: The type as it was when attached; a changed catalogue does not change it.
        share: Part of the device that it holds, above 0 and up to 1.
        token_sha256: Hash of its bearer token; the token itself is nowhere kept.
        process: The process that serves or served it last; None before the first.
        endpoints: Where it serves; the same over restarts.
        port: Its TCP port; None where it serves no TCP.
        num_restarts: How often its process was started again because it had died.
        last_exit: How its process ended last, a sentence; "" where none has.
        lease_seconds: It is detached when no heartbeat came for so long; None: never.
        created_at: Seconds since 1970, UTC.
        sample: Counters as last read, so that a host that starts again counts nothing twice.
    """

    accelerator_id: str
    name: str
    kind: AcceleratorType
    device: str
    share: float
    token_sha256: str
    created_at: float
    state: State = State.STARTING
    uid: int | None = None
    process: ProcessIdentity | None = None
    endpoints: tuple[str, ...] = ()
    port: int | None = None
    num_restarts: int = 0
    last_exit: str = ""
    lease_seconds: float | None = None
    sample: Sample = field(default_factory=Sample)


def type_to_json(kind: AcceleratorType) -> dict[str, Any]:
    """A JSON object that `type_from_json` reads back; the price is text, because JSON has no decimals."""
    usd = kind.usd_per_hour
    return {**asdict(kind), "usd_per_hour": None if usd is None else str(usd)}


def type_from_json(value: Mapping[str, Any]) -> AcceleratorType:
    """Read what `type_to_json` wrote."""
    usd = value["usd_per_hour"]
    return AcceleratorType(**{**value, "usd_per_hour": None if usd is None else Decimal(usd)})
