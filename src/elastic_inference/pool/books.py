"""What a pool knows now: its hosts, and where each accelerator is. In memory, as the database has it; one lock.

What is promised on a host is held here before the host is asked, so two attaches never get the same room.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace

from elastic_inference.clock import Clock
from elastic_inference.errors import AcceleratorNotFound, Fenced, InvalidInput
from elastic_inference.host.accounts.capacity import Allocation, Capacity
from elastic_inference.host.accounts.catalogue import AcceleratorType
from elastic_inference.host.accounts.stock import Check
from elastic_inference.pool.failover import Answer, FailoverRules, Standing, answer, lost_hosts
from elastic_inference.pool.model import HostState, HostView, Placement, Request
from elastic_inference.pool.owners import Owners
from elastic_inference.pool.placement.choosing import Policy, choose
from elastic_inference.pool.placement.table import Table
from elastic_inference.pool.store import HostRow


@dataclass(frozen=True)
class Place:
    """Room on a host.

    Attributes:
        host_epoch: Of the host when the room was taken: under a later one it is gone.
    """

    host_id: str
    host_epoch: int
    allocation: Allocation
    request: Request


@dataclass
class _Host:
    row: HostRow
    answered_at: float
    is_known_dead: bool = False
    ended_at: float | None = None

    def standing(self) -> Standing:
        return Standing(self.row.host_id, self.answered_at, self.is_known_dead, self.ended_at)


class Books:
    """Hosts, and who holds what of them. Any thread may call.

    Args:
        clock: The pool's.
    """

    def __init__(self, clock: Clock, rules: FailoverRules, policy: Policy = Policy.PACK) -> None:
        self.rules = rules
        self._policy = policy
        self._clock = clock
        self._lock = threading.RLock()
        self._hosts: dict[str, _Host] = {}
        self._places: dict[str, Place] = {}
        self._owners = Owners()

    # Hosts

    def admit(self, row: HostRow) -> None:
        """Know a host from now on; it counts as heard of now."""
        with self._lock:
            self._hosts[row.host_id] = _Host(row, self._clock.now())

    def report(self, host_id: str, epoch: int) -> None:
        """Note that a host reports; Fenced where it was given up, AcceleratorNotFound where none is known."""
        with self._lock:
            host = self._hosts.get(host_id)
            if host is None:
                raise AcceleratorNotFound(f"no host {host_id:.60} is in this pool")
            if host.row.state is HostState.LOST or answer(epoch, host.row.epoch) is Answer.FENCED:
                raise Fenced(f"host {host_id:.60} was given up; it must end what it holds and join again")
            host.answered_at = self._clock.now()
            host.ended_at = None  # whatever told so, it lives

    def note_ended(self, host_id: str, epoch: int) -> None:
        """Note that a host's process has ended, which closes its fence; a report of it proves that wrong."""
        with self._lock:
            host = self._hosts.get(host_id)
            if host is not None and host.row.epoch == epoch:
                host.ended_at = self._clock.now()

    def note_dead(self, host_id: str, epoch: int) -> None:
        """Note that a host has closed its fence and ended: there is no lease to wait for."""
        with self._lock:
            host = self._hosts.get(host_id)
            if host is not None and host.row.epoch == epoch:
                host.is_known_dead = True

    def lost(self) -> list[HostRow]:
        """Return hosts whose lease has ended and which are not marked as lost yet."""
        with self._lock:
            standings = [
                host.standing() for host in self._hosts.values() if host.row.state is not HostState.LOST
            ]
            return [self._hosts[key].row for key in lost_hosts(standings, self._clock.now(), self.rules)]

    def mark_lost(self, host_id: str) -> HostRow | None:
        """Give a host up, unless it has just reported: from now on its reports are refused."""
        with self._lock:
            host = self._hosts[host_id]
            if not host.standing().is_lost(self._clock.now(), self.rules):
                return None
            host.row = replace(host.row, state=HostState.LOST)
            return host.row

    def put_host(self, row: HostRow) -> None:
        """Change what is known of a host, but not when it was heard of."""
        with self._lock:
            self._hosts[row.host_id].row = row

    def forget_host(self, host_id: str) -> None:
        """Know a host no longer; an unknown one is fine."""
        with self._lock:
            self._hosts.pop(host_id, None)

    def host(self, host_id: str) -> HostRow:
        """One host; raises InvalidInput where the pool has none of this id."""
        with self._lock:
            host = self._hosts.get(host_id)
            if host is None:
                known = ", ".join(sorted(self._hosts)) or "none"
                raise InvalidInput(f"host {host_id!r:.80} is not of this pool; it has {known}")
            return host.row

    def hosts(self) -> list[HostRow]:
        """All hosts, lost ones too."""
        with self._lock:
            return [host.row for host in self._hosts.values()]

    def counts(self, host_id: str, epoch: int) -> bool:
        """Whether this admission of a host is in force."""
        with self._lock:
            host = self._hosts.get(host_id)
            return host is not None and host.row.epoch == epoch and host.row.state is not HostState.LOST

    def silent_seconds(self, host_id: str) -> float:
        """Seconds since a host was heard of."""
        with self._lock:
            return self._clock.now() - self._hosts[host_id].answered_at

    def serves(self, place: Place) -> bool:
        """Whether a place may still hold an accelerator: its host was not given up since."""
        return self.counts(place.host_id, place.host_epoch)

    # Places

    def take(
        self,
        key: str,
        request: Request,
        without: Iterable[str] = (),
        check: Check | None = None,
        kept: Iterable[tuple[str, Request, Placement]] = (),
    ) -> Place:
        """Hold room for an accelerator.

        Args:
            key: The accelerator's id; while it moves, another name for the room it moves to.
            without: Hosts that it must not be on.
            check: Raises where its tenant, who holds some, may not have that too.
            kept: Room that is kept for others, by their names.

        Raises:
            CapacityExceeded: It fits nowhere; with what is left.
            InvalidInput: No host has such a type.
        """
        of_this = f"{key.partition('@')[0]}@"
        with self._lock:
            # Where it may be left over, or leaves: an order to end it there must not find it new.
            shut = {place.host_id for other, place in self._places.items() if other.startswith(of_this)}
            shut |= set(without)
            views = [view for view in self._views() if view.host_id not in shut]
            table = Table(views)
            for other, wanted, placement in kept:
                if table.has(placement):
                    table.put(other, wanted, placement)
            found = choose(table, request, self._policy)
            epoch = self._hosts[found.host_id].row.epoch
            allocation = replace(found.allocation, tenant=request.tenant)
            self._check(key, request.tenant, allocation, check)
            taken = Place(found.host_id, epoch, allocation, request)
            self._put(key, taken)
            return taken

    def _check(self, key: str, tenant: str, wanted: Allocation, check: Check | None) -> None:
        if check is not None:
            others = self._owners.held_by(tenant)
            others.pop(key, None)
            check(others.values(), wanted)

    def widen(self, key: str, kind: AcceleratorType, check: Check | None = None) -> None:
        """Count the larger of what an accelerator has and what it would have of another type on its device.

        Until `put` says what it has in the end.

        Raises:
            AcceleratorNotFound: It has no place now.
            What `check` raises.
        """
        with self._lock:
            place = self._places.get(key)
            if place is None:
                raise AcceleratorNotFound(f"accelerator {key:.60} has no host at this moment")
            before, capacity = place.allocation, self._hosts[place.host_id].row.offer.capacity
            device = next(each for each in capacity.devices if each.name == before.device)
            after = capacity.need_on(device, kind)
            if after is None:
                return  # its host will say that it is too large
            self._check(key, before.tenant, after, check)
            self._owners.put(key, place.request, before.larger(after))

    def kind_of(self, place: Place) -> AcceleratorType:
        """Return the type as it is on this host, with the figures that the place decided."""
        kinds = self.host(place.host_id).offer.catalogue
        return place.allocation.settled(kinds[place.request.type_name])

    def put(self, key: str, place: Place) -> None:
        """Hold exactly this for an accelerator from now on."""
        with self._lock:
            self._put(key, place)

    def _put(self, key: str, place: Place) -> None:
        self._places[key] = place
        if "@" not in key:
            self._owners.put(key, place.request, place.allocation)

    def rename(self, old: str, new: str) -> None:
        """Hold for `new` what `old` holds, and nothing for `old`."""
        with self._lock:
            self._put(new, self._places.pop(old))

    def free(self, key: str) -> None:
        """Hold no room; an unknown key is fine. The accelerator stays its tenant's, and counts as such."""
        with self._lock:
            self._places.pop(key, None)

    def own(self, accelerator_id: str, request: Request, allocation: Allocation) -> None:
        """Count as its tenant's what is nowhere now."""
        with self._lock:
            self._owners.put(accelerator_id, request, allocation)

    def forget(self, accelerator_id: str) -> None:
        """Hold and count nothing of an accelerator that is gone; an unknown one is fine."""
        with self._lock:
            self._places.pop(accelerator_id, None)
            self._owners.remove(accelerator_id)

    def held_by(self, tenant: str) -> dict[str, Allocation]:
        """Return what a tenant's accelerators hold, by id, wherever they are."""
        with self._lock:
            return self._owners.held_by(tenant)

    def tenant_of(self, accelerator_id: str) -> str | None:
        """Return whose an accelerator is; None for one that is not attached. Waits for nothing."""
        return self._owners.tenant_of(accelerator_id)

    def homeless(self) -> list[tuple[str, Request]]:
        """Return the accelerators that are nowhere, and what each was attached as."""
        with self._lock:
            return [(key, one.request) for key, one in self._owners.all().items() if key not in self._places]

    def spreads(self) -> dict[str, Counter[str]]:
        """Count what each host holds of each tenant; what moves or may be left over counts where that may be too."""
        with self._lock:
            pairs = {
                (place.request.tenant, place.host_id, key.partition("@")[0])
                for key, place in self._places.items()
            }
        found: dict[str, Counter[str]] = {}
        for tenant, host_id, _ in pairs:
            found.setdefault(tenant, Counter())[host_id] += 1
        return found

    def place_of(self, key: str) -> Place | None:
        """Return where an accelerator is; None: nowhere."""
        return self._places.get(key)

    def on_host(self, host_id: str) -> list[str]:
        """Return the keys of what a host holds."""
        with self._lock:
            return [key for key, place in self._places.items() if place.host_id == host_id]

    def views(self) -> list[HostView]:
        """Return hosts as placement sees them."""
        with self._lock:
            return self._views()

    def _views(self) -> list[HostView]:
        return [self._view(host.row) for host in self._hosts.values()]

    def _view(self, row: HostRow) -> HostView:
        mine = {key: place for key, place in self._places.items() if place.host_id == row.host_id}
        held = {key: place.allocation for key, place in mine.items()}
        return HostView(
            host_id=row.host_id,
            capacity=replace(row.offer.capacity, held=held),
            catalogue=row.offer.catalogue,
            node_id=row.node_id,
            state=row.state,
            features=row.offer.features,
            epoch=row.epoch,
            placed={key: place.request for key, place in mine.items()},
        )

    def capacity(self) -> Capacity:
        """Return the devices of all hosts that answer as one host's, under names that say whose they are."""
        devices, held = [], {}
        for view in self.views():
            if view.state is HostState.LOST:
                continue
            devices += [
                replace(device, name=device_name(view.host_id, device.name))
                for device in view.capacity.devices
            ]
            for key, allocation in view.capacity.held.items():
                held[key] = replace(allocation, device=device_name(view.host_id, allocation.device))
        return Capacity(tuple(devices), held)

    def catalogue(self) -> dict[str, AcceleratorType]:
        """Return the types of all hosts by name; of one that several have, the first host's."""
        kinds: dict[str, AcceleratorType] = {}
        for row in sorted(self.hosts(), key=lambda row: row.host_id):
            for kind in row.offer.catalogue.values():
                kinds.setdefault(kind.name, kind)
        return kinds


def device_name(host_id: str, device: str) -> str:
    """Return what a host's device is called in its pool."""
    return f"{host_id[:8]}/{device}"
