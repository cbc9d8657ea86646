"""One process of an accelerator, from its start until it serves: it waits for its configuration and answers it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import Any

from elastic_inference.accelerator.config import WAITING, AcceleratorConfig
from elastic_inference.errors import ConnectError, StartFailed
from elastic_inference.limits.processes import ProcessIdentity, wait_readable

_READY_LINE_LIMIT_BYTES = 1 << 16
_LOG_TAIL_BYTES = 2000


class Child:
    """One process that was started, from the moment when it waits for its configuration."""

    def __init__(
        self,
        popen: subprocess.Popen[bytes],
        stdin: socket.socket,
        uid: int | None,
        home: Path,
        log_path: Path,
    ) -> None:
        self._popen = popen
        self._stdin = stdin
        self.uid = uid
        self.home = home
        self.log_path = log_path
        self._is_waiting = False
        self.identity = ProcessIdentity.of_pid(popen.pid, os.geteuid() if uid is None else uid)

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._popen.pid

    @property
    def is_waiting(self) -> bool:
        """Whether it has imported its program and waits for its configuration; one caller at a time."""
        if not self._is_waiting and wait_readable((self._stdin.fileno(),), 0.0):
            with contextlib.suppress(ConnectionResetError):
                self._is_waiting = self._stdin.recv(len(WAITING)) == WAITING
        return self._is_waiting

    def wait_until_waiting(self, deadline: float, wake_fd: int) -> None:
        """Return when it has imported its program.

        Args:
            deadline: On the monotonic clock, seconds.
            wake_fd: When this becomes readable, nobody wants the process any more.

        Raises:
            StartFailed: It ended, or was not ready in time.
        """
        if not self._is_waiting:
            wait_readable((self._stdin.fileno(), wake_fd), max(0.0, deadline - time.monotonic()))
        if not self.is_waiting:
            raise self._failure()

    def _failure(self) -> StartFailed:
        return StartFailed(f"the accelerator process did not become ready: {tail_of_log(self.log_path)}")

    def configure(self, config: AcceleratorConfig, deadline: float, wake_fd: int) -> dict[str, Any]:
        """Tell the process what it is and wait until it serves.

        Args:
            deadline: On the monotonic clock, seconds.
            wake_fd: When this becomes readable, nobody wants the process any more.

        Returns:
            Its ready line: accelerator_id, pid, endpoints.

        Raises:
            ConnectError: It could not listen where it should.
            StartFailed: It failed otherwise, ended, or was not ready in time.
        """
        with contextlib.suppress(BrokenPipeError, ConnectionResetError), self._stdin as stdin:
            config.send(stdin)
        line = self._read_line(deadline, wake_fd)
        try:
            ready = json.loads(line)
        except ValueError:
            raise self._failure() from None
        if "error" in ready:
            kind = ConnectError if ready.get("code") == "ConnectError" else StartFailed
            raise kind(f"the accelerator process did not start: {ready['error']}")
        return dict(ready)

    def _read_line(self, deadline: float, wake_fd: int) -> bytes:
        assert self._popen.stdout is not None
        fd = self._popen.stdout.fileno()
        line = b""
        while not line.endswith(b"\n") and len(line) < _READY_LINE_LIMIT_BYTES:
            left = deadline - time.monotonic()
            readable = wait_readable((fd, wake_fd), left) if left > 0 else frozenset()
            if fd not in readable:
                return line
            block = os.read(fd, 4096)
            if not block:
                break
            line += block
        return line

    def move_log(self, path: Path) -> None:
        """Give the log another name; the process goes on writing into it."""
        os.replace(self.log_path, path)
        self.log_path = path

    def poll(self) -> int | None:
        """Its exit status once it has ended (negative: the signal), else None."""
        return self._popen.poll()

    def kill(self) -> None:
        """End it at once and take what it leaves; twice is fine."""
        with contextlib.suppress(ProcessLookupError):
            self._popen.kill()
        self._popen.wait()
        self.close()

    def close(self) -> None:
        """Close the pipes; the process is not touched."""
        self._stdin.close()
        if self._popen.stdout is not None:
            with contextlib.suppress(OSError):
                self._popen.stdout.close()


def tail_of_log(path: Path) -> str:
    """Return the last of what a process wrote into its log, for who reads why it does not start."""
    text = path.read_bytes()[-_LOG_TAIL_BYTES:].decode(errors="replace").strip()
    return text or "it wrote no log"


def describe_exit(status: int | None) -> str:
    """Return an exit status as a few words; None where the process was not this host's child."""
    if status is None:
        return "ended"
    if status >= 0:
        return f"exited with status {status}"
    try:
        return f"killed by {signal.Signals(-status).name}"
    except ValueError:
        return f"killed by signal {-status}"
