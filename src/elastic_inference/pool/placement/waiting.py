"""Attaches that wait for room: who goes first, so that nobody waits for ever.

Rank is priority plus a step for each `ageing_seconds` waited, so whoever comes later overtakes for a bounded time only.
A large request whose turn never comes because small ones take what is freed gets a host kept for it after
`patience_seconds`: the one with the fewest accelerators, which take no successors until it is placed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from elastic_inference.errors import InvalidInput
from elastic_inference.pool.model import Placement, Request
from elastic_inference.pool.placement.choosing import Policy, find
from elastic_inference.pool.placement.table import Table


@dataclass(frozen=True)
class WaitingRules:
    """How waiting counts.

    Attributes:
        ageing_seconds: A wait of this length is worth one step of priority.
        patience_seconds: From this wait on a host is kept for whoever is first in rank.
    """

    ageing_seconds: float = 60.0
    patience_seconds: float = 30.0

    def __post_init__(self) -> None:
        for name, value in (
            ("ageing_seconds", self.ageing_seconds),
            ("patience_seconds", self.patience_seconds),
        ):
            if not 0 < value < float("inf"):
                raise InvalidInput(f"{name} {value} must be finite and above 0")


@dataclass(frozen=True)
class _Waiter:
    accelerator_id: str
    request: Request
    since: float
    number: int


class WaitingList:
    """Those who wait, under whatever clock `now` comes from."""

    def __init__(self, rules: WaitingRules | None = None, policy: Policy = Policy.PACK) -> None:
        self._rules, self._policy = rules or WaitingRules(), policy
        self._waiters: dict[str, _Waiter] = {}
        self._num_ever = 0
        self._kept: tuple[str, str] | None = None  # accelerator, host

    def __len__(self) -> int:
        return len(self._waiters)

    def __contains__(self, accelerator_id: object) -> bool:
        return accelerator_id in self._waiters

    def add(self, accelerator_id: str, request: Request, now: float) -> None:
        """Let somebody wait from now on; who waits already keeps the place."""
        if accelerator_id not in self._waiters:
            self._waiters[accelerator_id] = _Waiter(accelerator_id, request, now, self._num_ever)
            self._num_ever += 1

    def withdraw(self, accelerator_id: str) -> None:
        """Take somebody off the list who waits no longer; others change nothing."""
        self._waiters.pop(accelerator_id, None)

    def closed_hosts(self) -> frozenset[str]:
        """Hosts that are kept for somebody who waits, and closed to all who come now."""
        is_kept = self._kept is not None and self._kept[0] in self._waiters
        return frozenset({self._kept[1]}) if is_kept and self._kept is not None else frozenset()

    def admit(self, table: Table, now: float) -> list[tuple[str, Placement]]:
        """Place all that fit now, first in rank first, into the table; give them with their places."""
        placed: list[tuple[str, Placement]] = []
        no_room: set[object] = set()
        ranked = self._ranked(now)
        for position, waiter in enumerate(ranked):
            group = _equals(waiter.request)
            if group in no_room:
                continue
            kept_for_it = self._kept is not None and self._kept[0] == waiter.accelerator_id
            row = find(
                table, waiter.request, self._policy, frozenset() if kept_for_it else self.closed_hosts()
            )
            if row is not None:
                placement = table.placement(waiter.request.type_name, row)
                table.put(waiter.accelerator_id, waiter.request, placement)
                del self._waiters[waiter.accelerator_id]
                placed.append((waiter.accelerator_id, placement))
                continue
            if group is not None:
                no_room.add(group)
            if position == len(placed):  # all before it were placed, so it is first in rank
                self._keep_a_host(table, waiter, now)
        return placed

    def _ranked(self, now: float) -> list[_Waiter]:
        def key(waiter: _Waiter) -> tuple[float, int]:
            steps = (now - waiter.since) / self._rules.ageing_seconds
            return -(waiter.request.priority + steps), waiter.number

        return sorted(self._waiters.values(), key=key)

    def _keep_a_host(self, table: Table, waiter: _Waiter, now: float) -> None:
        if now - waiter.since < self._rules.patience_seconds:
            return
        if self._kept is not None and self._kept[0] == waiter.accelerator_id:
            if table.is_ready(self._kept[1]):
                return
            self._kept = None
        hosts = np.unique(table.host_of[np.flatnonzero(table.could_fit(waiter.request))])
        if hosts.size:
            emptiest = hosts[np.argmin(table.num_on_host[hosts])]
            self._kept = (waiter.accelerator_id, table.host_ids[emptiest])


def _equals(request: Request) -> object | None:
    """Return what requests that fit the same devices have in common; None where neighbours count too."""
    return None if request.anti_affinity is not None else (request.type_name, request.features)
