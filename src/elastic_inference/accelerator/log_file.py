"""Keeps the file behind standard error from filling the disk, whoever writes there: this program or an engine.

An engine writes past Python's logging (TensorFlow's Print wrote 142 MB in 4 s), so the file itself is looked at. The
host opened it for appending, so to cut it moves no writer: the next line goes to its new end.
"""

from __future__ import annotations

import contextlib
import logging
import os
import stat
import threading

log = logging.getLogger(__name__)
MAX_LOG_BYTES = 16 << 20
KEPT_BYTES = 1 << 20  # of the end, when it is cut
CHECK_SECONDS = 0.25


def cut_if_long(fd: int, max_bytes: int = MAX_LOG_BYTES, kept_bytes: int = KEPT_BYTES) -> bool:
    """Cut a file to its last lines where it has grown too long; anything but a file is left alone.

    Returns:
        Whether it was cut.
    """
    status = os.fstat(fd)
    if not stat.S_ISREG(status.st_mode) or status.st_size <= max_bytes:
        return False
    # By its own name, because what the host opened can be written only.
    reader = os.open(f"/proc/self/fd/{fd}", os.O_RDONLY)
    try:
        end = os.pread(reader, kept_bytes, status.st_size - kept_bytes)
    finally:
        os.close(reader)
    os.ftruncate(fd, 0)
    os.write(fd, end[end.find(b"\n") + 1 :])
    return True


def keep_short(fd: int = 2) -> None:
    """Look after a log file in the background for as long as the process lives."""
    threading.Thread(target=_run, args=(fd,), name="log file", daemon=True).start()


def _run(fd: int) -> None:
    never = threading.Event()
    while not never.wait(CHECK_SECONDS):
        with contextlib.suppress(
            OSError
        ):  # a full disk, or a file that another user owns: the next look may do
            if cut_if_long(fd):
                log.warning("the log was cut: it had more than %d bytes", MAX_LOG_BYTES)
