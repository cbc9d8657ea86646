"""Starts accelerator processes without the host's rights, and a few in advance, for import takes longest.

A process is started with nothing but its program; it waits on its standard input for its configuration. So the host can
write down which process it is, and put it under its limits, before it does anything for a tenant; and a process whose
host dies first reads the end of its input and ends itself.
"""

from __future__ import annotations

import collections
import ctypes
import fnmatch
import logging
import os
import secrets
import socket
import subprocess
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from elastic_inference.errors import CapacityExceeded, StartFailed
from elastic_inference.host import priority
from elastic_inference.host.processes.child import Child, describe_exit, tail_of_log
from elastic_inference.host.processes.folders import HostFolder
from elastic_inference.host.processes.isolation import Isolation
from elastic_inference.host.processes.users import Users

logger = logging.getLogger(__name__)

_PR_SET_NO_NEW_PRIVS = 38
# Of the host's environment, what drivers of GPUs need and what the operator says of them. All else may hold what is the
# operator's, such as the keys of an OpenTelemetry collector, or change what a tenant's engine computes.
_PASSED_ON = (
    "CUDA_DEVICE_ORDER", "CUDA_MPS_LOG_DIRECTORY", "CUDA_MPS_PIPE_DIRECTORY", "CUDA_VISIBLE_DEVICES",
    "EI_CUDA_GRAPHS", "LD_LIBRARY_PATH", "NVIDIA_DRIVER_CAPABILITIES", "NVIDIA_VISIBLE_DEVICES",
)  # fmt: skip
_KEPT_LOGS = 5


