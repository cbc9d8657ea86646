"""Keep the greetings that native libraries print while they are imported off standard error."""

from __future__ import annotations

import os
import re
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

_GREETINGS = re.compile(
    rb"[IW]0000 .*|WARNING: All log messages before absl::InitializeLog.*|To enable the following.*"
)


class _Held:
    """File descriptor 2 while it leads to a file: one for the process, as the descriptor is."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._num_inside = 0
        self._real = -1
        self._file: IO[bytes]

    def enter(self) -> None:
        with self._lock:
            if not self._num_inside:
                self._take_away()
            self._num_inside += 1

    def _take_away(self) -> None:
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 - closed by whoever leaves last
        try:
            self._real = os.dup(2)
        except OSError:  # the process has no standard error
            self._file.close()
        else:
            os.dup2(self._file.fileno(), 2)

    def leave(self) -> None:
        """Put the real one back when the last one leaves: two threads with copies of their own would swap theirs."""
        with self._lock:
            self._num_inside -= 1
            if self._num_inside or self._real < 0:
                return
            self._put_back()
            with self._file as file:
                file.seek(0)
                for line in file:
                    if not _GREETINGS.match(line):
                        os.write(2, line)

    def forget(self) -> None:
        """In a forked child: those inside are its parent's threads, and their file is read by the parent."""
        self._lock = threading.Lock()
        if self._num_inside and self._real >= 0:
            self._put_back()
        self._num_inside = 0

    def _put_back(self) -> None:
        os.dup2(self._real, 2)
        os.close(self._real)
        self._real = -1


_held = _Held()
os.register_at_fork(after_in_child=_held.forget)


@contextmanager
def quiet_stderr() -> Iterator[None]:
    """Hold back what the process writes to file descriptor 2, then pass on all lines that are no greetings.

    Several threads may be inside at once; what they hold back is passed on when the last one has left.
    """
    _held.enter()
    try:
        yield
    finally:
        _held.leave()
