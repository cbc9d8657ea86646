"""Puts a host together from its settings, runs its care in the background, and takes it apart in order."""

from __future__ import annotations

import hmac
import importlib.metadata
import logging
import os
import secrets
import signal
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from sqlalchemy.exc import SQLAlchemyError

from elastic_inference.engines.registry import engine_to_import
from elastic_inference.errors import InvalidInput
from elastic_inference.host.accounts.calendar import Calendar
from elastic_inference.host.accounts.capacity import Capacity, DeviceCapacity
from elastic_inference.host.accounts.catalogue import (
    AMAZON_TYPES,
    AcceleratorType,
    catalogue,
    cpu_types,
    gpu_types,
)
from elastic_inference.host.accounts.records import AcceleratorRecord
from elastic_inference.host.accounts.state import StateStore
from elastic_inference.host.audit import AuditLog
from elastic_inference.host.certificates import Certificates
from elastic_inference.host.devices import Device
from elastic_inference.host.disk import DiskGuard, Level
from elastic_inference.host.lock import DirectoryLock
from elastic_inference.host.processes.context import HostContext, ProcessSettings
from elastic_inference.host.processes.cores import CoreKeeper, cores_to_keep
from elastic_inference.host.processes.folders import GROUP_PREFIX, HostFolder
from elastic_inference.host.processes.gpu_watch import GpuMemoryWatch
from elastic_inference.host.processes.isolation import find_isolation
from elastic_inference.host.processes.launch import Launcher
from elastic_inference.host.processes.leases import LeaseKeeper
from elastic_inference.host.processes.request_rates import RequestRates
from elastic_inference.host.processes.tenant_stores import TenantStores
from elastic_inference.host.processes.users import Users
from elastic_inference.host.service import HostService
from elastic_inference.host.settings import HostSettings, offered_cores, offered_memory_bytes
from elastic_inference.host.status import host_status
from elastic_inference.host.tenancy import Tenancy
from elastic_inference.host.tokens import HostSecret, hash_token, make_token, write_private
from elastic_inference.limits.base import Limits
from elastic_inference.limits.detect import detect
from elastic_inference.limits.gpu import DEFAULT_MPS_DIRECTORY, check_mps
from elastic_inference.settings import MPS_DIRECTORY

logger = logging.getLogger(__name__)

_CARE_SECONDS = 1.0
_CALENDAR_SECONDS = 30.0
_DISK_SECONDS = 0.25


def _left_over(records: Iterable[AcceleratorRecord]) -> list[AcceleratorRecord]:
    """Return those of an earlier run of the host whose processes still go on."""
    return [record for record in records if record.process is not None and record.process.is_alive()]


def _capacity_of(device: Device, gpu_sharing: str) -> DeviceCapacity:
    return DeviceCapacity(
        device.name,
        float(device.tflops.get("fp32", 0.0)),
        offered_memory_bytes(device),
        device.kind,
        offered_cores(device),
        is_whole=device.kind == "cuda" and gpu_sharing == "mig",
    )


