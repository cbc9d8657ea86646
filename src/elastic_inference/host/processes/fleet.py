"""All keepers of a host: started, found again after the host died, and ended together."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import threading
import zlib
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from elastic_inference.errors import (
    AcceleratorNotFound,
    CapacityExceeded,
    ConnectError,
    ElasticInferenceError,
    LimitError,
)
from elastic_inference.host.accounts.records import AcceleratorRecord, State
from elastic_inference.host.processes.context import HostContext
from elastic_inference.host.processes.keeper import Keeper
from elastic_inference.host.processes.orphans import end_orphans
from elastic_inference.limits.processes import open_pidfd, wait_readable

logger = logging.getLogger(__name__)

_NUM_PORT_TRIES = 8  # hosts that share a range may choose the same at the same moment

_MAX_RELOADS = 16


class Fleet:
    """The keepers of a host by accelerator id."""

    def __init__(self, context: HostContext) -> None:
        self._context = context
        self._keepers: dict[str, Keeper] = {}
        self._lock = threading.Lock()
        self._choosing_port = threading.Lock()

    def keeper(self, accelerator_id: str) -> Keeper:
        """Return the keeper of an accelerator; raises AcceleratorNotFound."""
        with self._lock:
            keeper = self._keepers.get(accelerator_id)
        if keeper is None:
            raise AcceleratorNotFound(f"no accelerator {accelerator_id} is attached here")
        return keeper

    def recover(self) -> tuple[AcceleratorRecord, ...]:
        """Find the accelerators of an earlier run: adopt those that serve, start the others, drop half-made ones.

        A host of a pool drops all: it joins with nothing.

        Returns:
            Those that are kept, ready or not yet.
        """
        self._context.tenant_stores.open()
        kept: list[AcceleratorRecord] = []
        dropped: list[AcceleratorRecord] = []
        # What a pool's host had is elsewhere by now, or will be: to start it would take cores from that.
        is_of_pool = self._context.settings.fence is not None
        for record in self._context.store.list_all():
            # No client knows an accelerator that never was ready: its attach has failed.
            is_over = is_of_pool or record.state in (State.STARTING, State.DRAINING)
            (dropped if is_over else kept).append(record)
        for record in dropped:
            self._kill_left_over(record)
            self.forget(record)
        homes = frozenset(_homes(kept))
        self._end_orphans(kept, homes)
        known = {record.accelerator_id for record in kept}
        for accelerator_id in self._context.limits.list_existing():
            if accelerator_id not in known:
                self._release_limits(accelerator_id)
        for accelerator_id in self._context.leases.list_existing():
            if accelerator_id not in known:
                self._context.leases.dismiss(accelerator_id)
        self._context.launcher.clean_homes(homes)
        for record in kept:
            self._add(record.accelerator_id).start()
        return tuple(kept)

    def launch(self, record: AcceleratorRecord, timeout_seconds: float) -> None:
        """Start a new accelerator and wait until it serves.

        Raises:
            ElasticInferenceError: It did not start; nothing of its process is left.
        """
        tried: set[int | None] = set()
        for tries_left in range(_NUM_PORT_TRIES, 0, -1):
            tried.add(self._choose_port(record, tried))
            keeper = self._add(record.accelerator_id)
            keeper.start()
            try:
                keeper.wait_ready(timeout_seconds)
            except ElasticInferenceError as error:
                self._drop(record.accelerator_id)
                keeper.stop()
                # Another program may have taken the port between our look and the process's bind.
                if not isinstance(error, ConnectError) or tries_left == 1:
                    raise
            else:
                return

    def end(self, record: AcceleratorRecord, drain_seconds: float | None = None) -> None:
        """Let an accelerator finish what is in flight, end its process, and free what it held."""
        keeper = self._drop(record.accelerator_id)
        if keeper is not None:
            keeper.stop(drain_seconds)
        self.forget(record)

    def forget(self, record: AcceleratorRecord) -> None:
        """Remove limits, folder, logs and user of an accelerator without a process; may be repeated where it failed."""
        folder, launcher = self._context.folder, self._context.launcher
        self._release_limits(record.accelerator_id)
        launcher.remove_logs(record.accelerator_id)
        current = self._context.store.get(record.accelerator_id) or record
        self._context.tenant_stores.leave(current)  # before its user may become another tenant's
        self._context.store.remove(record.accelerator_id)
        # Its user is nobody else's as long as there are files of it.
        path = folder.accelerator(record.accelerator_id).path
        folder.remove_tree(path, lambda: launcher.release_user(current.accelerator_id, current.uid))
        self._context.cores.refresh()

    def reload_tls(self) -> None:
        """Let all accelerators read their TLS files again; one that does not is named in the log."""
        with self._lock:
            keepers = list(self._keepers.values())
        if keepers:
            with ThreadPoolExecutor(min(len(keepers), _MAX_RELOADS), "reload") as pool:
                list(pool.map(Keeper.reload_tls, keepers))

    def close(self, keep_running: bool) -> None:
        """Stop keeping all; the processes end in order, unless they are to go on for the host's next run."""
        with self._lock:
            keepers, self._keepers = self._keepers, {}
        if not keepers:
            return
        with ThreadPoolExecutor(len(keepers), "stop") as pool:
            list(pool.map(lambda keeper: self._close_one(keeper, keep_running), keepers.values()))

    def _close_one(self, keeper: Keeper, keep_running: bool) -> None:
        if keep_running:
            keeper.leave()
            return
        keeper.stop()
        self._context.store.change(keeper.accelerator_id, state=State.STOPPED)
        self._release_limits(keeper.accelerator_id)

    def _add(self, accelerator_id: str) -> Keeper:
        keeper = Keeper(accelerator_id, self._context)
        with self._lock:
            self._keepers[accelerator_id] = keeper
        return keeper

    def _drop(self, accelerator_id: str) -> Keeper | None:
        with self._lock:
            return self._keepers.pop(accelerator_id, None)

    def _release_limits(self, accelerator_id: str) -> None:
        self._context.leases.dismiss(accelerator_id)
        self._context.request_rates.dismiss(accelerator_id)
        try:
            self._context.limits.release(accelerator_id)
        except LimitError as error:
            extra = {"accelerator_id": accelerator_id, "why": str(error)}
            logger.error("limits are not released", extra=extra)

    def _kill_left_over(self, record: AcceleratorRecord) -> None:
        pidfd = None if record.process is None else open_pidfd(record.process)
        if pidfd is not None:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(pidfd, signal.SIGKILL)
            wait_readable((pidfd,), 5.0)
            os.close(pidfd)

    def _end_orphans(self, kept: Iterable[AcceleratorRecord], homes: frozenset[Path]) -> None:
        records = tuple(kept)
        pids = frozenset(r.process.pid for r in records if r.process is not None and r.process.is_alive())
        ids = frozenset(record.accelerator_id for record in records)
        end_orphans(self._context.folder, ids, pids, homes, self._context.launcher.isolation.uids)

    def _choose_port(self, record: AcceleratorRecord, tried: set[int | None]) -> int | None:
        """Choose a port and write it down, one attach at a time; None where there is no TCP."""
        settings = self._context.settings
        if settings.data_host is None:
            return None
        with self._choosing_port:
            taken = {r.port for r in self._context.store.list_all() if r != record} | tried
            # From a place of its own on: hosts of one machine that fail over at the same moment would all choose the
            # first, and who finds it taken needs another process.
            start = zlib.crc32(os.fsencode(self._context.folder.path))
            for step in range(len(settings.ports)):
                port = settings.ports[(start + step) % len(settings.ports)]
                if port not in taken and _is_free(settings.data_host, port):
                    self._context.store.change(record.accelerator_id, port=port)
                    return port
        first, last = settings.ports[0], settings.ports[-1]
        raise CapacityExceeded(
            f"all TCP ports {first} to {last} are taken",
            requested="1 TCP port",
            available=f"none of {len(settings.ports)}",
        )


def _is_free(host: str, port: int) -> bool:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
        return True


def _homes(records: Iterable[AcceleratorRecord]) -> Iterable[Path]:
    for record in records:
        if record.process is not None and record.process.is_alive():
            with contextlib.suppress(OSError):
                yield Path(os.readlink(f"/proc/{record.process.pid}/cwd"))
