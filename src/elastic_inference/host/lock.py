"""That a state directory belongs to one running host: a lock that ends with its process."""

from __future__ import annotations

import contextlib
import fcntl
import os
from pathlib import Path
from typing import IO

from elastic_inference.errors import InvalidInput


class DirectoryLock:
    """The lock of a state directory, taken and given back by one process. Use as a context, or both methods."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: IO[str] | None = None  # held as long as it is open

    def take(self) -> None:
        """Take it; raises InvalidInput where another host runs with the directory."""
        # For its owner alone: whoever may open the file can lock it, and would keep the host from starting.
        file = os.fdopen(os.open(self._path, os.O_CREAT | os.O_RDWR, 0o600), "a")
        os.fchmod(file.fileno(), 0o600)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            file.close()
            raise InvalidInput(f"another host runs with state directory {self._path.parent}") from error
        self._file = file

    def release(self) -> None:
        """Give it back; twice is fine."""
        if self._file is not None:
            with contextlib.suppress(OSError):
                self._file.close()
            self._file = None

    def __enter__(self) -> DirectoryLock:
        self.take()
        return self

    def __exit__(self, *_: object) -> None:
        self.release()
