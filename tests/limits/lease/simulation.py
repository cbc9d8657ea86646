"""One device, its tenants and their requests, moved from event to event: the policy alone, without any process."""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from elastic_inference.limits.lease.policy import DeviceTurns
from elastic_inference.limits.lease.tenant import Tenant


@dataclass
class Load:
    """What one tenant asks for.

    Attributes:
        weight: Its share.
        lengths: Device seconds of each request, without end.
        arrivals: When each request comes; None: as soon as the one before has ended (and `gap_seconds` are over).
        gap_seconds: Between an answer and the next request of a closed loop; 0: the next one waits already.
        piece_seconds: Between two points at which a request can be cut; None: it cannot.
        starts_at, ends_at: When its closed loop asks.
    """

    weight: float
    lengths: Iterator[float]
    arrivals: Iterator[float] | None = None
    gap_seconds: float = 0.0
    piece_seconds: float | None = None
    may_burst: bool = False
    starts_at: float = 0.0
    ends_at: float = float("inf")
    latencies: list[float] = field(default_factory=list)
    queue: list[tuple[float, float]] = field(
        default_factory=list
    )  # (arrived, length) that wait inside the tenant
    left_seconds: float = 0.0  # of the running request
    epoch: int = 0


class Simulation:
    """Runs loads on `DeviceTurns`; a hand-over takes `switch_seconds`, in which the device does nothing."""

    def __init__(self, loads: list[Load], switch_seconds: float = 0.0, turn_seconds: float = 0.0) -> None:
        self.turns = DeviceTurns(turn_seconds=turn_seconds)
        self.loads = loads
        self.now = 0.0
        self.used_seconds = [0.0] * len(loads)
        self._switch_seconds = switch_seconds
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count()
        self._seen_epoch = 0
        self._last_slot: int | None = None
        for slot, load in enumerate(loads):
            self.turns.join(slot, Tenant(load.weight, load.may_burst), 0.0)
            if load.arrivals is None:
                self._at(load.starts_at, lambda slot=slot: self._arrive(slot))  # type: ignore[misc]
            else:
                self._next_arrival(slot)

    def run(self, until: float) -> None:
        """Go on to a time."""
        while self._events and self._events[0][0] <= until:
            self.now, _, action = heapq.heappop(self._events)
            action()
        self.now = until

    def shares(self) -> list[float]:
        """Of the device seconds used so far."""
        return [used / sum(self.used_seconds) for used in self.used_seconds]

    def _at(self, when: float, action: Callable[[], None]) -> None:
        heapq.heappush(self._events, (when, next(self._numbers), action))

    def _next_arrival(self, slot: int) -> None:
        arrivals = self.loads[slot].arrivals
        assert arrivals is not None
        self._at(next(arrivals), lambda: (self._arrive(slot), self._next_arrival(slot)))  # type: ignore[func-returns-value]

    def _arrive(self, slot: int) -> None:
        load = self.loads[slot]
        if self.now >= load.ends_at:
            return
        load.queue.append((self.now, next(load.lengths)))
        if len(load.queue) == 1:
            self.turns.ask(slot, self.now)
            self._after_change()

    def _after_change(self) -> None:
        """Start whoever has a new lease, and let waiters look by themselves when they have to."""
        slot = self.turns.holder
        if slot is not None and self.turns.lingers_until is None and self.turns.epoch != self._seen_epoch:
            self._seen_epoch = self.turns.epoch
            load = self.loads[slot]
            load.epoch = self.turns.epoch
            load.left_seconds = load.left_seconds or load.queue[0][1]
            self._run_piece(slot, self._switch_seconds if slot != self._last_slot else 0.0)
            self._last_slot = slot
        for other, tenant in self.turns.tenants.items():
            if tenant.is_waiting and (when := self.turns.look_again_at(other, self.now)) is not None:
                self._at(max(when, self.now + 1e-6), self._look)

    def _look(self) -> None:
        epoch = self.turns.epoch
        self.turns.look(self.now)
        if self.turns.epoch != epoch:
            self._after_change()

    def _run_piece(self, slot: int, delay: float = 0.0) -> None:
        load = self.loads[slot]
        seconds = min(load.left_seconds, load.piece_seconds or load.left_seconds)
        self._at(self.now + delay + seconds, lambda: self._end_piece(slot, seconds))

    def _end_piece(self, slot: int, seconds: float) -> None:
        load = self.loads[slot]
        self.used_seconds[slot] += seconds
        load.left_seconds -= seconds
        if load.left_seconds > 1e-9:
            if self.turns.must_yield(slot, load.epoch, self.now):
                self.turns.interrupt(slot, load.epoch, self.now)
                self._after_change()
            else:
                self._run_piece(slot)
            return
        load.left_seconds = 0.0
        arrived, _ = load.queue.pop(0)
        load.latencies.append(self.now - arrived)
        if load.arrivals is None and not load.gap_seconds and self.now < load.ends_at:
            load.queue.append((self.now, next(load.lengths)))
        self.turns.release(slot, load.epoch, self.now, has_more=bool(load.queue))
        if load.arrivals is None and load.gap_seconds:
            self._at(self.now + load.gap_seconds, lambda: self._resume(slot))
        self._after_change()

    def _resume(self, slot: int) -> None:
        """The next request of a closed loop; where the lease lingered, it goes on with it."""
        was_held = self.turns.holder == slot
        self._arrive(slot)
        if was_held and self.turns.holder == slot:
            load = self.loads[slot]
            load.left_seconds = load.queue[0][1]
            self._run_piece(slot)


def always(seconds: float) -> Iterator[float]:
    """Requests all alike."""
    return itertools.repeat(seconds)


def poisson(rate: float, seed: int) -> Iterator[float]:
    """Arrivals at random."""
    source, now = random.Random(seed), 0.0
    while True:
        now += source.expovariate(rate)
        yield now


def evenly(rate: float) -> Iterator[float]:
    """Arrivals on a schedule."""
    return (number / rate for number in itertools.count(1))


def p99(latencies: list[float]) -> float:
    """The 99th percentile."""
    return sorted(latencies)[int(0.99 * len(latencies))]
