"""Puts a pool service together from its configuration, runs its care in the background, and takes it apart in order.

Of several processes on a machine one is the pool service: whoever holds the lock. The others wait, with everything
loaded, so that its death costs a part of a second. The kernel frees the lock with its holder, and the database's epoch
keeps a holder that only seems dead from writing.
"""

from __future__ import annotations

import fcntl
import hmac
import importlib.metadata
import logging
import os
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

from elastic_inference.clock import MonotonicClock
from elastic_inference.errors import CapacityExceeded, ElasticInferenceError, Fenced, InvalidInput
from elastic_inference.host import events
from elastic_inference.host.accounts.calendar import Calendar
from elastic_inference.host.audit import AuditLog
from elastic_inference.host.board import num_by_state
from elastic_inference.host.certificates import Certificates
from elastic_inference.host.devices import Device
from elastic_inference.host.processes.folders import HostFolder
from elastic_inference.host.tenancy import Tenancy
from elastic_inference.host.tokens import hash_token, make_token, write_private
from elastic_inference.pool.books import Books, device_name
from elastic_inference.pool.config import PoolConfig
from elastic_inference.pool.keeper import PlacementKeeper
from elastic_inference.pool.lifeline import LifelineWatch
from elastic_inference.pool.model import HostState
from elastic_inference.pool.offer import HostOffer
from elastic_inference.pool.refusals import Refusals
from elastic_inference.pool.renewal import WAITING
from elastic_inference.pool.service import PoolService
from elastic_inference.pool.stock import PoolStock
from elastic_inference.pool.store import HostRow, PoolStore
from elastic_inference.pool.supervision import open_lock
from elastic_inference.pool.tenant_orders import TenantParts
from elastic_inference.pool.versions import PROTOCOL, Version, check_together

logger = logging.getLogger(__name__)

JOIN_TOKEN = "join.token"
_WATCH_SECONDS = 0.05
_CARE_SECONDS = 1.0
_CALENDAR_SECONDS = 30.0
_FORGET_SECONDS = 3600.0  # after which a lost host that holds nothing is no longer shown
_LOW_DISK_BYTES = 1 << 28


