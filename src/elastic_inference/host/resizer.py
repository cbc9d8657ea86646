"""Gives an attached accelerator another type: under its running process where that can be, else with a new one."""

from __future__ import annotations

from dataclasses import replace

from elastic_inference.errors import ElasticInferenceError, MemoryQuotaExceeded
from elastic_inference.host.accounts.catalogue import AcceleratorType
from elastic_inference.host.accounts.ledger import Ledger
from elastic_inference.host.accounts.records import AcceleratorRecord
from elastic_inference.host.accounts.stock import Check
from elastic_inference.host.meter import Meter
from elastic_inference.host.processes.context import HostContext
from elastic_inference.host.processes.fleet import Fleet
from elastic_inference.host.processes.keeper import Keeper
from elastic_inference.limits.base import fit_threads, rlimit_inside
from elastic_inference.limits.processes import data_size_bytes
from elastic_inference.units import format_bytes


class Resizer:
    """Changes types. Whatever fails, the accelerator is as it was, and no more is held than the devices have."""

    def __init__(self, context: HostContext, fleet: Fleet, ledger: Ledger, meter: Meter) -> None:
        self._context = context
        self._fleet = fleet
        self._ledger = ledger
        self._meter = meter

    def resize(
        self, record: AcceleratorRecord, kind: AcceleratorType, check: Check | None = None
    ) -> tuple[AcceleratorRecord, bool]:
        """Give an accelerator another type; nobody else changes it meanwhile.

        Args:
            check: Whether its tenant may have that; see Ledger.

        Returns:
            What it is now, and whether its process was started again.

        Raises:
            CapacityExceeded: The new type does not fit beside the others.
            MemoryQuotaExceeded: It uses more memory now than the new type has.
        """
        before, after = self._ledger.widen(record.accelerator_id, kind, check)
        changed = replace(
            record, kind=replace(after.settled(kind), doors=record.kind.doors), share=after.share
        )
        try:
            self._check_memory(record, changed)
            self._meter.read(record)  # what it did until now, which ends with its process
            was_restarted = self._change(record, changed)
        except BaseException:
            self._ledger.put(record.accelerator_id, before)
            raise
        self._ledger.put(record.accelerator_id, after)
        return changed, was_restarted

    def _change(self, record: AcceleratorRecord, changed: AcceleratorRecord) -> bool:
        """Put the change in force and write it down; True where the process was started again for that."""
        keeper = self._fleet.keeper(record.accelerator_id)
        if not self._change_live(changed, keeper):
            self._restart(record, changed, keeper)
            return True
        try:
            self._context.store.change(record.accelerator_id, kind=changed.kind, share=changed.share)
        except BaseException:
            keeper.change_limits(self._context.limit_request(record))
            self._context.admit(record)
            raise
        return False

    def _change_live(self, changed: AcceleratorRecord, keeper: Keeper) -> bool:
        """Change the limits under the running process; False where it must be started again for that."""
        request = self._context.limit_request(changed)
        if keeper.applied is None or keeper.applied.num_threads != fit_threads(request):
            return False
        if keeper.applied.duty_cycle_share is not None:
            return False
        if changed.kind.device_memory_bytes is not None:  # an engine's allocator is limited when it starts
            return False
        if not keeper.change_limits(request):
            return False
        self._context.admit(changed)
        return True

    def _restart(self, record: AcceleratorRecord, changed: AcceleratorRecord, keeper: Keeper) -> None:
        """Start the process again as `changed`, or as it was where that does not serve."""
        self._context.store.change(record.accelerator_id, kind=changed.kind, share=changed.share)
        keeper.restart()
        try:
            keeper.wait_ready(self._context.settings.start_timeout_seconds)
        except ElasticInferenceError:
            self._context.store.change(record.accelerator_id, kind=record.kind, share=record.share)
            raise

    def _check_memory(self, record: AcceleratorRecord, changed: AcceleratorRecord) -> None:
        """Refuse less memory than is in use: the process would be killed, or fail with its next request."""
        limit_bytes = changed.kind.memory_bytes
        if limit_bytes >= record.kind.memory_bytes or record.process is None:
            return
        used_bytes = self._context.limits.usage(record.accelerator_id).memory_bytes
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
