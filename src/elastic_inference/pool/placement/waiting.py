"""What devices have left for those that wait: what is kept for whom, and who is placed. The pool's rule and the
simulation's: `host.accounts.line` says who stands in front of whom.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

from elastic_inference.host.accounts.capacity import Allocation
from elastic_inference.host.accounts.line import Line, Waiter
from elastic_inference.pool.model import Placement, Request
from elastic_inference.pool.placement.choosing import Policy, find
from elastic_inference.pool.placement.table import Table

RequestOf = Callable[[Waiter], Request]


def request_of(waiter: Waiter) -> Request:
    """Return what a waiter of a pool asks for."""
    return Request(waiter.type_name, waiter.tenant)


class PoolRoom:
    """See `host.accounts.line.Room`.

    Where somebody waits for what fits nowhere, one device is kept for it, the one on which the least has to be given
    back: so a large accelerator is not starved by small ones, and these pass it on all other devices. That least only
    falls as long as it waits, for nobody behind it gets anything of that device.

    Args:
        table: What is kept is put into it, until `release`.
        homeless: Accelerators that lost their host: they come before all that wait.
        asked: What a waiter asks for, where that is more than a type.
    """

    def __init__(
        self,
        table: Table,
        policy: Policy,
        homeless: Iterable[tuple[str, Request]] = (),
        asked: RequestOf = request_of,
    ) -> None:
        self._table = table
        self._policy = policy
        self._asked = asked
        self.kept: list[tuple[str, Request, Placement]] = []
        for accelerator_id, request in homeless:
            self._set_aside(accelerator_id, request, lambda _: True)

    def fits(self, type_name: str) -> bool:
        """Whether a type fits beside what is held and kept."""
        return self._table.has_type(type_name) and self.find(Request(type_name)) is not None

    def find(self, request: Request) -> Placement | None:
        """Return where an accelerator would go beside what is held and kept; None: nowhere."""
        row = find(self._table, request, self._policy)
        return None if row is None else self._table.placement(request.type_name, row)

    def set_aside(self, waiter: Waiter, may_have: Callable[[Allocation], bool]) -> None:
        """Hold what it waits for, or keep a device for it."""
        self._set_aside(waiter.ticket, self._asked(waiter), may_have)

    def _set_aside(self, key: str, request: Request, may_have: Callable[[Allocation], bool]) -> None:
        table = self._table
        if not table.has_type(request.type_name):
            return
        row = find(table, request, self._policy)
        row = table.nearest(request) if row is None else row
        if row is None:
            return  # no host that is ready could ever have it
        placement = table.placement(request.type_name, row)
        if may_have(replace(placement.allocation, tenant=request.tenant)):
            # Also where it does not fit: then of something that it needs nothing is left for others.
            table.put(key, request, placement)
            self.kept.append((key, request, placement))

    def release(self) -> None:
        """Keep nothing more: the table is as it was, but for what was put into it meanwhile."""
        for key, _, _ in self.kept:
            self._table.take(key)
        self.kept = []


def serve_line(line: Line, room: PoolRoom, table: Table, asked: RequestOf = request_of) -> list[Waiter]:
    """Place all that have their turn, as if each in the line asked now, and take them out of it; who was placed.

    Args:
        room: Of this table, in which nothing is kept for those in the line yet; releases what it keeps.
    """
    placed = []
    for waiter in line.waiters():
        request = asked(waiter)
        placement = room.find(request)
        if placement is None:
            room.set_aside(waiter, lambda _: True)
        else:
            table.put(waiter.ticket, request, placement)
            line.leave(waiter.ticket)
            placed.append(waiter)
    room.release()
    return placed
