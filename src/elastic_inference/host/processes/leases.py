"""The lease segments of a host's devices: made, given to accelerators, weighed and removed.

An accelerator gets the descriptors of its own device's segment with its configuration, and reaches no other. A host
that is started again takes the segment from an accelerator that has gone on meanwhile.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Mapping

from elastic_inference.errors import AcceleratorNotFound, CapacityExceeded, InvalidInput
from elastic_inference.host.processes.lease_repair import LeaseRepair
from elastic_inference.limits.lease import memory
from elastic_inference.limits.lease.holder import LeaseConfig, LeaseStatistics
from elastic_inference.limits.lease.kernel import check_machine
from elastic_inference.limits.lease.layout import NUM_SLOTS, Rule
from elastic_inference.limits.lease.memory import LeaseFiles
from elastic_inference.limits.lease.policy import DeviceTurns
from elastic_inference.limits.lease.segment import Segment
from elastic_inference.limits.lease.tenant import Tenant

TURN_SECONDS = {"cuda": 0.0045, "cpu": 0.001}
"""Device seconds by which short requests of one accelerator may run ahead, by kind of device: 32 times what a
switch costs. On a GPU that is 0.14 ms between two processes (an H200, driver 580), here some 30 us of the hand-over."""


class LeaseKeeper:
    """The leases of a host.

    Args:
        devices: Names of the devices that are shared by lease.
    """

    def __init__(self, devices: Iterable[str]) -> None:
        self._names = tuple(devices)
        self._segments: dict[str, Segment] = {}
        self._files: dict[str, LeaseFiles] = {}  # the host's own
        self._readable: dict[str, LeaseFiles] = {}  # what tenants are given
        self._places: dict[str, tuple[str, int]] = {}  # accelerator -> device, slot
        self._lock = threading.Lock()
        self._repair: LeaseRepair | None = None

    @property
    def devices(self) -> tuple[str, ...]:
        """The devices that are shared by lease."""
        return self._names

    def open(self, left_over: Mapping[int, str] | None = None) -> None:
        """Make the segments or take over those of an earlier run, and begin to watch.

        Args:
            left_over: Accelerator processes of an earlier run of the host that still go on, and their devices.

        Raises:
            LimitError: This machine has no futexes that we can call.
            InvalidInput: A segment of an earlier run is another version's.
        """
        if self._names:
            check_machine()
        for name in self._names:
            pids = [pid for pid, device in (left_over or {}).items() if device == name]
            self._open_device(name, pids)
        self._repair = LeaseRepair(tuple(self._segments.values()))
        self._repair.start()

    def close(self) -> None:
        """Stop watching and let go of the segments, which accelerators that go on keep; twice is fine."""
        if self._repair is None:
            return
        self._repair.close()
        self._repair = None
        for name, segment in self._segments.items():
            segment.close()
            os.close(self._files[name].rules)
            os.close(self._readable[name].rules)

    def admit(self, accelerator_id: str, device: str, weight: float, may_burst: bool) -> LeaseConfig:
        """Give an accelerator a slot of its device's segment; one that has one is weighed anew.

        Args:
            weight: Its share of the device, above 0 and up to 1.

        Returns:
            What its process needs; the descriptors are this keeper's.

        Raises:
            CapacityExceeded: All slots of the device are taken.
        """
        if not 0 < weight <= 1:
            raise InvalidInput(f"weight {weight} is not above 0 and up to 1")
        segment = self._segment(device)
        with self._lock:
            slot = self._find_slot(segment, accelerator_id, device)
            before = segment.rules.read(slot)
            is_new = before.weight == 0
            generation = before.generation + is_new
            rule = Rule(weight, may_burst, generation, _number(accelerator_id))

            def action(turns: DeviceTurns, now: float) -> None:
                turns.look(now)  # at the old weight up to now
                segment.rules.write(slot, rule)
                if is_new or slot not in turns.tenants:
                    turns.join(slot, Tenant(weight, may_burst), now)
                else:
                    turns.tenants[slot].weight, turns.tenants[slot].may_burst = weight, may_burst

            segment.change(action)
            self._places[accelerator_id] = device, slot
        files = self._readable[device]
        return LeaseConfig(files.rules, files.turns, slot)

    def fits(self, accelerator_id: str, device: str, pid: int) -> bool:
        """Whether a process of an earlier run of the host shares its device as this run does."""
        segment = memory.identity(pid, device)
        if device not in self._names:
            return segment is None
        return accelerator_id in self._places and segment == self._files[device].identity

    def list_existing(self) -> tuple[str, ...]:
        """Accelerators that have a slot."""
        with self._lock:
            return tuple(self._places)

    def dismiss(self, accelerator_id: str) -> None:
        """Take slot and segment away from an accelerator whose process has ended; an unknown one is fine."""
        with self._lock:
            place = self._places.pop(accelerator_id, None)
            if place is not None:
                self._free(*place)

    def statistics(self, accelerator_id: str) -> LeaseStatistics:
        """One accelerator's account; raises AcceleratorNotFound."""
        device, slot = self._place(accelerator_id)

        def action(turns: DeviceTurns, now: float) -> Tenant:
            turns.look(now)
            return turns.tenants[slot]

        t = self._segment(device).change(action)
        figures = t.device_seconds, t.wait_seconds, t.num_leases, t.num_cuts
        return LeaseStatistics(t.weight, t.level_seconds, *figures, num_lost=0)

    def is_waiting(self, accelerator_id: str) -> bool:
        """Whether an accelerator waits for the device; raises AcceleratorNotFound."""
        device, slot = self._place(accelerator_id)
        return self._segment(device).change(lambda turns, _: turns.tenants[slot].is_waiting)

    def lock_owner(self, device: str) -> int | None:
        """Return the process that is changing the turns of a device at this moment."""
        return self._segment(device).lock_owner()

    # Slots

    def _open_device(self, name: str, pids: Iterable[int]) -> None:
        found = next((files for pid in pids if (files := memory.find(pid, name)) is not None), None)
        files = self._files[name] = found or memory.create(name)
        self._readable[name] = files.for_tenant()
        segment = self._segments[name] = Segment(files, is_host=True)
        turn_seconds = TURN_SECONDS[name.partition(":")[0]]
        segment.change(lambda turns, now: segment.rules.write_turn(turn_seconds))  # noqa: ARG005
        for slot, rule in segment.rules.in_use().items():
            self._places[f"eia-{rule.owner.hex()}"] = name, slot

    def _segment(self, name: str) -> Segment:
        try:
            return self._segments[name]
        except KeyError:
            raise InvalidInput(f"device {name} is not shared by lease") from None

    def _place(self, accelerator_id: str) -> tuple[str, int]:
        with self._lock:
            place = self._places.get(accelerator_id)
        if place is None:
            raise AcceleratorNotFound(f"accelerator {accelerator_id} has no lease here")
        return place

    def _find_slot(self, segment: Segment, accelerator_id: str, device: str) -> int:
        place = self._places.get(accelerator_id)
        if place is not None:
            return place[1]
        in_use = segment.rules.in_use()
        free = next((slot for slot in range(NUM_SLOTS) if slot not in in_use), None)
        if free is None:
            raise CapacityExceeded(
                f"all {NUM_SLOTS} lease slots of device {device} are taken",
                requested="1 lease slot",
                available=f"none of {NUM_SLOTS}",
            )
        return free

    def _free(self, device: str, slot: int) -> None:
        segment = self._segments[device]

        def action(turns: DeviceTurns, now: float) -> None:
            turns.withdraw(slot, now)
            turns.tenants.pop(slot, None)
            segment.rules.write(slot, Rule(0.0, False, segment.rules.read(slot).generation, bytes(16)))

        segment.change(action)


def _number(accelerator_id: str) -> bytes:
    return bytes.fromhex(accelerator_id.removeprefix("eia-"))
