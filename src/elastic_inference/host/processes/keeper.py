"""Keeps the process of each accelerator running: starts it, adopts it, starts it again when it dies or hangs.

Which accelerators there are is the service's business; a keeper only writes what it sees into the state store.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from elastic_inference.accelerator.config import AcceleratorConfig
from elastic_inference.errors import ConnectError, DeadlineExceeded, ElasticInferenceError, StartFailed
from elastic_inference.host.accounts.records import AcceleratorRecord, State
from elastic_inference.host.processes.backoff import Backoff
from elastic_inference.host.processes.child import Child, describe_exit
from elastic_inference.host.processes.context import HostContext
from elastic_inference.host.processes.watch import Sight, Watch
from elastic_inference.limits.base import AppliedLimits, LimitRequest
from elastic_inference.limits.processes import data_limit_bytes, open_pidfd, send_signal, wait_readable
from elastic_inference.protocol.endpoint import Endpoint
from elastic_inference.units import format_bytes

logger = logging.getLogger(__name__)

_ADOPTION_TIMEOUT_SECONDS = 5.0
_ASK_SECONDS = 5.0  # between two questions whether a process still answers, and for the answer
_TRY_AGAIN_SECONDS = 1.0
_TERM_SECONDS = 5.0  # between SIGTERM and SIGKILL, beyond the time to drain


class Keeper:
    """Keeps one accelerator's process running, in a thread of its own."""

    def __init__(self, accelerator_id: str, context: HostContext) -> None:
        self.accelerator_id = accelerator_id
        self._context = context
        self._wake_read, self._wake_write = os.pipe()
        self._lock = threading.Lock()
        self._settled = threading.Event()  # it serves, or its first start has failed
        self._has_served = False  # a first start that fails is given up, later ones are repeated
        self._start_error: ElasticInferenceError | None = None
        self._is_stopping = False
        self._is_expected = False  # the next exit was asked for, such as by a resize
        self._why_ended: str | None = None  # where the keeper itself ended it
        self._child: Child | None = None
        self._home: Path | None = None
        self._pidfd: int | None = None
        self.applied: AppliedLimits | None = None
        self._thread = threading.Thread(target=self._run, name=f"keep {accelerator_id[:12]}", daemon=True)

    def start(self) -> None:
        """Begin; the process is adopted where it still runs."""
        self._thread.start()

    def wait_ready(self, timeout_seconds: float) -> None:
        """Wait until the process serves.

        Raises:
            ElasticInferenceError: It did not start; the keeper has given up.
        """
        if not self._settled.wait(timeout_seconds):
            raise StartFailed(f"accelerator {self.accelerator_id} was not ready within {timeout_seconds} s")
        if self._start_error is not None:
            raise self._start_error

    def is_alive(self) -> bool:
        """Whether a process serves now."""
        with self._lock:
            return self._pidfd is not None

    def restart(self) -> None:
        """End the process in order; the next one starts with what the record says then."""
        self._settled.clear()
        self._is_expected = True
        self._end_process()

    def change_limits(self, request: LimitRequest) -> bool:
        """Change the limits under the running process; False where it must be started again for that."""
        try:
            applied = self._context.limits.update(request)
        except ElasticInferenceError as error:
            logger.warning(
                "limits not changed", extra={"accelerator_id": self.accelerator_id, "why": str(error)}
            )
            return False
        self.applied = applied
        record = self._record()
        if record is None or record.process is None:
            return False
        # The process made its RLIMIT_DATA hard, and a host without the right cannot raise that again.
        return data_limit_bytes(record.process.pid) == applied.rlimit_data_bytes

    def reload_tls(self) -> None:
        """Let the process read its TLS files again; one that starts just now reads them anyway."""
        record = self._record()
        if record is None:
            return
        try:
            self._context.folder.accelerator(self.accelerator_id).make(record.uid, self._context.settings.tls)
            self._context.control(record, "POST", "/v2/accelerator/tls", {})
        except (ElasticInferenceError, OSError) as error:
            extra = {"accelerator_id": self.accelerator_id, "why": str(error)}
            logger.warning("TLS files are not read again", extra=extra)

    def kill(self, why: str) -> None:
        """End the process at once; it is started again, and its record says why it ended."""
        with self._lock:
            pidfd = None if self._pidfd is None else os.dup(self._pidfd)
        if pidfd is not None:
            self._why_ended = why
            send_signal(pidfd, signal.SIGKILL)
            os.close(pidfd)

    def leave(self) -> None:
        """Stop keeping; the process goes on."""
        self._is_stopping = True
        with contextlib.suppress(OSError):
            os.write(self._wake_write, b"x")
        self._thread.join()
        with self._lock:
            if self._child is not None:
                self._child.close()

    def stop(self, drain_seconds: float | None = None) -> None:
        """Stop keeping, let the process finish what is in flight, and end it."""
        self.leave()
        self._end_process(drain_seconds)
        self._reap()
        for fd in (self._wake_read, self._wake_write):
            with contextlib.suppress(OSError):
                os.close(fd)

    # The keeper's thread

    def _run(self) -> None:
        try:
            while True:
                try:
                    return self._keep()
                except Exception as error:  # such as a database that is away: keeping must go on after it
                    logger.exception("keeping failed", extra={"accelerator_id": self.accelerator_id})
                    if not self._has_served:
                        self._start_error = StartFailed(f"keeping the accelerator failed: {error}")
                        return None
                    if not self.is_alive():
                        self._reap()  # a process that was started and not written down
                if self._wait(_TRY_AGAIN_SECONDS):
                    return None
        finally:
            self._settled.set()

    def _keep(self) -> None:
        backoff = Backoff()
        record = self._record()
        self._has_served |= record is not None and record.state is not State.STARTING
        if self._pidfd is not None and record is not None and record.state is State.RESTARTING:
            self._change(state=State.READY)  # which failed when it began to serve
        is_running = self._pidfd is not None or (record is not None and self._adopt(record))
        while not self._is_stopping and self._record() is not None:
            started_at = time.monotonic()
            if not is_running and not self._try_start():
                if not self._has_served or self._wait(backoff.after(0.0)):
                    return
                continue
            self._has_served = True
            self._settled.set()
            if self._wait_exit():
                return
            self._note_exit()
            is_running = False
            if self._wait(backoff.after(time.monotonic() - started_at)):
                return

    def _try_start(self) -> bool:
        record = self._change(state=State.RESTARTING if self._has_served else State.STARTING)
        if record is None:
            return False
        try:
            self._start_process(record)
        except (ElasticInferenceError, OSError) as error:
            why = str(error)
            logger.error("process does not start", extra={"accelerator_id": self.accelerator_id, "why": why})
            self._reap()
            if not self._has_served:
                self._start_error = error if isinstance(error, ElasticInferenceError) else StartFailed(why)
            self._change(last_exit=why)
            return False
        return True

    def _start_process(self, record: AcceleratorRecord) -> None:
        context = self._context
        request = context.limit_request(record)
        self.applied = context.limits.apply(request)
        environment = context.gpu_environment(record)
        name = f"{self.accelerator_id}.{record.num_restarts}"
        child = context.launcher.take(record.uid, name, environment)
        with self._lock:
            self._child, self._home = child, child.home
        # Written down before the process knows what it is: a host that dies now leaves none that it forgot.
        self._change(process=child.identity, uid=child.uid)
        # Imports are the host's work and the same for all: within a small share they would take seconds.
        deadline = time.monotonic() + context.settings.start_timeout_seconds
        child.wait_until_waiting(deadline, self._wake_read)
        context.limits.add_process(self.accelerator_id, child.pid)
        context.cores.refresh(started=self.accelerator_id)
        folder = context.folder.accelerator(self.accelerator_id)
        tls = folder.make(child.uid, context.settings.tls)
        config = context.configuration(record, self.applied, tls, context.admit(record))
        # Nor would the few milliseconds until it serves fit into some periods of a small quota.
        context.limits.apply(replace(request, may_burst=True))
        endpoints, port = self._configure(child, config, deadline)
        context.limits.apply(request)
        if child.uid is not None:
            folder.open_socket()
        with self._lock:
            self._pidfd = open_pidfd(child.identity)
        if self._pidfd is None:
            raise StartFailed("the accelerator process ended as soon as it served")
        self._change(state=State.READY, endpoints=endpoints, port=port)
        logger.info("accelerator serves", extra={"accelerator_id": self.accelerator_id, "pid": child.pid})

    def _configure(
        self, child: Child, config: AcceleratorConfig, deadline: float
    ) -> tuple[tuple[str, ...], int | None]:
        ready = child.configure(config, deadline, self._wake_read)
        endpoints = tuple(ready["endpoints"])
        ports = [Endpoint.parse(text).port for text in endpoints if not text.startswith("unix:")]
        return endpoints, ports[0] if ports else None

    def _adopt(self, record: AcceleratorRecord) -> bool:
        """Take over a process that an earlier run of the host left, if it still serves."""
        identity = record.process
        pidfd = None if identity is None else open_pidfd(identity)
        if identity is None or pidfd is None:
            return self._lose(record, "ended while no host kept it")
        self._pidfd = pidfd
        with contextlib.suppress(OSError):
            self._home = Path(os.readlink(f"/proc/{identity.pid}/cwd"))
        try:
            if not self._context.leases.fits(self.accelerator_id, record.device, identity.pid):
                raise StartFailed("its device is shared in another way now")
            self._context.admit(record)
            self._context.request_rates.admit(record)
            self.applied = self._context.limits.apply(self._context.limit_request(record))
            if identity.pid not in self._context.limits.processes(self.accelerator_id):
                self._context.limits.add_process(self.accelerator_id, identity.pid)
            self._context.cores.refresh(started=self.accelerator_id)
            timeout_seconds = _ADOPTION_TIMEOUT_SECONDS
            self._context.control(record, "GET", "/v2/accelerator", timeout_seconds=timeout_seconds)
        except ElasticInferenceError as error:
            why = str(error)
            logger.warning("process not adopted", extra={"accelerator_id": self.accelerator_id, "why": why})
            send_signal(pidfd, signal.SIGKILL)
            self._wait_exit()
            return self._lose(record, f"was not adopted: {why}")
        self._change(state=State.READY)
        pid = identity.pid
        logger.info("process adopted", extra={"accelerator_id": self.accelerator_id, "pid": pid})
        return True

    def _lose(self, record: AcceleratorRecord, why: str) -> bool:
        """Count the death of a process that served and could not be adopted. False: there is none to keep."""
        if record.state is State.READY:
            self._why_ended = self._why_ended or why
            self._note_exit()
        else:
            self._reap()
        return False

    def _wait_exit(self) -> bool:
        """Wait for the end of the process, which is ended where it hangs; True where keeping is to stop instead."""
        assert self._pidfd is not None
        settings = self._context.settings
        ask_seconds = min(_ASK_SECONDS, settings.hang_seconds / 2)
        watch = Watch(settings.hang_seconds, settings.turn_limit_seconds, time.monotonic())
        while True:
            ready = wait_readable((self._pidfd, self._wake_read), ask_seconds)
            if ready or self._is_stopping:
                return self._pidfd not in ready or self._is_stopping
            # One that was asked to end takes no more connections while it finishes what is in flight.
            sight = Sight(answers=True) if self._is_expected else self._look(ask_seconds)
            complaint = watch.complaint(sight, time.monotonic())
            if complaint is not None:
                self._why_ended = complaint
                send_signal(self._pidfd, signal.SIGKILL)

    def _look(self, timeout_seconds: float) -> Sight:
        record = self._record()
        if record is None:
            return Sight(answers=True)
        try:
            value = self._context.look(record, timeout_seconds)
            return Sight(answers=True, turn_seconds=float(value["queue"]["turn_seconds"]))
        except (ConnectError, DeadlineExceeded):
            return Sight(answers=False)
        except (ElasticInferenceError, KeyError, TypeError, ValueError):
            return Sight(answers=True)

    def _wait(self, seconds: float) -> bool:
        """Wait between two starts; True where keeping is to stop."""
        if not self._is_stopping and seconds > 0:
            wait_readable((self._wake_read,), seconds)
        return self._is_stopping

    def _note_exit(self) -> None:
        status = self._reap()
        # What is to be remembered is, until it is written down: the database may be away.
        if self._is_expected:
            self._change(state=State.RESTARTING)
            self._is_expected = False
            return
        why = self._why_ended = self._why_ended or describe_exit(status)
        record = self._record()
        if record is None:
            return
        with contextlib.suppress(ElasticInferenceError):
            usage = self._context.limits.usage(self.accelerator_id)
            if usage.num_oom_kills:
                why += (
                    f"; out of memory {usage.num_oom_kills} times at {format_bytes(usage.memory_limit_bytes)}"
                )
        self._change(state=State.RESTARTING, num_restarts=record.num_restarts + 1, last_exit=why)
        self._why_ended = None
        logger.warning("accelerator died", extra={"accelerator_id": self.accelerator_id, "why": why})

    # Shared

    def _record(self) -> AcceleratorRecord | None:
        return self._context.store.get(self.accelerator_id)

    def _change(self, **values: Any) -> AcceleratorRecord | None:
        return self._context.store.change(self.accelerator_id, **values)

    def _end_process(self, drain_seconds: float | None = None) -> None:
        """Let the process finish what is in flight, and end it: SIGTERM, then SIGKILL where that takes too long."""
        with self._lock:
            pidfd = None if self._pidfd is None else os.dup(self._pidfd)
        if pidfd is None:
            return
        if drain_seconds is None:
            drain_seconds = self._context.settings.drain_seconds
        try:
            self._drain(drain_seconds)
            send_signal(pidfd, signal.SIGTERM)
            if not wait_readable((pidfd,), _TERM_SECONDS):
                send_signal(pidfd, signal.SIGKILL)
                wait_readable((pidfd,), _TERM_SECONDS)
        finally:
            os.close(pidfd)

    def _drain(self, drain_seconds: float) -> None:
        """Wait until nothing is in flight; by itself the process would wait for 30 s, whatever the operator said."""
        try:
            record = self._record()
            if drain_seconds == 0 or record is None or not self._look(_ASK_SECONDS).answers:
                return
            self._context.control(
                record,
                "POST",
                "/v2/accelerator/drain",
                {"timeout_seconds": drain_seconds},
                timeout_seconds=drain_seconds + _TERM_SECONDS,
            )
        except Exception as error:  # such as a database that is away: it must end all the same
            extra = {"accelerator_id": self.accelerator_id, "why": str(error)}
            logger.warning("accelerator does not drain", extra=extra)

    def _reap(self) -> int | None:
        """Take what an ended (or half started) process leaves; its exit status where it was our child."""
        with self._lock:
            child, self._child = self._child, None
            pidfd, self._pidfd = self._pidfd, None
            home, self._home = self._home, None
        if pidfd is not None:
            os.close(pidfd)
        status = None
        if child is not None:
            status = child.poll()
            child.kill()
        if home is not None:
            self._context.launcher.remove_home(home)
        return status
