"""What is left on all devices of a pool, and which of them an accelerator of a type would fit. No policy is here.

A budget is a device, or a host's cores and memory beside its GPUs. What fits is what the host's own `Capacity` says:
its allocations, sums and tolerance, kept as arrays over all devices, because a large pool asks often.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from elastic_inference.host.accounts.capacity import ROUNDING_SHARE, Allocation, DeviceCapacity
from elastic_inference.host.accounts.catalogue import AcceleratorType
from elastic_inference.pool.model import HostState, HostView, Placement, Request

Mask = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]


@dataclass
class _Budget:
    """A device's, or a host's: what it has and who holds how much."""

    capacity: DeviceCapacity
    held: dict[str, tuple[float, int]] = field(default_factory=dict)

    def left(self) -> tuple[float, int]:
        return (
            max(0.0, 1.0 - math.fsum(share for share, _ in self.held.values())),
            max(0, self.capacity.memory_bytes - sum(num_bytes for _, num_bytes in self.held.values())),
        )


@dataclass(frozen=True)
class _Needs:
    """What one type would hold of each device and of the host beside it; infinite where it cannot be there."""

    allocations: tuple[Allocation | None, ...]
    share: Floats
    num_bytes: Floats
    cpu_share: Floats
    host_bytes: Floats


@dataclass(frozen=True)
class Held:
    """An accelerator in the table."""

    request: Request
    placement: Placement
    row: int


class Table:
    """The devices of a pool's hosts, in the order of their hosts' ids.

    Args:
        hosts: Those in any state; only READY ones are offered.
    """

    def __init__(self, hosts: Iterable[HostView]) -> None:
        self._hosts = {host.host_id: host for host in sorted(hosts, key=lambda host: host.host_id)}
        self._held: dict[str, Held] = {}
        self._lay_out()
        for host in self._hosts.values():
            for accelerator_id, allocation in host.capacity.held.items():
                request = host.placed.get(accelerator_id, Request(""))
                self.put(accelerator_id, request, Placement(host.host_id, allocation))

    def _lay_out(self) -> None:
        self._budgets: list[_Budget] = []
        self._row_of: dict[tuple[str, str], int] = {}
        own: list[int] = []
        beside: list[int] = []
        host_of: list[int] = []
        for number, host in enumerate(self._hosts.values()):
            budget_of: dict[DeviceCapacity, int] = {}
            for device in (*host.capacity.devices, host.capacity.host_budget):
                if device is not None and device not in budget_of:
                    budget_of[device] = len(self._budgets)
                    self._budgets.append(_Budget(device))
            for device in host.capacity.devices:
                self._row_of[host.host_id, device.name] = len(own)
                own.append(budget_of[device])
                of_host = host.capacity.host_budget
                beside.append(-1 if device.kind == "cpu" or of_host is None else budget_of[of_host])
                host_of.append(number)
        self._own, self._beside = np.array(own, np.intp), np.array(beside, np.intp)
        self.host_of = np.array(host_of, np.intp)
        self.host_ids = tuple(self._hosts)
        self._number = {host_id: number for number, host_id in enumerate(self.host_ids)}
        self._has_beside = self._beside >= 0
        left = [budget.left() for budget in self._budgets]
        self._left_share = np.array([share for share, _ in left], np.float64)
        self._left_bytes = np.array([num_bytes for _, num_bytes in left], np.float64)
        self.whole_bytes = np.array([b.capacity.memory_bytes for b in self._budgets], np.float64)[self._own]
        self._whole_beside = np.array([b.capacity.memory_bytes for b in self._budgets], np.float64)[
            self._beside
        ]
        self.num_on_device = np.zeros(len(own), np.intp)
        self.num_on_host = np.zeros(len(self._hosts), np.intp)
        self._is_ready = np.array([h.state is HostState.READY for h in self._hosts.values()], np.bool_)
        self._needs: dict[str, _Needs] = {}
        self._with_features: dict[frozenset[str], Mask] = {}
        self._with_models: dict[str, Mask] = {}
        self._apart: dict[tuple[str, str], Counter[int]] = {}
        self.num_features = np.array([len(h.features) for h in self._hosts.values()], np.float64)

    # --- what is held

    def has(self, placement: Placement) -> bool:
        """Whether the device of a placement is here."""
        return (placement.host_id, placement.allocation.device) in self._row_of

    def put(self, accelerator_id: str, request: Request, placement: Placement) -> None:
        """Let an accelerator hold its place, wherever that is."""
        allocation = placement.allocation
        number = self._number[placement.host_id]
        row = self._row_of[placement.host_id, allocation.device]
        self._hold(self._own[row], accelerator_id, (allocation.share, allocation.memory_bytes))
        if self._has_beside[row]:
            self._hold(
                self._beside[row], accelerator_id, (allocation.cpu_share, allocation.host_memory_bytes)
            )
        self._held[accelerator_id] = Held(request, placement, row)
        self.num_on_device[row] += 1
        self.num_on_host[number] += 1
        if request.anti_affinity is not None:
            self._apart.setdefault((request.tenant, request.anti_affinity), Counter())[number] += 1

    def take(self, accelerator_id: str) -> Held:
        """Take an accelerator out and return what it was; KeyError where it is not held."""
        held = self._held.pop(accelerator_id)
        number = self._number[held.placement.host_id]
        for budget in {int(self._own[held.row]), int(self._beside[held.row])} - {-1}:
            del self._budgets[budget].held[accelerator_id]
            self._count(budget)
        self.num_on_device[held.row] -= 1
        self.num_on_host[number] -= 1
        if held.request.anti_affinity is not None:
            self._apart[held.request.tenant, held.request.anti_affinity][number] -= 1
        return held

    def held(self) -> Mapping[str, Held]:
        """All accelerators by id."""
        return self._held

    def _hold(self, budget: int, accelerator_id: str, amount: tuple[float, int]) -> None:
        self._budgets[budget].held[accelerator_id] = amount
        self._count(budget)

    def _count(self, budget: int) -> None:
        self._left_share[budget], self._left_bytes[budget] = self._budgets[budget].left()

    # --- hosts

    def set_state(self, host_id: str, state: HostState) -> None:
        """Offer a host's devices, or no longer; what it holds stays."""
        self._is_ready[self._number[host_id]] = state is HostState.READY

    def is_ready(self, host_id: str) -> bool:
        """Whether a host's devices are offered."""
        return bool(self._is_ready[self._number[host_id]])

    def held_on(self, host_id: str) -> list[str]:
        """Ids of the accelerators on a host, in the order in which they came."""
        return [one for one, held in self._held.items() if held.placement.host_id == host_id]

    def held_on_row(self, row: int) -> list[str]:
        """Ids of the accelerators on the device of a row, in the order in which they came."""
        return [one for one in self._budgets[self._own[row]].held if self._held[one].row == row]

    @property
    def offered(self) -> Mask:
        """Say for each device whether its host is ready."""
        return self._is_ready[self.host_of]

    def host(self, host_id: str) -> HostView:
        """Return the view that a host was given as; what is held has changed since."""
        return self._hosts[host_id]

    # --- what fits

    def has_type(self, type_name: str) -> bool:
        """Whether any host has a type of this name."""
        return any(type_name in host.catalogue for host in self._hosts.values())

    def suits(self, request: Request) -> Mask:
        """Say for each device whether an accelerator could be there if its host were empty and ready."""
        suits = self._needs_of(request.type_name).num_bytes <= self.whole_bytes
        if request.features:
            suits = suits & self._features(request.features)[self.host_of]
        return suits

    def could_fit(self, request: Request) -> Mask:
        """Say for each device whether an accelerator would fit once what is there has left."""
        could = self.suits(request) & self._is_ready[self.host_of]
        for number, count in self._neighbours(request).items():
            if count:
                could &= self.host_of != number
        return could

    def fits(self, request: Request, closed: Set[str] = frozenset()) -> Mask:
        """Say for each device whether an accelerator fits there now.

        Args:
            closed: Hosts that it may not be placed on.
        """
        needs = self._needs_of(request.type_name)
        fits = self.could_fit(request)
        fits &= self.left_share + ROUNDING_SHARE >= needs.share
        fits &= self.left_bytes >= needs.num_bytes
        if self._has_beside.any():
            fits &= (self._left_share[self._beside] + ROUNDING_SHARE >= needs.cpu_share) | ~self._has_beside
            fits &= (self._left_bytes[self._beside] >= needs.host_bytes) | ~self._has_beside
        for host_id in closed:
            if host_id in self._number:
                fits &= self.host_of != self._number[host_id]
        return fits

    def nearest(self, request: Request) -> int | None:
        """Return the row of the device, or the first of equal ones, where the least has to be given back until a
        request fits; None where it never would.
        """
        needs = self._needs_of(request.type_name)
        lack = np.maximum(
            needs.share - self.left_share, (needs.num_bytes - self.left_bytes) / self.whole_bytes
        )
        beside = np.maximum(
            needs.cpu_share - self._left_share[self._beside],
            (needs.host_bytes - self._left_bytes[self._beside]) / self._whole_beside,
        )
        lack = np.where(self._has_beside, np.maximum(lack, beside), lack)
        rows = np.flatnonzero(self.could_fit(request))
        return int(rows[np.argmin(lack[rows])]) if rows.size else None

    def placement(self, type_name: str, row: int) -> Placement:
        """Return what an accelerator of a type holds on the device of a row where it suits."""
        allocation = self._needs_of(type_name).allocations[row]
        assert allocation is not None
        return Placement(self.host_ids[self.host_of[row]], allocation)

    def device_name(self, row: int) -> str:
        """Return what the host calls the device of a row."""
        return self._budgets[int(self._own[row])].capacity.name

    @property
    def left_share(self) -> Floats:
        """Share of each device that nobody holds, 0..1."""
        return self._left_share[self._own]

    @property
    def left_bytes(self) -> Floats:
        """Memory of each device that nobody holds."""
        return self._left_bytes[self._own]

    def needed(self, type_name: str) -> tuple[Floats, Floats]:
        """Share and bytes of each device that a type would hold; infinite where it cannot be."""
        needs = self._needs_of(type_name)
        return needs.share, needs.num_bytes

    def num_local(self, models: Set[str]) -> npt.NDArray[np.intp]:
        """Count for each host how many of these models it has stored."""
        count = np.zeros(len(self._hosts), np.intp)
        for model in models:
            if model not in self._with_models:
                self._with_models[model] = np.array(
                    [model in h.models for h in self._hosts.values()], np.bool_
                )
            count += self._with_models[model]
        return count

    @property
    def num_used_devices(self) -> int:
        """Devices that hold an accelerator."""
        return int(np.count_nonzero(self.num_on_device))

    @property
    def num_used_hosts(self) -> int:
        """Hosts that hold an accelerator."""
        return int(np.count_nonzero(self.num_on_host))

    def _neighbours(self, request: Request) -> Mapping[int, int]:
        if request.anti_affinity is None:
            return {}
        return self._apart.get((request.tenant, request.anti_affinity), {})

    def _features(self, wanted: frozenset[str]) -> Mask:
        if wanted not in self._with_features:
            self._with_features[wanted] = np.array(
                [wanted <= h.features for h in self._hosts.values()], np.bool_
            )
        return self._with_features[wanted]

    def _needs_of(self, type_name: str) -> _Needs:
        if type_name not in self._needs:
            self._needs[type_name] = self._find_needs(type_name)
        return self._needs[type_name]

    def _find_needs(self, type_name: str) -> _Needs:
        known: dict[tuple[DeviceCapacity, DeviceCapacity | None, AcceleratorType], Allocation | None] = {}
        found: list[Allocation | None] = []
        for host in self._hosts.values():
            kind = host.catalogue.get(type_name)
            for device in host.capacity.devices:
                if kind is None:
                    found.append(None)
                    continue
                key = device, host.capacity.host_budget, kind
                if key not in known:
                    known[key] = host.capacity.need_on(device, kind)
                found.append(known[key])

        def column(name: str) -> Floats:
            return np.array([math.inf if one is None else getattr(one, name) for one in found], np.float64)

        return _Needs(
            tuple(found),
            column("share"),
            column("memory_bytes"),
            column("cpu_share"),
            column("host_memory_bytes"),
        )
