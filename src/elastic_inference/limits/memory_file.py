"""Memory that processes of different users share, without a name in any file system.

Nothing is left of it when its last process has ended, and only who was handed its descriptor reaches it. Sealed, it
keeps its size: who cut it short would end whoever reads it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from pathlib import Path

_SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL


def create(name: str, content: bytes | bytearray) -> int:
    """Make a file that holds this; the descriptor is the caller's."""
    fd = os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.fchmod(fd, 0o644)
    os.write(fd, content)
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _SEALS)
    return fd


def paths(pid: int) -> dict[str, Path]:
    """Where such files of a process lie in /proc, by name; none where it may not be asked."""
    found: dict[str, Path] = {}
    with contextlib.suppress(OSError):
        for path in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                target = os.readlink(path)
                if target.startswith("/memfd:") and target.endswith(" (deleted)"):
                    found[target.removeprefix("/memfd:").removesuffix(" (deleted)")] = path
    return found


def open_again(path: Path) -> int | None:
    """Open a file that another process has; None where it is gone, or could be cut short."""
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return None
    with contextlib.suppress(OSError):
        if fcntl.fcntl(fd, fcntl.F_GET_SEALS) & _SEALS == _SEALS:
            return fd
    os.close(fd)
    return None