class Pool:
    """A running pool without its HTTP side; see `host.control.Served`."""

    def __init__(self, config: PoolConfig) -> None:
        self.config = config
        self.version = importlib.metadata.version("elastic-inference")
        self.folder = HostFolder(Path(config.state_dir))
        self.audit = AuditLog(self.folder.audit)
        self.certificates = Certificates(None if config.tls is None else config.tls.files())
        self.host_id = ""
        self.refusals = Refusals()
        self.store: PoolStore
        self.service: PoolService
        self._tls = config.client_context()
        self._stop = threading.Event()
        self._lock_file: IO[str] | None = None
        self._operator_sha256 = self._join_sha256 = ""
        self._calendar_saved_at = 0.0
        self._draining: set[str] = set()
        self._next_move_at: dict[str, float] = {}  # by host that drains, on time.monotonic
        self._threads = [
            threading.Thread(target=self._repeat, args=(seconds, *tasks), name=name, daemon=True)
            for name, seconds, tasks in (
                ("watch", _WATCH_SECONDS, (self._watch,)),
                ("return", 2 * _WATCH_SECONDS, (self._bring_back,)),
                ("care", _CARE_SECONDS, (self._care,)),
                ("tenants", _CARE_SECONDS, (self._look_after_tenants,)),
                ("meters", _CARE_SECONDS, (self._read_meters,)),
                ("drain", 4 * _WATCH_SECONDS, (self._drain_hosts,)),
            )
        ]

    def wait_for_turn(self) -> None:
        """Return when this process is the pool service; before, another one is."""
        self.folder.make()
        # Whoever waits holds this one, so that all can see whether a successor is there, with everything loaded.
        with open_lock(self.folder.path / WAITING) as waiting:
            fcntl.flock(waiting, fcntl.LOCK_EX)
            self._take_turn()

    def _take_turn(self) -> None:
        file = open_lock(self.folder.lock)
        fcntl.flock(file, fcntl.LOCK_EX)
        self._lock_file = file

    def open(self) -> None:
        """Take over: find hosts and accelerators as an earlier pool service left them.

        Raises:
            InvalidInput: The state directory or the database cannot be used.
        """
        url = self.config.database_url
        self.store = PoolStore(url) if url else PoolStore.at_path(self.folder.database)
        self.store.open()
        epoch = self.store.take_over()
        self.host_id = self._own("host.id", lambda: f"pool{os.urandom(6).hex()}")
        self._operator_sha256 = hash_token(self._own(self.folder.operator_token.name, make_token))
        self._join_sha256 = hash_token(self._own(JOIN_TOKEN, make_token))
        self.calendar = Calendar(self.folder.calendar, is_free=not self.store.list_all())
        self.books = Books(MonotonicClock(), self.config.rules(), self.config.policy())
        for row in self.store.list_hosts():
            self._admit(row)  # as heard of now: its reports went to whoever served before

        tenancy = Tenancy(self.store, self.calendar.now)
        parts = TenantParts(self.books, tenancy)

        def make_keeper(tell: Any) -> PlacementKeeper:
            seconds = self.config.drain_seconds
            return PlacementKeeper(self.store, self.books, parts.of, self._tls, tell, seconds)

        stock = PoolStock(self.books, self.config.policy())
        self.service = PoolService(
            self.store, self.books, stock, tenancy, make_keeper, self.audit, self.calendar
        )
        self.service.open()
        self.service.keeper.sweep()
        for thread in self._threads:
            thread.start()
        logger.info("pool service", extra={"epoch": epoch, "num_hosts": len(self.books.hosts())})

    def close(self, keep_running: bool = False) -> None:  # noqa: ARG002  # the hosts have the accelerators
        """End the service; hosts go on for its successor as long as their leases last. Twice is fine."""
        if self._stop.is_set():
            return
        self._stop.set()
        for thread in self._threads:
            thread.join()
        self.service.close()
        self.calendar.save()
        self.store.close()
        if self._lock_file is not None:
            self._lock_file.close()

    def reload(self) -> None:
        """Read the TLS files again."""
        self.certificates.reload()
        self._tls = self.config.client_context()

    def keeps_running(self, otherwise: bool) -> bool:
        """Whether accelerators go on when the service ends: it does not hold them."""
        return otherwise

    def stop(self, keep_running: bool) -> None:  # noqa: ARG002  # as a host takes it
        """Raise InvalidInput: the pool's Ray actor would start the service again."""
        raise InvalidInput("a pool is stopped by `ei pool stop`, which ends its hosts too")

    def _own(self, name: str, make: Callable[[], str]) -> str:
        path = self.folder.path / name
        if not path.exists():
            write_private(path, make() + "\n")
        return path.read_text().strip()

    # Who may

    def is_operator_hash(self, token_sha256: str) -> bool:
        """Whether this is the hash of the operator's token; in constant time."""
        return hmac.compare_digest(token_sha256, self._operator_sha256)

    def is_join_hash(self, token_sha256: str) -> bool:
        """Whether this is the hash of the token by which hosts join and report; in constant time."""
        return hmac.compare_digest(token_sha256, self._join_sha256)

    def change_operator_token(self) -> str:
        """Make a new operator token, and refuse the old one from now on."""
        token = make_token()
        write_private(self.folder.operator_token, token + "\n")
        self._operator_sha256 = hash_token(token)
        return token

    # Hosts

    def join(self, host_id: str, node_id: str, url: str, token: str, offer: HostOffer) -> HostRow:
        """Take a host that holds nothing: whatever it had of this pool is placed anew.

        Raises:
            InvalidInput: It speaks another protocol.
        """
        check_together(f"host {host_id} at {url}", offer.version, Version(self.version, PROTOCOL))
        known = {row.host_id: row for row in self.books.hosts()}
        earlier = known.get(host_id)
        state = HostState.READY
        if earlier is not None and earlier.state is HostState.DRAINING and earlier.node_id == node_id:
            state = HostState.DRAINING
        row = HostRow(host_id, node_id, url, token, 1 if earlier is None else earlier.epoch + 1, state, offer)
        self.store.put_host(row)
        self._admit(row)
        if earlier is not None:
            self.service.keeper.sweep()
            for key in self.books.on_host(host_id):
                place = self.books.place_of(key)
                if place is not None and not self.books.serves(place):
                    self.books.free(key)
        self.service.board.events.add(self.calendar.now(), events.Kind.HOST, f"host {host_id} ({url}) joined")
        return row

    def _admit(self, row: HostRow) -> None:
        self.books.admit(row)
        admission = (row.host_id, row.epoch)
        LifelineWatch(
            row.host_id,
            row.url,
            row.offer.lifeline,
            lambda: not self._stop.is_set() and self.books.counts(*admission),
            lambda: self.books.note_ended(*admission),
        )

    def drain_host(self, host_id: str, is_draining: bool) -> HostRow:
        """Take no more accelerators to a host and move those that it has elsewhere, or take them again."""
        row = self.books.host(host_id)
        if row.state is HostState.LOST:
            raise InvalidInput(f"host {host_id} is lost, so there is nothing to drain")
        row = replace(row, state=HostState.DRAINING if is_draining else HostState.READY)
        self.store.put_host(row)
        self._next_move_at.pop(host_id, None)
        self.books.put_host(row)
        text = f"host {host_id} drains" if is_draining else f"host {host_id} takes accelerators again"
        self.service.board.events.add(self.calendar.now(), events.Kind.HOST, text)
        return row

    # Care

    def _watch(self) -> None:
        for row in self.books.lost():
            lost = self.books.mark_lost(row.host_id)
            if lost is not None:
                self.service.keeper.give_up(lost)

    def _bring_back(self) -> None:
        self.service.keeper.bring_back()

    def _read_meters(self) -> None:
        self.service.board.fresh()

    def _care(self) -> None:
        self.service.expiry.look()
        self.service.keeper.sweep()
        if self.calendar.now() - self._calendar_saved_at >= _CALENDAR_SECONDS:
            self._calendar_saved_at = self.calendar.now()
            self.calendar.save()
        self.certificates.log_warning(time.time())
        for row in self.books.hosts():
            is_old = self.books.silent_seconds(row.host_id) > _FORGET_SECONDS
            if row.state is HostState.LOST and is_old and not self.books.on_host(row.host_id):
                self.store.remove_host(row.host_id)
                self.books.forget_host(row.host_id)

    def _look_after_tenants(self) -> None:
        self.service.tenants.look()
        self.service.orders.look()

    def _drain_hosts(self) -> None:
        for row in self.books.hosts():
            if row.state is HostState.DRAINING:
                self._drain(row)

    def _drain(self, row: HostRow) -> None:
        host_id = row.host_id
        for key in self.books.on_host(host_id):
            if "@" in key:
                continue
            is_due = time.monotonic() >= self._next_move_at.get(host_id, 0.0)
            if not is_due or self._stop.is_set() or self.books.host(host_id) is not row:
                return
            try:
                # Another row by now: this drain was called off, and another may have begun.
                if self.service.keeper.move(key) and self.books.host(host_id) is row:
                    self._next_move_at[host_id] = time.monotonic() + self.config.drain_pause_seconds
            except CapacityExceeded as error:
                self._tell_once(host_id, str(error))
                return

    def _tell_once(self, host_id: str, why: str) -> None:
        if host_id not in self._draining:
            self._draining.add(host_id)
            text = f"host {host_id} is not empty yet: {why}"
            self.service.board.events.add(self.calendar.now(), events.Kind.HOST, text)

    def _repeat(self, seconds: float, *tasks: Callable[[], object]) -> None:
        while not self._stop.wait(seconds):
            for task in tasks:
                try:
                    task()
                except Fenced as error:
                    if self.store.is_current():
                        logger.warning("refused", extra={"why": str(error)})
                        continue
                    logger.error(
                        "another pool service took over, so this one ends", extra={"why": str(error)}
                    )
                    os._exit(3)
                except ElasticInferenceError as error:
                    logger.warning("care failed", extra={"task": task.__name__, "why": str(error)})
                except Exception:  # care must go on: what failed now may work in a moment
                    logger.exception("care failed", extra={"task": task.__name__})

    # What there is

    @property
    def devices(self) -> Sequence[Device]:
        """Devices of all hosts, under names that say whose they are."""
        return [
            replace(device, name=device_name(row.host_id, device.name))
            for row in self.books.hosts()
            if row.state is not HostState.LOST
            for device in row.offer.devices
        ]

    @property
    def limits_name(self) -> str:
        """By what means limits hold: each host has its own."""
        return "hosts"

    @property
    def num_users_left(self) -> int | None:
        """None: users are its hosts' affair."""
        return None

    @property
    def disk_figures(self) -> tuple[int, bool]:
        """Bytes free on the disk of the state directory, and whether that is too little."""
        found = os.statvfs(self.folder.path)
        free_bytes = found.f_bavail * found.f_frsize
        return free_bytes, free_bytes < _LOW_DISK_BYTES

    def warnings(self) -> list[str]:
        """Return what needs somebody's care, a sentence each."""
        texts = [self.certificates.warning(time.time())]
        num_lost = sum(record.state.value == "restarting" for record in self.store.list_all())
        if num_lost:
            texts.append(f"{num_lost} accelerators have no host: they come back when one has room")
        texts += self.refusals.texts()
        return [text for text in texts if text is not None]

    def status(self) -> dict[str, Any]:
        """Return what `ei host status` shows of a host, of all hosts together."""
        records, capacity = self.service.list_all(), self.service.capacity
        tflops = {device.name: device for device in self.devices}
        devices = []
        for offered in capacity.devices:
            share, memory_bytes = capacity.left(offered)
            devices.append(
                {
                    "name": offered.name,
                    "num_cores": tflops[offered.name].num_cores,
                    "sharing": "",
                    "not_isolated": "",
                    "offered_memory_bytes": offered.memory_bytes,
                    "tflops": dict(tflops[offered.name].tflops),
                    "left_share": share,
                    "left_memory_bytes": memory_bytes,
                }
            )
        free_bytes, is_low = self.disk_figures
        return {
            "host_id": self.host_id,
            "version": self.version,
            "pid": os.getpid(),
            "started_at": self.service.started_at,
            "is_draining": self.service.is_draining,
            "devices": devices,
            "limits": {"means": self.limits_name, "reason": "each host says its own"},
            "users": "each host says its own",
            "tls": self.certificates.files is not None,
            "database": self.store.dialect,
            "num_accelerators": len(records),
            "disk": {
                "level": "low" if is_low else "enough",
                "free_bytes": free_bytes,
                "reserve_bytes": _LOW_DISK_BYTES,
            },
            "warnings": self.warnings(),
            "num_by_state": num_by_state(records),
        }
