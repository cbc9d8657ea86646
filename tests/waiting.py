"""Waits of tests, each with an end: what does not happen in time fails the test that waits for it, by name."""

from __future__ import annotations

import contextlib
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

WAIT_SECONDS = 60.0
_PAUSES = (
    0.005,
    0.1,
)  # at first, for what is there in a moment; and later, for a host lets nobody ask without end


def wait_until(
    condition: Callable[[], object], what: str = "the condition", seconds: float = WAIT_SECONDS
) -> None:
    """Wait until a condition holds; AssertionError with `what` where it does not in time."""
    deadline = time.monotonic() + seconds
    pause, longest = _PAUSES
    never = threading.Event()
    while not condition():
        assert time.monotonic() < deadline, f"waited {seconds:.0f} s in vain for: {what}"
        never.wait(pause)
        pause = min(longest, 1.1 * pause)


def read_line(process: subprocess.Popen[str], seconds: float = WAIT_SECONDS) -> str:
    """The next line that a process prints, without its end, "" where it has ended.

    A process that is silent for too long is killed: only that ends the read.
    """
    assert process.stdout is not None
    too_long = threading.Timer(seconds, process.kill)
    too_long.start()
    try:
        return process.stdout.readline().rstrip("\n")
    finally:
        too_long.cancel()


def files_of(pid: int) -> set[Path]:
    """The files that a process has open."""
    found = set()
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            found.add(link.readlink())
    return found
