"""The lease segments of a host's devices: made, given to accelerators, weighed and removed.

One folder a host, in memory (/dev/shm), for a file on a disk would stall whoever writes it while it is flushed. Each
device has a folder there that the host alone may enter; each accelerator has one that only its user may enter, with
links to the files of its device. So an accelerator reaches the segment of its own device and no other, and a process
that a host restarted, or a host that is started again, finds everything by its path.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import threading
from collections.abc import Iterable
from pathlib import Path

from elastic_inference.errors import AcceleratorNotFound, CapacityExceeded, InvalidInput
from elastic_inference.host.processes.lease_repair import LeaseRepair
from elastic_inference.limits.lease.holder import LeaseConfig, LeaseStatistics
from elastic_inference.limits.lease.kernel import check_machine
from elastic_inference.limits.lease.layout import NUM_SLOTS, Rule
from elastic_inference.limits.lease.policy import DeviceTurns, Tenant
from elastic_inference.limits.lease.segment import RULES_NAME, TURNS_NAME, Segment, create

MEMORY_FOLDER = Path("/dev/shm")

TURN_SECONDS = {"cuda": 0.0045, "cpu": 0.001}
"""Device seconds by which short requests of one accelerator may run ahead, by kind of device: 32 times what a
switch costs. On a GPU that is 0.14 ms between two processes (an H200, driver 580), here some 30 us of the hand-over."""


class LeaseKeeper:
    """The leases of a host.

    Args:
        folder: Of this host, in memory; made by `open`.
        devices: Names of the devices that are shared by lease.
    """

    def __init__(self, folder: Path, devices: Iterable[str]) -> None:
        self.folder = folder
        self._names = tuple(devices)
        self._segments: dict[str, Segment] = {}
        self._places: dict[str, tuple[str, int]] = {}  # accelerator -> device, slot
        self._lock = threading.Lock()
        self._repair: LeaseRepair | None = None

    @property
    def devices(self) -> tuple[str, ...]:
        """The devices that are shared by lease."""
        return self._names

    def open(self) -> None:
        """Make the segments or take over those of an earlier run, and begin to watch.

        Raises:
            LimitError: This machine has no futexes that we can call.
            InvalidInput: The folder is another user's, or a segment another version's.
        """
        if self._names:
            check_machine()
            self.folder.mkdir(mode=0o711, exist_ok=True)
            if self.folder.stat().st_uid != os.geteuid():
                raise InvalidInput(f"{self.folder} belongs to another user; remove it")
            os.chmod(self.folder, 0o711)
        for name in self._names:
            self._open_device(name)
        self._repair = LeaseRepair(tuple(self._segments.values()))
        self._repair.start()

    def close(self, keep: bool = False) -> None:
        """Stop watching and remove the segments; twice is fine.

        Args:
            keep: Leave them to accelerators that go on, and to the host's next run.
        """
        if self._repair is None:
            return
        self._repair.close()
        self._repair = None
        for segment in self._segments.values():
            segment.close()
        if not keep:
            shutil.rmtree(self.folder, ignore_errors=True)

    def admit(
        self, accelerator_id: str, device: str, weight: float, may_burst: bool, uid: int | None
    ) -> LeaseConfig:
        """Give an accelerator a slot and a way to its device's segment; one that has them is weighed anew.

        Args:
            weight: Its share of the device, above 0 and up to 1.
            uid: The user that its process runs as; None: the host's own.

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
        return LeaseConfig(str(self._make_links(accelerator_id, device, uid)), slot)

    def reweigh(self, accelerator_id: str, weight: float, may_burst: bool) -> None:
        """Change an accelerator's share under its running process; raises AcceleratorNotFound."""
        device, _ = self._place(accelerator_id)
        self.admit(accelerator_id, device, weight, may_burst, _owner(self.folder / accelerator_id))

    def fits(self, accelerator_id: str, device: str) -> bool:
        """Whether a process of an earlier run of the host shares its device as this run does."""
        if device in self._names:
            return accelerator_id in self._places
        return not (self.folder / accelerator_id).exists()

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
        shutil.rmtree(self.folder / accelerator_id, ignore_errors=True)

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
        """The process that is changing the turns of a device at this moment."""
        return self._segment(device).lock_owner()

    # Slots

    def _open_device(self, name: str) -> None:
        folder = self.folder / _file_name(name)
        folder.mkdir(mode=0o700, exist_ok=True)
        create(folder)
        segment = Segment(folder, is_host=True)
        turn_seconds = TURN_SECONDS[name.partition(":")[0]]
        segment.change(lambda turns, now: segment.rules.write_turn(turn_seconds))  # noqa: ARG005
        self._segments[name] = segment
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

    def _make_links(self, accelerator_id: str, device: str, uid: int | None) -> Path:
        """A folder that the accelerator's user may enter and not change, with the two files."""
        folder = self.folder / accelerator_id
        folder.mkdir(mode=0o700, exist_ok=True)
        for name in (RULES_NAME, TURNS_NAME):
            with contextlib.suppress(FileExistsError):
                os.link(self.folder / _file_name(device) / name, folder / name)
        if uid is not None:
            os.chown(folder, os.geteuid(), uid)  # accelerators run in a group of the number of their user
            os.chmod(folder, 0o710)
        return folder


def _number(accelerator_id: str) -> bytes:
    return bytes.fromhex(accelerator_id.removeprefix("eia-"))


def _owner(folder: Path) -> int | None:
    """The user to whom an accelerator's folder is open, None for the host's own."""
    status = folder.stat()
    return status.st_gid if status.st_mode & 0o010 else None


def _file_name(device: str) -> str:
    return device.replace(":", "-").replace("/", "-")
