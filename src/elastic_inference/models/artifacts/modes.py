"""With which rights the files of a store are made: for one user alone, or for several that share a folder."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Modes:
    """Rights of what a store makes; the umask of the process must not take any of them away.

    Attributes:
        folder, file: Of folders, and of files that are written.
        blob: Of whole files. The kernel lets nobody make a hard link to another user's file that it may not write.
        is_shared: Whether files of other users are to be expected.
    """

    folder: int
    file: int
    blob: int
    is_shared: bool

    def seal(self, path: Path) -> None:
        """Give a whole file its rights; one that another user began has them."""
        if not self.is_shared:
            os.chmod(path, self.blob)

    def touch(self, path: Path, unix_seconds: float) -> None:
        """Note that a file was used; raises OSError. Of another user's file the kernel takes no time but its own."""
        with contextlib.suppress(PermissionError):
            os.utime(path, (unix_seconds, unix_seconds))
            return
        os.utime(path)


PRIVATE = Modes(0o700, 0o600, 0o400, is_shared=False)
SHARED = Modes(0o777, 0o666, 0o666, is_shared=True)
"""For users whom a folder above lets in, and nobody else."""
