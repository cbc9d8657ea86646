"""Locks between processes that the kernel frees when their holder ends, however it ends."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path

_LOOK_SECONDS = 0.02


@contextlib.contextmanager
def holding(path: Path, timeout_seconds: float | None = None, mode: int = 0o600) -> Iterator[bool]:
    """Hold the lock of this name for the block; threads of one process exclude each other too.

    Args:
        path: A file that is made, and removed at the end.
        timeout_seconds: How long to wait for whoever has it; None waits without limit.
        mode: The file's rights.

    Yields:
        Whether it is held. It is not where the time was up, or where no such file can be made.
    """
    file = _acquired(path, timeout_seconds, mode)
    try:
        yield file is not None
    finally:
        if file is not None:
            with contextlib.suppress(OSError):
                path.unlink()  # with the lock held: whoever waits sees that its file is another one, and begins anew
            os.close(file)


def _acquired(path: Path, timeout_seconds: float | None, mode: int) -> int | None:
    until = None if timeout_seconds is None else time.monotonic() + timeout_seconds
    while True:
        try:
            file = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, mode)
        except OSError:
            return None
        if _locked(file, until) and is_file(file, path):
            return file
        os.close(file)
        if until is not None and time.monotonic() >= until:
            return None


def _locked(file: int, until: float | None) -> bool:
    if until is None:
        fcntl.flock(file, fcntl.LOCK_EX)
        return True
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if time.monotonic() >= until:
                return False
            time.sleep(_LOOK_SECONDS)


def is_file(file: int, path: Path) -> bool:
    """Whether an open file is still the one of that name."""
    try:
        return os.path.samestat(os.fstat(file), os.stat(path))
    except OSError:
        return False


def keep(path: Path) -> int:
    """Show that a process lives which uses this file or folder, as long as the returned descriptor is open."""
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    fcntl.flock(file, fcntl.LOCK_SH)
    return file


def is_kept(path: Path) -> bool:
    """Whether a living process uses this file or folder."""
    try:
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return False
    except BlockingIOError:
        return True
    finally:
        os.close(file)
