"""A private accelerator on this machine for one program: started when first needed, gone when the program ends.

It listens on a Unix socket in a folder that only this user can open, asks for a token, and watches this process by a
pidfd: however the program ends, by SIGKILL too, the accelerator ends and removes the folder.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from elastic_inference import interpreter
from elastic_inference.client.connection import Address
from elastic_inference.deadline import NO_DEADLINE, Deadline
from elastic_inference.errors import ConnectionLost, ElasticInferenceError, EngineNotAvailable
from elastic_inference.protocol.endpoint import UNIX_PATH_LIMIT, Endpoint
from elastic_inference.protocol.status import decode_error

_PREFIX, _SOCKET_NAME = "elastic-inference-", "accelerator.sock"
END_SECONDS = 10.0
EXPLAIN_SECONDS = 0.1


@dataclass(frozen=True)
class EmbeddedOptions:
    """What a private accelerator is started with; predictors with equal options share one.

    Attributes:
        num_threads: Of the engine; None: all cores of this process.
        artifacts_dir: Its artifact store; None: it keeps nothing.
        store_limit_bytes: What that may hold.
        allow_unsafe_operations: See EngineOptions.
        record_requests: How many requests' inputs of each model it keeps, to choose a precision by them; 0: none.
        module: What `python -m` runs; the testing package has another one.
    """

    num_threads: int | None = None
    device: str = "cpu:0"
    artifacts_dir: str | None = None
    store_limit_bytes: int | None = None
    allow_unsafe_operations: bool = False
    record_requests: int = 0
    module: str = "elastic_inference.accelerator"


def check_system() -> None:
    """Raise EngineNotAvailable where this system cannot run an accelerator: its limits, locks and ends are Linux's."""
    if sys.platform != "linux":
        raise EngineNotAvailable(
            f"an accelerator needs Linux, and this is {sys.platform}: attach one of a host, as in "
            "Accelerator.attach(TYPE, host=URL)"
        )


