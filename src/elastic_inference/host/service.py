"""What a host does for its callers: attach, detach, resize, tokens, usage. HTTP is another module's.

One lock orders what changes capacity; starting and ending processes happens outside it.
"""

from __future__ import annotations

import contextlib
import logging
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

from elastic_inference.clock import Clock, MonotonicClock
from elastic_inference.errors import (
    AcceleratorBusy,
    AcceleratorNotFound,
    CapacityExceeded,
    ElasticInferenceError,
    InvalidInput,
    MemoryQuotaExceeded,
)
from elastic_inference.host.accounts.capacity import Allocation, Capacity
from elastic_inference.host.accounts.catalogue import AcceleratorType
from elastic_inference.host.accounts.leases import LeaseBook, check_lease
from elastic_inference.host.accounts.records import AcceleratorRecord, State
from elastic_inference.host.accounts.usage import UsageRow, summarize
from elastic_inference.host.meter import Meter, Reading
from elastic_inference.host.processes.context import HostContext
from elastic_inference.host.processes.fleet import Fleet
from elastic_inference.host.processes.keeper import Keeper
from elastic_inference.host.tokens import hash_token, make_token
from elastic_inference.limits.base import fit_threads, rlimit_inside
from elastic_inference.limits.processes import data_size_bytes
from elastic_inference.units import format_bytes

logger = logging.getLogger(__name__)

MAX_NAME_LENGTH = 100
MAX_DRAIN_SECONDS = 600.0


@dataclass(frozen=True)
class Offer:
    """A type of the catalogue and how many of it still fit."""

    kind: AcceleratorType
    num_available: int