class Launcher:
    """Starts processes for accelerators.

    Args:
        folder: For their homes and logs; exists and is the host's.
        num_spares: Processes that wait in advance, so that an attach need not wait for an interpreter.
        users: From which each new process gets one.
        engine: That processes import before they get their configuration; None: each imports what its first
            model wants.
        pass_on: Further variables of the host's environment for them: names, or beginnings of names and `*`.
    """

    def __init__(
        self,
        folder: HostFolder,
        isolation: Isolation,
        users: Users,
        num_spares: int = 1,
        pass_on: Sequence[str] = (),
        engine: str | None = None,
    ) -> None:
        self.isolation = isolation
        self._folder = folder
        self._homes = folder.homes
        self._own_homes: set[Path] = set()  # of this run, spare processes' among them
        self._logs = folder.logs
        self._num_spares = num_spares
        self._users = users
        self._given: dict[str, int] = {}  # users by accelerator, of those that were started in this run
        self._engines = [] if engine is None else [engine]
        self._pass_on = (*_PASSED_ON, *pass_on)
        self._spares: collections.deque[Child] = collections.deque()
        self._lock = threading.Lock()
        self._is_closed = False
        # no_new_privs is a property of a thread that its children inherit: one thread gives it to all of them.
        self._starter = ThreadPoolExecutor(1, "launch", initializer=_set_no_new_privs)

    def open(self) -> None:
        """Make the folders."""
        self._homes.mkdir(mode=0o711, exist_ok=True)
        self._logs.mkdir(mode=0o700, exist_ok=True)
        os.chmod(self._homes, 0o711)

    def close(self) -> None:
        """End the spare processes; twice is fine."""
        with self._lock:
            self._is_closed = True
        self._starter.shutdown(wait=True)
        while self._spares:
            child = self._spares.popleft()
            child.kill()
            self.forget(child)

    @property
    def num_spares_ready(self) -> int:
        """How many processes wait in advance, their imports done."""
        with self._lock:
            return sum(child.is_waiting for child in self._spares)

    def take(self, uid: int | None, name: str, environment: Mapping[str, str] | None = None) -> Child:
        """Return a process that waits for its configuration: a spare one, or for a given user a new one.

        Args:
            uid: The user it must have, because folders are that user's already; None: any.
            name: Its log's.
            environment: Further variables; a process that needs some cannot be a spare one.

        Raises:
            StartFailed: It could not be started.
            CapacityExceeded: All users are taken.
        """
        accelerator_id = name.partition(".")[0]
        # Given before, and not written down where its user is looked up: the database may have been away.
        uid = self._given.get(accelerator_id) if uid is None else uid
        child = self._take_spare() if uid is None and not environment else None
        if child is None:
            # It imports the engine too before it says that it waits: within a small share that takes half a second.
            child = self._starter.submit(self._start, uid, environment or {}, self._engines).result()
        try:
            child.move_log(self._logs / f"{name}.log")
            self._prune_logs(accelerator_id)
        except OSError as error:
            child.kill()
            self.remove_home(child.home, child.uid if uid is None else None)
            raise StartFailed(f"the accelerator's log cannot be made: {error}") from error
        if child.uid is not None:
            self._given[accelerator_id] = child.uid
        self._set_idle(child, False)
        return child

    def _take_spare(self) -> Child | None:
        while True:
            with self._lock:
                child = self._spares.popleft() if self._spares else None
            if child is None or child.poll() is None:
                return child
            child.kill()  # which has ended already: this closes its pipes
            self.forget(child)

    def refill(self) -> None:
        """Start spare processes until there are enough, in the background."""
        with self._lock:
            if not self._is_closed:
                self._starter.submit(self._refill)

    def _refill(self) -> None:
        while not self._is_closed and len(self._spares) < self._num_spares:
            try:
                child = self._start(None, {}, self._engines)
            except (StartFailed, CapacityExceeded) as error:
                logger.warning("no spare process: %s", error)
                return
            self._set_idle(child, True)  # the import must not take compute from tenants
            with self._lock:
                self._spares.append(child)

    def _set_idle(self, child: Child, is_idle: bool) -> None:
        if priority.may_change():  # others could not take it back
            priority.set_idle(child.pid, is_idle)

    def _start(self, uid: int | None, environment: Mapping[str, str], engines: Sequence[str]) -> Child:
        is_new = uid is None
        uid = self._users.take() if is_new else uid
        token = secrets.token_hex(8)
        home, log_path = self._homes / token, self._logs / f"spare-{token}.log"
        self._own_homes.add(home)
        try:
            home.mkdir(mode=0o700)
            if uid is not None:
                os.chown(home, uid, uid)
            # A socket and not a pipe: a lease's descriptors go with the configuration.
            ours, theirs = socket.socketpair()
            with theirs:
                popen = self._open_process(uid, home, log_path, environment, theirs.fileno(), engines)
            try:
                return Child(popen, ours, uid, home, log_path)
            except OSError as error:
                ours.close()
                popen.kill()
                popen.communicate()
                if not isinstance(error, ProcessLookupError):
                    raise
                why = f"{describe_exit(popen.returncode)} at once: {tail_of_log(log_path)}"
                raise StartFailed(f"the accelerator process {why}") from error
        except (OSError, subprocess.SubprocessError, StartFailed) as error:
            self.remove_home(home, uid if is_new else None)
            log_path.unlink(missing_ok=True)
            if isinstance(error, StartFailed):
                raise
            raise StartFailed(f"cannot start {self.isolation.python}: {error}") from error

    def _open_process(
        self,
        uid: int | None,
        home: Path,
        log_path: Path,
        environment: Mapping[str, str],
        stdin: int,
        engines: Sequence[str],
    ) -> subprocess.Popen[bytes]:
        identity: dict[str, Any] = {} if uid is None else {"user": uid, "group": uid, "extra_groups": []}
        with open(os.open(log_path, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600), "ab") as log:
            return subprocess.Popen(
                [self.isolation.python, "-m", "elastic_inference.accelerator", *engines],
                stdin=stdin,
                stdout=subprocess.PIPE,
                stderr=log,
                cwd=home,
                env={**self._environment(home), **environment},
                start_new_session=True,
                umask=0o077,
                **identity,
            )

    def _environment(self, home: Path) -> dict[str, str]:
        kept = {
            k: v for k, v in os.environ.items() if any(fnmatch.fnmatchcase(k, one) for one in self._pass_on)
        }
        own = {"PATH": "/usr/bin:/bin", "HOME": str(home), "TMPDIR": str(home), "LANG": "C.UTF-8"}
        if self.isolation.python_path:
            own["PYTHONPATH"] = self.isolation.python_path
        if self.isolation.uids is not None:
            own["PYTHONDONTWRITEBYTECODE"] = "1"
            own["LOGNAME"] = (
                "accelerator"  # such users have no name, which PyTorch up to 2.11 wants as it loads
            )
        return {**kept, **own, "PYTHONSAFEPATH": "1"}

    def release_user(self, accelerator_id: str, uid: int | None) -> None:
        """Give back the user of an accelerator of which nothing is left; `uid` where an earlier run started it last."""
        self._users.give_back(self._given.pop(accelerator_id, uid))

    def forget(self, child: Child) -> None:
        """Take away what a spare process had: its home, log and user."""
        child.log_path.unlink(missing_ok=True)
        self.remove_home(child.home, child.uid)

    def remove_home(self, home: Path, uid: int | None = None) -> None:
        """Remove the home of a process that has ended, and give back its user; a path that is none is left alone."""
        if home.parent == self._homes:
            self._own_homes.discard(home)
            self._folder.remove_tree(home, lambda: self._users.give_back(uid))

    def _prune_logs(self, accelerator_id: str) -> None:
        """Keep the logs of the last processes only, for one that dies again and again would fill the disk."""
        logs = sorted(self._logs.glob(f"{accelerator_id}.*.log"), key=lambda p: p.stat().st_mtime)
        for path in logs[:-_KEPT_LOGS]:
            path.unlink(missing_ok=True)

    def remove_logs(self, accelerator_id: str) -> None:
        """Remove the logs of an accelerator."""
        for path in self._logs.glob(f"{accelerator_id}.*.log"):
            path.unlink(missing_ok=True)

    def clean_homes(self, kept: frozenset[Path]) -> None:
        """Remove homes that an earlier run of the host left, but those kept; this run's spare processes have theirs."""
        for home in self._homes.iterdir() if self._homes.exists() else ():
            if home not in kept and home not in self._own_homes:
                self._folder.remove_tree(home)


def _set_no_new_privs() -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_NO_NEW_PRIVS)")