class EmbeddedAccelerator:
    """The running process and its folder."""

    def __init__(self, options: EmbeddedOptions) -> None:
        self._options = options
        self._owner_pid = os.getpid()
        self._folder = _make_folder()
        self._token = secrets.token_urlsafe(32)
        self._process: subprocess.Popen[bytes] | None = None
        self.address: Address

    def start(self) -> None:
        """Start the process and wait until it serves.

        Raises:
            EngineNotAvailable: The parts that an accelerator needs are not installed.
            ElasticInferenceError: It could not start; the error is its own.
        """
        try:
            ready = self._launch()
        except BaseException:
            self.close()
            raise
        self.address = Address(Endpoint.parse(ready["endpoints"][0]), self._token)

    def _launch(self) -> dict[str, Any]:
        process = self._process = subprocess.Popen(
            interpreter.command(self._options.module),
            env=interpreter.environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=None,
            # Its own session: Ctrl-C at the terminal ends the program, which then closes the accelerator in order.
            start_new_session=True,
        )
        assert process.stdin is not None
        assert process.stdout is not None
        with process.stdout:
            with contextlib.suppress(BrokenPipeError), process.stdin:  # it may have ended already
                process.stdin.write(json.dumps(self._config()).encode() + b"\n")
            line = process.stdout.readline()
        if not line:
            raise EngineNotAvailable(
                f"the embedded accelerator ended with status {process.wait()} before it served; its words are on "
                "standard error. Is `pip install elastic-inference[host]` done?"
            )
        ready = _read_ready_line(line)
        if "error" in ready:
            raise decode_error(500, line)
        return ready

    def _config(self) -> dict[str, Any]:
        return {
            "accelerator_id": f"eia-{secrets.token_hex(16)}",
            "listen": [f"unix:{self._folder}/{_SOCKET_NAME}"],
            # The folder itself, so that the process removes all there is.
            "store_dir": str(self._folder),
            "token_sha256": hashlib.sha256(self._token.encode()).hexdigest(),
            "device": self._options.device,
            "num_threads": self._options.num_threads,
            "artifacts_dir": self._options.artifacts_dir,
            "store_limit_bytes": self._options.store_limit_bytes,
            "allow_unsafe_operations": self._options.allow_unsafe_operations,
            "record_requests": self._options.record_requests,
            "limits": {"compute": "none: embedded", "memory": "none: embedded"},
            "watch_pid": self._owner_pid,
        }

    def is_running(self) -> bool:
        """Whether the process lives."""
        process = self._process
        return process is not None and process.poll() is None

    def explain(self, _: Deadline = NO_DEADLINE) -> ElasticInferenceError | None:
        """Why no connection will ever work again, None while the process lives; takes a tenth of a second at most."""
        process = self._process
        if process is None:
            return ConnectionLost("the embedded accelerator was closed")
        if self._owner_pid != os.getpid():
            # A forked child cannot wait for its sibling, but sees the folder go with it.
            if self._folder.exists():
                return None
            return ConnectionLost(
                f"the embedded accelerator has ended with the process that started it ({self._owner_pid})"
            )
        try:
            # Its connections break a moment before its parent learns why.
            status = process.wait(EXPLAIN_SECONDS)
        except subprocess.TimeoutExpired:
            return None
        how = f"was killed by {_signal_name(-status)}" if status < 0 else f"ended with status {status}"
        return ConnectionLost(f"the embedded accelerator {how}; construct the predictor again")

    def close(self) -> None:
        """End the process and remove its folder; closing twice, or in a forked child, is fine."""
        if self._owner_pid != os.getpid():
            return
        process, self._process = self._process, None
        if process is not None:
            process.terminate()
            try:
                process.wait(END_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        shutil.rmtree(self._folder, ignore_errors=True)


def _make_folder() -> Path:
    try:
        return Path(tempfile.mkdtemp(prefix=_PREFIX, dir=_parent_folder()))
    except OSError as error:
        raise EngineNotAvailable(
            f"an embedded accelerator needs a folder for temporary files, and none can be made: {error}; set TMPDIR to "
            "a folder that this user may write"
        ) from error


def _read_ready_line(line: bytes) -> dict[str, Any]:
    try:
        value = json.loads(line)
    except ValueError:
        value = None
    if isinstance(value, dict) and ("endpoints" in value or "error" in value):
        return value
    raise EngineNotAvailable(
        f"the embedded accelerator's process wrote {line[:200]!r} where its address should be: something that it "
        "imports prints, or EI_PYTHON or sys.executable is not a Python"
    )


def _parent_folder() -> str:
    """Return the user's folder for temporary files, but where its path is too long for a socket's."""
    folder = tempfile.gettempdir()
    longest = f"{folder}/{_PREFIX}12345678/{_SOCKET_NAME}"
    return folder if len(os.fsencode(longest)) <= UNIX_PATH_LIMIT else "/tmp"


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time signal
        return f"signal {number}"


_lock = threading.Lock()
_running: dict[EmbeddedOptions, tuple[EmbeddedAccelerator, int]] = {}


def acquire(options: EmbeddedOptions) -> EmbeddedAccelerator:
    """Return the accelerator of these options, started where there is none that lives; give it back with `release`."""
    with _lock:
        accelerator, num_users = _running.get(options, (None, 0))
        if accelerator is None or not accelerator.is_running():
            accelerator, num_users = EmbeddedAccelerator(options), 0
            accelerator.start()
        _running[options] = (accelerator, num_users + 1)
        return accelerator


def release(options: EmbeddedOptions, accelerator: EmbeddedAccelerator) -> None:
    """One user less; the last one ends the process."""
    with _lock:
        current, num_users = _running.get(options, (None, 0))
        if current is not accelerator:
            accelerator.close()  # it died, and another one took its place
        elif num_users > 1:
            _running[options] = (accelerator, num_users - 1)
        else:
            del _running[options]
            accelerator.close()


def _forget_after_fork() -> None:
    global _lock  # another thread may have held it at the fork
    _lock = threading.Lock()
    _running.clear()


if hasattr(os, "register_at_fork"):  # not on Windows, where nothing forks
    os.register_at_fork(after_in_child=_forget_after_fork)