class Host:
    """A running host without its HTTP side. Use as a context, or `open` and `close`."""

    def __init__(self, settings: HostSettings) -> None:
        self.settings = settings
        self.folder = HostFolder(settings.state_dir)
        self.version = importlib.metadata.version("elastic-inference")
        self.certificates = Certificates(settings.tls)
        self.audit = AuditLog(self.folder.audit)
        self._stop = threading.Event()
        self._lock = DirectoryLock(self.folder.lock)
        self._operator_sha256: str | None = None
        self._keeps_running: bool | None = None
        self._calendar_saved_at = 0.0
        # Threads of their own: who reads the meters may wait for an accelerator that hangs.
        self._threads = (
            threading.Thread(target=self._run_care, name="care", daemon=True),
            threading.Thread(target=self._run_meters, name="meters", daemon=True),
            threading.Thread(target=self._run_disk, name="disk", daemon=True),
        )

    def open(self) -> None:
        """Take the state directory, find what was left, begin to keep it.

        Raises:
            InvalidInput: The directory is another host's now, or cannot be used.
            LimitError: The way of limiting that was asked for does not work here.
        """
        self.folder.make()
        self._lock.take()
        try:
            self._assemble()
            self.service.open()
            self.launcher.refill()  # only now: what an earlier run left is told from what this one starts
        except SQLAlchemyError as error:
            self._lock.release()
            raise InvalidInput(f"the database was lost while the host started: {error}") from error
        except BaseException:
            self._lock.release()
            raise
        for thread in self._threads:
            thread.start()
        if any(device.kind == "cuda" for device in self.settings.devices):
            self.gpu_watch.start()

    def close(self, keep_running: bool = False) -> None:
        """End the accelerators in order, or leave them to the next run; twice is fine."""
        if self._stop.is_set():
            return
        self._stop.set()
        for thread in self._threads:
            thread.join()
        self.gpu_watch.close()
        self.service.close(keep_running)
        self.leases.close()
        self.request_rates.close()
        self.launcher.close()
        self.folder.remove_again()
        self.users.close()
        if not keep_running:
            self.limits.close()
        self.disk.close()
        self.calendar.save()
        self.store.close()
        self._lock.release()

    def __enter__(self) -> Host:
        self.open()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _assemble(self) -> None:
        settings = self.settings
        self.store = self._open_store()
        self.host_id = self._host_id()
        self._claim_rows()
        self._ensure_operator_token()
        self.limits: Limits = detect(settings.limits_mode, parent_name=f"{GROUP_PREFIX}{self.host_id}")
        self.disk = DiskGuard(self.folder, self.limits)
        self.store.before_each_transaction(self.disk.check)
        self.isolation = find_isolation(self.folder.accelerators, settings.uids)
        self.users = Users(self.isolation.uids, self.folder.path)
        self._take_users_back()
        engine = engine_to_import([device.name for device in settings.devices])
        self.launcher = Launcher(
            self.folder,
            self.isolation,
            self.users,
            settings.num_spares,
            settings.pass_on,
            None if engine is None else engine.name,
        )
        num_cores = {device.name: offered_cores(device) for device in settings.devices}
        leased = [device.name for device in settings.devices if settings.sharing(device) == "lease"]
        self.leases = LeaseKeeper(leased)
        left_over = _left_over(self.store.list_all())
        self.leases.open({r.process.pid: r.device for r in left_over if r.process is not None})
        self.calendar = Calendar(self.folder.calendar, is_free=not self.store.list_all())
        tenancy = Tenancy(self.store, self.calendar.now)
        self.request_rates = RequestRates(lambda tenant: tenancy.quota(tenant).requests_per_second, left_over)
        context = HostContext(
            store=self.store,
            limits=self.limits,
            launcher=self.launcher,
            folder=self.folder,
            secret=HostSecret(self.folder.secret),
            settings=ProcessSettings(
                data_host=settings.data_host,
                ports=settings.ports,
                tls=settings.tls,
                start_timeout_seconds=settings.start_timeout_seconds,
                drain_seconds=settings.drain_seconds,
                hang_seconds=settings.hang_seconds,
                turn_limit_seconds=settings.turn_limit_seconds,
                allow_unsafe_operations=settings.allow_unsafe_operations,
                published=settings.published,
                fence=self.folder.fence if settings.fence else None,
                gpu_sharing=settings.gpu_sharing,
                doors=settings.doors,
                mps_directory=self._mps_directory(),
                record_requests=settings.record_requests,
            ),
            num_cores=num_cores,
            cores=CoreKeeper(self.store, self.limits, cores_to_keep(num_cores, leased)),
            leases=self.leases,
            tenancy=tenancy,
            audit=self.audit,
            tenant_stores=TenantStores(self.folder, self.store),
            request_rates=self.request_rates,
            gpu_uuids={device.name: device.uuid for device in settings.devices if device.uuid},
            sharing={device.name: settings.sharing(device) for device in settings.devices},
        )
        self.service = HostService(context, self._catalogue(), self._capacity(), self.calendar)
        self.gpu_watch = GpuMemoryWatch(self.service.on_gpus, self.service.kill)
        self.launcher.open()

    def _open_store(self) -> StateStore:
        url = self.settings.database_url
        store = StateStore(url) if url else StateStore.at_path(self.folder.database)
        store.open()
        return store

    def _mps_directory(self) -> str:
        """Return where the MPS daemon's pipes are; StartFailed where accelerators are to use it and it does not run."""
        directory = str(MPS_DIRECTORY.get() or DEFAULT_MPS_DIRECTORY)
        if self.settings.gpu_sharing == "mps" and any(d.kind == "cuda" for d in self.settings.devices):
            check_mps(directory)
        return directory

    def _capacity(self) -> Capacity:
        cpu, gpu_sharing = self._cpu(), self.settings.gpu_sharing
        return Capacity(
            tuple(_capacity_of(device, gpu_sharing) for device in self.settings.devices),
            host=None if cpu is None else _capacity_of(cpu, gpu_sharing),
        )

    def _cpu(self) -> Device | None:
        return self.settings.cpu or next((d for d in self.settings.devices if d.kind == "cpu"), None)

    def _catalogue(self) -> dict[str, AcceleratorType]:
        devices, cpu = self.settings.devices, self._cpu()
        host_bytes = 0 if cpu is None else offered_memory_bytes(cpu)
        price = self.settings.core_price
        own = [cpu_types(offered_memory_bytes(d), d.num_cores, price) for d in devices if d.kind == "cpu"]
        own += [gpu_types(offered_memory_bytes(d), host_bytes) for d in devices if d.kind == "cuda"]
        return catalogue(AMAZON_TYPES, *own, self.settings.user_types)

    def _host_id(self) -> str:
        """Who this host is, in its own folder: a database may be shared, or lost."""
        path = self.folder.host_id
        if not path.exists():
            # Where it stood before; in a database that others may use, they would all be the same host.
            earlier = self.store.get_meta("host_id") if self.settings.database_url is None else None
            write_private(path, earlier or secrets.token_hex(8))
        return path.read_text().strip()

    def _claim_rows(self) -> None:
        """See our own rows alone: others may be of other hosts that share the database."""
        if self.settings.database_url is None:
            ids = [record.accelerator_id for record in self.store.list_all()]
        else:
            ids = [path.name for path in self.folder.accelerators.iterdir()]
        self.store.claim(self.host_id, ids)

    def _take_users_back(self) -> None:
        """Claim the users of accelerators that are there; one whose user another host has gets another."""
        for record in self.store.list_all():
            if record.uid is not None and not self.users.take_back(record.uid):
                extra = {"accelerator_id": record.accelerator_id, "uid": record.uid}
                logger.warning("another host has the user of an accelerator, which gets another", extra=extra)
                self.store.change(record.accelerator_id, uid=None)

    # The operator's token

    def _ensure_operator_token(self) -> None:
        """Make the token at the first start; a file that the operator has changed counts from the next start on."""
        path = self.folder.operator_token
        if path.exists():
            self._operator_sha256 = hash_token(path.read_text().strip())
        else:
            self.change_operator_token()

    def change_operator_token(self) -> str:
        """Make a new operator token, write it into its file, and refuse the old one from now on.

        The file alone says which token counts, so that one that cannot be written leaves the old one in force.
        """
        token = make_token()
        write_private(self.folder.operator_token, token + "\n")
        self._operator_sha256 = hash_token(token)
        return token

    def is_operator_hash(self, token_sha256: str) -> bool:
        """Whether this is the hash of the operator's token; in constant time."""
        known = self._operator_sha256
        return known is not None and hmac.compare_digest(token_sha256, known)

    # Care

    def _run_care(self) -> None:
        service, folder = self.service, self.folder
        tasks = service.expiry.look, service.put_tokens, folder.remove_again, self._keep_books
        self._repeat(_CARE_SECONDS, *tasks, service.tenants.look)

    def _run_meters(self) -> None:
        self._repeat(_CARE_SECONDS, self.service.board.fresh)

    def _run_disk(self) -> None:
        self._repeat(_DISK_SECONDS, self.disk.watch)

    def _repeat(self, seconds: float, *tasks: Callable[[], object]) -> None:
        while not self._stop.wait(seconds):
            for task in tasks:
                try:
                    task()
                except Exception:  # care must go on: what failed now may work in a second
                    logger.exception("care failed", extra={"task": task.__name__})

    def _keep_books(self) -> None:
        if self.calendar.now() - self._calendar_saved_at >= _CALENDAR_SECONDS:
            self._calendar_saved_at = self.calendar.now()
            self.calendar.save()
        self.certificates.log_warning(time.time())

    def stop(self, keep_running: bool) -> None:
        """Let the process that serves this host end in order, as by SIGTERM.

        Args:
            keep_running: Whether the accelerators go on, whatever the host's start said.
        """
        logger.info("asked to stop", extra={"keep_running": keep_running})
        self._keeps_running = keep_running
        os.kill(os.getpid(), signal.SIGTERM)

    def keeps_running(self, otherwise: bool) -> bool:
        """Whether accelerators go on when the host ends: as whoever stopped it said, else as given."""
        return otherwise if self._keeps_running is None else self._keeps_running

    def warnings(self) -> list[str]:
        """Return what needs somebody's care, a sentence each; nothing of anyone's accelerators."""
        found = (self.disk.warning(), self.certificates.warning(time.time()))
        return [text for text in found if text is not None]

    def reload(self) -> None:
        """Read the TLS files again, for new connections to the host and to its accelerators.

        Raises:
            InvalidInput: They cannot be used; those of before stay in force.
        """
        self.certificates.reload()
        if self.settings.tls is not None:
            self.service.reload_tls()
        logger.info("reloaded", extra={"tls": self.settings.tls is not None})

    def status(self) -> dict[str, Any]:
        """Return what `host status` shows: devices, what is left of them, what is in force and by what means."""
        return host_status(self)

    @property
    def devices(self) -> Sequence[Device]:
        """What it offers, as measured."""
        return self.settings.devices

    @property
    def limits_name(self) -> str:
        """By what means limits hold, such as `cgroup2`."""
        return self.limits.name

    @property
    def disk_figures(self) -> tuple[int, bool]:
        """Bytes free on the disk of the state directory, and whether that is too little."""
        return self.disk.free_bytes, self.disk.level is not Level.ENOUGH

    @property
    def num_users_left(self) -> int | None:
        """How many more accelerators can have a user of their own; None where they have none."""
        return self.users.num_left
