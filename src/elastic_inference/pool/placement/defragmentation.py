"""How scattered a pool is, and which idle accelerators to move so that devices become free."""

from __future__ import annotations

import math
from collections.abc import Iterable, Set
from dataclasses import dataclass

import numpy as np

from elastic_inference.pool.model import HostState, HostView, Placement, Request
from elastic_inference.pool.placement.choosing import Policy, find
from elastic_inference.pool.placement.table import Table


@dataclass(frozen=True)
class Fragmentation:
    """How scattered a pool is.

    Attributes:
        num_devices, num_used_devices: Offered now; of these, with an accelerator.
        left_devices: What is left of all of them together, in devices.
        stranded_devices: Of that, what is left on devices in use.
        stranded_share: Of what is left, 0..1: no accelerator that needs a whole device can have it.
    """

    num_devices: int
    num_used_devices: int
    left_devices: float
    stranded_devices: float

    @property
    def stranded_share(self) -> float:
        return self.stranded_devices / self.left_devices if self.left_devices > 0 else 0.0


@dataclass(frozen=True)
class Move:
    """An idle accelerator that should go elsewhere, so that the device it is on becomes free."""

    accelerator_id: str
    source: Placement
    target: Placement


def fragmentation(hosts: Table | Iterable[HostView]) -> Fragmentation:
    """Count how scattered a pool is now."""
    table = hosts if isinstance(hosts, Table) else Table(hosts)
    offered = table.offered
    used = offered & (table.num_on_device > 0)
    return Fragmentation(
        num_devices=int(np.count_nonzero(offered)),
        num_used_devices=int(np.count_nonzero(used)),
        left_devices=math.fsum(table.left_share[offered]),
        stranded_devices=math.fsum(table.left_share[used]),
    )


def defragment(hosts: Iterable[HostView], max_moves: int | None = None) -> list[Move]:
    """Plan moves of idle accelerators that free devices; in this order each fits when its turn comes.

    Args:
        hosts: Only what they call idle is moved, and only among hosts that are READY.
        max_moves: Greatest number; devices that take the fewest moves are freed first. None: no limit.
    """
    views = list(hosts)
    ready = {host.host_id for host in views if host.state is HostState.READY}
    idle = frozenset(one for host in views if host.host_id in ready for one in host.idle)
    return defragment_table(Table(views), idle, max_moves)


def defragment_table(table: Table, idle: Set[str], max_moves: int | None = None) -> list[Move]:
    """Plan as `defragment` does and carry it out in the table."""
    moves: list[Move] = []
    tried: set[int] = set()
    while True:
        row = _least_used(table, idle, tried)
        if row is None:
            return moves
        left = None if max_moves is None else max_moves - len(moves)
        found = _empty(table, row, left)
        if found is None:
            tried.add(row)
            continue
        moves += found
        tried.clear()  # what was moved may have changed where others fit


def _least_used(table: Table, idle: Set[str], tried: Set[int]) -> int | None:
    """Return the device to free next: all on it are idle, and of such ones the least is held of it."""
    candidates = [
        int(row)
        for row in np.flatnonzero((table.num_on_device > 0) & table.offered)
        if row not in tried and all(one in idle for one in table.held_on_row(int(row)))
    ]
    return min(candidates, key=lambda row: (1 - table.left_share[row], row), default=None)


def _empty(table: Table, row: int, max_moves: int | None) -> list[Move] | None:
    """Move all that is on a device to others in use, the largest first; None, and nothing changed, where that fails."""
    ids = table.held_on_row(row)
    if max_moves is not None and len(ids) > max_moves:
        return None
    before = {one: table.take(one) for one in ids}
    order = sorted(ids, key=lambda one: -before[one].placement.allocation.share)
    moves: list[Move] = []
    for one in order:
        target = _target(table, before[one].request, row)
        if target is None:
            for moved in moves:
                table.take(moved.accelerator_id)
            for other, held in before.items():
                table.put(other, held.request, held.placement)
            return None
        table.put(one, before[one].request, target)
        moves.append(Move(one, before[one].placement, target))
    return moves


def _target(table: Table, request: Request, row: int) -> Placement | None:
    others = table.num_on_device > 0
    others[row] = False
    best = find(table, request, Policy.PACK, among=others)
    return None if best is None else table.placement(request.type_name, best)
