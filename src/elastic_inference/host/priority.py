"""The host's own place among the programs of its machine: before the accelerators, whose groups would starve it."""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path

HOST_NICE = -10
"""Where the groups of accelerators saturate all cores, a host at nice 0 gets a tenth of one: starting again took it
38 s. Its work is short and rare, so that tenants notice little of its going first."""


_MOST_TRIES, _PAUSE_SECONDS = 10, 0.05
_CAP_SYS_NICE = 23  # linux/capability.h


def may_change() -> bool:
    """Whether this process may raise priorities: as root, but for a container that was given no CAP_SYS_NICE."""
    if os.geteuid() != 0:
        return False
    status = Path("/proc/self/status").read_text()
    effective = next(line.split()[1] for line in status.splitlines() if line.startswith("CapEff:"))
    return bool(int(effective, 16) >> _CAP_SYS_NICE & 1)


def come_first() -> bool:
    """Let this process, and the threads that it makes, run before others, where it may.

    What it starts inherits that; `launch` takes it back.

    Returns:
        Whether it does.
    """
    if not may_change():
        return False
    os.setpriority(os.PRIO_PROCESS, 0, HOST_NICE)
    # The kernel may divide cores by session first, and then a process's own priority counts within its session alone.
    # Only where the session is the host's own: in a shell's, every other program of that shell would rise too.
    if os.getsid(0) == os.getpid():
        with contextlib.suppress(OSError):
            Path("/proc/self/autogroup").write_text(str(HOST_NICE))
    return True


def set_idle(pid: int, is_idle: bool) -> None:
    """Let a process run when nothing else wants the core, or like others again; one that has ended is fine.

    The lowest priority alone would do less: it still gets a turn of some milliseconds, which a call then waits for.
    """
    # Each thread has its own; the first comes first, for those that it makes meanwhile inherit from it.
    _set_thread_idle(pid, is_idle)
    with contextlib.suppress(FileNotFoundError):
        for name in os.listdir(f"/proc/{pid}/task"):
            _set_thread_idle(int(name), is_idle)
    # A session of its own has a share of its own, in which its own priority counts for nothing.
    for _ in range(1 if is_idle else _MOST_TRIES):
        try:
            Path(f"/proc/{pid}/autogroup").write_text("19" if is_idle else "0")
        except BlockingIOError:  # so often as ten times a second only an administrator may
            time.sleep(_PAUSE_SECONDS)
        except OSError:  # a kernel without
            return
        else:
            return


def _set_thread_idle(thread: int, is_idle: bool) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.sched_setscheduler(thread, os.SCHED_IDLE if is_idle else os.SCHED_OTHER, os.sched_param(0))
        os.setpriority(os.PRIO_PROCESS, thread, 19 if is_idle else 0)
