"""Processes that a Ray actor starts and starts again, and that outlive the actor for as long as its own restart takes.

Ray restarts an actor that dies, but the pool service and the hosts must not end with it: clients use them. So the actor
holds a lock while it lives, writes down what it started, and finds that again after its own restart; a process that
sees the lock free for too long ends itself. Nothing is left behind when Ray is stopped.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import logging
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import IO

from elastic_inference.limits.processes import ProcessIdentity, open_pidfd, send_signal, wait_readable

logger = logging.getLogger(__name__)

UNSUPERVISED_SECONDS = 15.0
LOCK = "supervisor.lock"
REMEMBERED = "processes.json"
OTHERS_END_SECONDS = 10.0
_LOOK_SECONDS = 1.0
_PAUSE_SECONDS = 0.05
_MOST_PAUSE_SECONDS = 5.0
_STEADY_SECONDS = 10.0  # after which a process that ended is started again without a pause


def watch_supervisor(lock: Path, end: Callable[[], None] | None = None) -> None:
    """End this process by SIGTERM where nobody has held the lock for `UNSUPERVISED_SECONDS`; runs in a thread."""
    last_seen = time.monotonic()
    while time.monotonic() - last_seen < UNSUPERVISED_SECONDS:
        time.sleep(_LOOK_SECONDS)
        if is_held(lock):
            last_seen = time.monotonic()
    logger.warning("nobody supervises this process, so it ends", extra={"lock": str(lock)})
    (end or (lambda: os.kill(os.getpid(), signal.SIGTERM)))()


def is_held(path: Path) -> bool:
    """Whether a supervisor holds this lock."""
    try:
        with open(path) as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


class Supervisor:
    """Keeps some processes of one command running, in threads.

    Args:
        folder: For the lock and what is remembered; made where it is absent.
        command: What each process runs.
        first_line: What it gets on its standard input.
        num_processes: How many.
        log: Where their standard error goes.
    """

    def __init__(
        self,
        folder: Path,
        command: Sequence[str],
        first_line: str,
        num_processes: int,
        log: Path,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._command = list(command)
        self._first_line = first_line
        self._log = log
        self._environment = None if environment is None else dict(environment)
        self._stop = threading.Event()
        self._wake_read, self._wake_write = os.pipe()
        self._lock_file = _take_lock(folder / LOCK)
        self._told_sha256 = hashlib.sha256(first_line.encode()).hexdigest()
        self._pids: dict[int, ProcessIdentity] = self._remembered()
        self._lock = threading.Lock()
        self._threads = [
            threading.Thread(target=self._keep, args=(number,), name=f"keep {number}", daemon=True)
            for number in range(num_processes)
        ]
        for thread in self._threads:
            thread.start()

    def pids(self) -> list[int]:
        """Return the processes that live."""
        with self._lock:
            return [identity.pid for identity in self._pids.values() if identity.is_alive()]

    def stop(self, seconds: float) -> None:
        """End the processes: SIGTERM, and SIGKILL for those that take longer. Twice is fine."""
        self._stop.set()
        with contextlib.suppress(OSError):
            os.write(self._wake_write, b"x")
        for thread in self._threads:
            thread.join()
        with self._lock:
            identities = list(self._pids.values())
        _end(identities, seconds)
        self._lock_file.close()

    def _keep(self, number: int) -> None:
        pause = _PAUSE_SECONDS
        while not self._stop.is_set():
            identity = self._pids.get(number)
            child = None
            if identity is None or not identity.is_alive():
                child = self._start(number)
            began = time.monotonic()
            self._wait_end(self._pids[number])
            if self._stop.is_set():
                return
            status = None if child is None else child.wait()
            lasted = time.monotonic() - began
            logger.warning("a process ended and is started again", extra={"status": status})
            pause = _PAUSE_SECONDS if lasted > _STEADY_SECONDS else min(_MOST_PAUSE_SECONDS, 2 * pause)
            self._stop.wait(pause)

    def _start(self, number: int) -> subprocess.Popen[str]:
        with open(self._log, "a") as log:
            child = subprocess.Popen(
                self._command,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                text=True,
                start_new_session=True,  # signals for Ray's own group are not for it
                env=self._environment,
            )
        assert child.stdin is not None
        with contextlib.suppress(BrokenPipeError), child.stdin:
            child.stdin.write(self._first_line + "\n")
        with self._lock:
            self._pids[number] = ProcessIdentity.of_pid(child.pid, os.geteuid())
            processes = {str(key): asdict(each) for key, each in self._pids.items()}
            remembered = {"told_sha256": self._told_sha256, "processes": processes}
            partial = self._folder / "processes.partial"  # two threads at once would write into each other's
            partial.write_text(json.dumps(remembered))
            os.replace(partial, self._folder / REMEMBERED)
        return child

    def _wait_end(self, identity: ProcessIdentity) -> None:
        pidfd = open_pidfd(identity)
        if pidfd is None:
            return
        try:
            wait_readable((pidfd, self._wake_read), None)
        finally:
            os.close(pidfd)

    def _remembered(self) -> dict[int, ProcessIdentity]:
        try:
            value = json.loads((self._folder / REMEMBERED).read_text())
            found = {int(key): ProcessIdentity(**each) for key, each in value["processes"].items()}
            is_same = value["told_sha256"] == self._told_sha256
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            return {}
        alive = {key: each for key, each in found.items() if each.is_alive()}
        if is_same:
            return alive
        _end(alive.values(), OTHERS_END_SECONDS)  # they do what an earlier start said
        return {}


def _end(identities: Iterable[ProcessIdentity], seconds: float) -> None:
    """End processes: SIGTERM, and SIGKILL for those that take longer."""
    found = [pidfd for each in identities if (pidfd := open_pidfd(each)) is not None]
    deadline = time.monotonic() + seconds
    for pidfd in found:
        send_signal(pidfd, signal.SIGTERM)
    for pidfd in found:
        if not wait_readable((pidfd,), max(0.0, deadline - time.monotonic())):
            send_signal(pidfd, signal.SIGKILL)
            wait_readable((pidfd,), 5.0)
        os.close(pidfd)


def remembered_processes(folder: Path) -> list[ProcessIdentity]:
    """Return the processes that a supervisor of this folder started, those that have ended too."""
    value = json.loads((folder / REMEMBERED).read_text())
    return [ProcessIdentity(**each) for each in value["processes"].values()]


def end_process(identity: ProcessIdentity, seconds: float) -> None:
    """End a process: SIGTERM, and SIGKILL where it takes longer. One that has ended is fine."""
    _end([identity], seconds)


def open_lock(path: Path) -> IO[str]:
    """Open a file that is locked, for its owner alone."""
    return os.fdopen(os.open(path, os.O_CREAT | os.O_RDWR, 0o600), "a")


def _take_lock(path: Path) -> IO[str]:
    file = open_lock(path)
    fcntl.flock(file, fcntl.LOCK_EX)
    return file
