"""The host's own place among the programs of its machine: before the accelerators, whose groups would starve it."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

HOST_NICE = -10
"""Where the groups of accelerators saturate all cores, a host at nice 0 gets a tenth of one: starting again took it
38 s. Its work is short and rare, so that tenants notice little of its going first."""


def come_first() -> None:
    """Let this process, and the threads that it makes, run before others, if it is root.

    What it starts inherits that; `launch` takes it back.
    """
    if os.geteuid() != 0:
        return
    os.setpriority(os.PRIO_PROCESS, 0, HOST_NICE)
    # The kernel may divide cores by session first, and then a process's own priority counts within its session alone.
    # Only where the session is the host's own: in a shell's, every other program of that shell would rise too.
    if os.getsid(0) == os.getpid():
        with contextlib.suppress(OSError):
            Path("/proc/self/autogroup").write_text(str(HOST_NICE))