class HostService:
    """A host's accelerators.

    Args:
        catalogue: Types by name.
        capacity: Devices, with nothing held.
        clock: For leases.
        wall_clock: Seconds since 1970, for usage.
    """

    def __init__(
        self,
        context: HostContext,
        catalogue: Mapping[str, AcceleratorType],
        capacity: Capacity,
        clock: Clock | None = None,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self.context = context
        self.catalogue = dict(catalogue)
        self.leases = LeaseBook(clock or MonotonicClock())
        self.meter = Meter(context, wall_clock)
        self.started_at = wall_clock()
        self.is_draining = False
        self._store = context.store
        self._fleet = Fleet(context)
        self._wall_clock = wall_clock
        self._lock = threading.Lock()
        self._capacity = capacity
        self._busy: dict[str, threading.Lock] = {}

    def open(self) -> None:
        """Find the accelerators of an earlier run, and begin to keep them."""
        for record in self._fleet.recover():
            allocation = Allocation.of(record.kind, record.device, record.share)
            self._capacity = self._capacity.with_held(record.accelerator_id, allocation)
            # Heartbeats that came while the host was away were lost, so each lease begins anew.
            self.leases.grant(record.accelerator_id, record.lease_seconds)
        # An interval whose accelerator is gone was left open by a crash between two writes.
        known = {record.accelerator_id for record in self._store.list_all()}
        for row in self._store.list_intervals(since=self.started_at):
            if row["ended_at"] is None and row["accelerator_id"] not in known:
                self._store.end_interval(row["accelerator_id"], self.started_at)

    def close(self, keep_running: bool = False) -> None:
        """End all accelerators in order, to be started again by the next run; or leave them running."""
        self.is_draining = True
        try:
            self.read_meters()
        except Exception:  # such as a database that is away: the processes must end all the same
            logger.exception("the last reading of the meters failed")
        self._fleet.close(keep_running)

    # What there is

    @property
    def capacity(self) -> Capacity:
        """Devices and what is held of them, now."""
        return self._capacity

    def offers(self) -> tuple[Offer, ...]:
        """All types, and how many of each still fit."""
        capacity = self._capacity
        return tuple(Offer(kind, capacity.num_available(kind)) for kind in self.catalogue.values())

    def list_all(self) -> tuple[AcceleratorRecord, ...]:
        """All accelerators, oldest first."""
        return self._store.list_all()

    def get(self, accelerator_id: str) -> AcceleratorRecord:
        """One accelerator; raises AcceleratorNotFound."""
        record = self._store.get(accelerator_id)
        if record is None:
            raise AcceleratorNotFound(f"no accelerator {accelerator_id:.60} is attached here")
        return record

    def limits_of(self, record: AcceleratorRecord) -> dict[str, str]:
        """What is in force for an accelerator and by what means; {} while its process starts."""
        with contextlib.suppress(AcceleratorNotFound):
            applied = self._fleet.keeper(record.accelerator_id).applied
            if applied is not None:
                cores = self.context.cores.describe(record.accelerator_id)
                means = self.context.describe_limits(record, applied)
                return means | ({} if cores is None else {"cores": cores})
        return {}

    # Attach, detach

    def attach(
        self, type_name: str, name: str | None = None, lease_seconds: float | None = None
    ) -> tuple[AcceleratorRecord, str]:
        """Give an accelerator away; it serves when this returns.

        Returns:
            Its record, and its bearer token, which nobody can read again.

        Raises:
            InvalidInput: No such type, or a value beyond its limit.
            NameTaken: Another accelerator has this name.
            CapacityExceeded: It does not fit; with what is left. Or the host drains.
            ElasticInferenceError: Its process did not start; nothing is left of it.
        """
        kind = self._type(type_name)
        check_lease(lease_seconds)
        accelerator_id, token = f"eia-{secrets.token_hex(16)}", make_token()
        name = _check_name(name) or accelerator_id[:12]
        with self._lock:
            if self.is_draining:
                raise CapacityExceeded(
                    "this host drains and attaches nothing new; attach at another host, or let the operator run "
                    "`ei host drain --off`",
                    requested=type_name,
                    available="none",
                )
            self._store.check_name(name)
            allocation = self._capacity.place(kind)
            self._capacity = self._capacity.with_held(accelerator_id, allocation)
        kind = allocation.settled(kind)
        record = AcceleratorRecord(
            accelerator_id=accelerator_id,
            name=name,
            kind=kind,
            device=allocation.device,
            share=allocation.share,
            token_sha256=hash_token(token),
            created_at=self._wall_clock(),
            lease_seconds=lease_seconds,
        )
        try:
            self._store.add(record)
            self._fleet.launch(record, self.context.settings.start_timeout_seconds + 10)
        except BaseException:
            self._fleet.forget(record)
            self._free(accelerator_id)
            raise
        self._store.begin_interval(record, self._wall_clock())
        self.leases.grant(accelerator_id, lease_seconds)
        self.context.launcher.refill()
        logger.info("attached", extra={"accelerator_id": accelerator_id, "type": kind.name})
        return self.get(accelerator_id), token

    def detach(self, accelerator_id: str, drain_seconds: float | None = None) -> None:
        """Take an accelerator back, after it has finished what is in flight.

        Raises:
            AcceleratorNotFound: It is not attached (any more).
        """
        if drain_seconds is not None and not 0 <= drain_seconds <= MAX_DRAIN_SECONDS:
            raise InvalidInput(f"drain_seconds {drain_seconds} is not between 0 and {MAX_DRAIN_SECONDS:g}")
        with self._alone(accelerator_id) as record:
            self._store.change(accelerator_id, state=State.DRAINING)
            self.meter.read(record)
            self._fleet.end(record, drain_seconds)
            self._store.end_interval(accelerator_id, self._wall_clock())
            self.leases.release(accelerator_id)
            self.meter.forget(accelerator_id)
            self._free(accelerator_id)
        logger.info("detached", extra={"accelerator_id": accelerator_id})

    def resize(self, accelerator_id: str, type_name: str) -> tuple[AcceleratorRecord, bool]:
        """Give an attached accelerator another type; it keeps its id, token, endpoints and models.

        Returns:
            Its record, and whether its process was started again: the kernel's limits change under a running
            process, the number of its threads does not.

        Raises:
            CapacityExceeded: The new type does not fit beside the others.
            MemoryQuotaExceeded: It uses more memory now than the new type has.
        """
        kind = self._type(type_name)
        with self._alone(accelerator_id) as record:
            before = self._hold(record, kind)
            try:
                held = self._capacity.held[accelerator_id]
                kind = held.settled(kind)
                changed = replace(record, kind=kind, share=held.share)
                self._check_memory(record, changed)
                self.meter.read(record)
                is_live = self._change_live(changed, self._fleet.keeper(accelerator_id))
                if not is_live:
                    self._restart(record, changed)
            except BaseException:
                with self._lock:
                    self._capacity = self._capacity.with_held(accelerator_id, before)
                raise
            self._store.change(accelerator_id, kind=kind, share=changed.share)
            self.context.cores.refresh()
            self._store.begin_interval(changed, self._wall_clock())
        return self.get(accelerator_id), not is_live

    def _restart(self, record: AcceleratorRecord, changed: AcceleratorRecord) -> None:
        """Start the process again as `changed`, or as it was where that does not serve."""
        keeper = self._fleet.keeper(record.accelerator_id)
        self._store.change(record.accelerator_id, kind=changed.kind, share=changed.share)
        keeper.restart()
        try:
            keeper.wait_ready(self.context.settings.start_timeout_seconds)
        except ElasticInferenceError:
            self._store.change(record.accelerator_id, kind=record.kind, share=record.share)
            raise

    def _hold(self, record: AcceleratorRecord, kind: AcceleratorType) -> Allocation:
        """Hold what the new type needs, on the same device; gives back what was held."""
        with self._lock:
            before = self._capacity.held[record.accelerator_id]
            others = self._capacity.without(record.accelerator_id)
            here = tuple(d for d in others.devices if d.name == record.device)
            allocation = replace(others, devices=here).place(kind)
            self._capacity = others.with_held(record.accelerator_id, allocation)
            return before

    def _check_memory(self, record: AcceleratorRecord, changed: AcceleratorRecord) -> None:
        """Refuse less memory than is in use: the process would be killed, or fail with its next request."""
        limit_bytes = changed.kind.memory_bytes
        if limit_bytes >= record.kind.memory_bytes or record.process is None:
            return
        used_bytes = self.context.limits.usage(record.accelerator_id).memory_bytes
        # RLIMIT_DATA holds data, and it lies inside the memory limit by a margin.
        data_bytes = data_size_bytes(record.process.pid) + limit_bytes - rlimit_inside(limit_bytes)
        needed_bytes = max(used_bytes, data_bytes)
        if needed_bytes > limit_bytes:
            raise MemoryQuotaExceeded(
                f"the accelerator uses {format_bytes(needed_bytes)}, and type {changed.kind.name!r} has "
                f"{format_bytes(limit_bytes)}; unload models first",
                requested_bytes=needed_bytes,
                limit_bytes=limit_bytes,
            )

    def _change_live(self, changed: AcceleratorRecord, keeper: Keeper) -> bool:
        """Change the limits under the running process; False where it must be started again for that."""
        request = self.context.limit_request(changed)
        if keeper.applied is None or keeper.applied.num_threads != fit_threads(request):
            return False
        if keeper.applied.duty_cycle_share is not None:
            return False
        if changed.kind.device_memory_bytes is not None:  # an engine's allocator is limited when it starts
            return False
        if not keeper.change_limits(request):
            return False
        self.context.admit(changed)
        return True

    # Leases, tokens

    def heartbeat(self, accelerator_id: str) -> float | None:
        """Note that the client is there; seconds that its lease lasts from now, None where it has none."""
        self.get(accelerator_id)
        return self.leases.renew(accelerator_id)

    def expire(self) -> None:
        """Detach accelerators whose clients have vanished."""
        for accelerator_id in self.leases.expired():
            logger.warning("lease expired", extra={"accelerator_id": accelerator_id})
            try:
                self.detach(accelerator_id)
            except AcceleratorNotFound:
                self.leases.release(accelerator_id)
            except AcceleratorBusy:
                continue  # the next round sees to it

    def rotate_token(self, accelerator_id: str) -> str:
        """Give an accelerator a new bearer token; the old one is refused from now on."""
        token = make_token()
        with self._alone(accelerator_id) as record:
            self.context.control(record, "PUT", "/v2/accelerator/token", {"token_sha256": hash_token(token)})
            self._store.change(accelerator_id, token_sha256=hash_token(token))
        return token

    # Usage

    def read_meters(self) -> dict[str, Reading]:
        """Read what all accelerators use now."""
        return {record.accelerator_id: self.meter.read(record) for record in self._store.list_all()}

    def usage(self, since: float = 0.0) -> tuple[UsageRow, ...]:
        """Attached time, cost and counters of all accelerators since a moment, detached ones included."""
        self.read_meters()
        intervals = self._store.list_intervals(since)
        return summarize(intervals, self._store.list_usage(since), since, self._wall_clock())

    # Shared

    def _type(self, name: str) -> AcceleratorType:
        kind = self.catalogue.get(name)
        if kind is None:
            raise InvalidInput(f"type {name!r:.80} is not one of {', '.join(sorted(self.catalogue))}")
        return kind

    def _free(self, accelerator_id: str) -> None:
        with self._lock:
            self._capacity = self._capacity.without(accelerator_id)
            self._busy.pop(accelerator_id, None)

    @contextlib.contextmanager
    def _alone(self, accelerator_id: str) -> Iterator[AcceleratorRecord]:
        """Change an accelerator alone.

        Nobody waits: callers that did could take all threads of the API from others.
        """
        self.get(accelerator_id)
        with self._lock:
            lock = self._busy.setdefault(accelerator_id, threading.Lock())
        if not lock.acquire(blocking=False):
            raise AcceleratorBusy(
                f"accelerator {accelerator_id} is being changed by another request; try again"
            )
        try:
            yield self.get(accelerator_id)
        finally:
            lock.release()


def _check_name(name: str | None) -> str | None:
    if name is not None and not (0 < len(name) <= MAX_NAME_LENGTH and name.isprintable()):
        raise InvalidInput(f"name {name!r:.120} is not 1 to {MAX_NAME_LENGTH} printable characters")
    return name
