"""The fewest hosts that hold a demand without a refused attach, found by running the pool's own placement."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from elastic_inference.pool.model import HostView
from elastic_inference.pool.planning.kinds import HostKind
from elastic_inference.pool.simulation.attachment import Attachment
from elastic_inference.pool.simulation.control import (
    ControlRules,
    Course,
    Failure,
    ServiceOf,
    Use,
    peak,
    run_control,
)

Counts = Mapping[str, int]
_MAX_REPAIRS = 64


def hosts_of(kinds: Sequence[HostKind], counts: Counts) -> list[HostView]:
    """Return that many hosts of each kind, named by it."""
    return [kind.host(number) for kind in kinds for number in range(counts.get(kind.name, 0))]


def prefix_of(kind_name: str) -> str:
    """Return what the ids of all hosts of a kind begin with."""
    return f"{kind_name}-"


@dataclass
class Search:
    """A search over numbers of hosts.

    Attributes:
        on_run: Called with the number of simulations so far.
    """

    kinds: Sequence[HostKind]
    service_of: ServiceOf
    rules: ControlRules
    on_run: Callable[[int], None] = lambda _: None
    num_runs: int = 0

    def run(
        self,
        counts: Counts,
        demand: Sequence[Attachment],
        failures: Sequence[Failure] = (),
        stops: bool = True,
    ) -> Course:
        """Run attaches and failures on that many hosts."""
        self.num_runs += 1
        self.on_run(self.num_runs)
        rules = replace(self.rules, stops_at_refusal=stops)
        return run_control(hosts_of(self.kinds, counts), demand, self.service_of, rules, failures)

    def fewest(self, kind: HostKind, demand: Sequence[Attachment]) -> int | None:
        """Return the fewest hosts of one kind that hold a demand; None where as many as there are do not.

        More hosts hold what fewer hold, but for rare whims of placement; the number that is returned was run.
        """
        if not demand:
            return 0

        def is_enough(count: int) -> bool:
            return self.run({kind.name: count}, demand).num_refused == 0

        guess = min(kind.max_hosts, max(1, math.ceil(_peak_hosts(kind, demand))))
        step, high = 1, guess
        while not is_enough(high):
            if high >= kind.max_hosts:
                return None
            high, step = min(kind.max_hosts, high + step), step * 2
        low = 0 if high == guess else high - step // 2  # the last that was not enough
        if high == guess:  # the guess rounds each accelerator up to a part of a host, so fewer may do
            while high > 1 and is_enough(high - 1):
                high -= 1
            return high
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if is_enough(middle) else (middle, high)
        return high

    def repaired(
        self, counts: Counts, demand: Sequence[Attachment], kind_of: Callable[[Attachment], str]
    ) -> dict[str, int] | None:
        """Add hosts until kinds together hold a demand, and leave out those that are not needed then."""
        found = dict(counts)
        by_name = {one.name: one for one in demand}
        for _ in range(_MAX_REPAIRS):
            course = self.run(found, demand)
            refused = [name for name, stay in course.stays.items() if stay.was_refused]
            if not refused:
                break
            if not self._add(found, kind_of(by_name[refused[0]])):
                return None
        else:
            return None
        if sum(count > 0 for count in found.values()) > 1:
            for name in found:
                while found[name] and not self.run({**found, name: found[name] - 1}, demand).num_refused:
                    found[name] -= 1
        return found

    def with_spares(
        self,
        counts: Counts,
        demand: Sequence[Attachment],
        num_failures: int,
        down_seconds: float,
        kind_of: Callable[[Attachment], str],
    ) -> dict[str, int] | None:
        """Add hosts until accelerators that lose theirs at the peak find room at once, whichever kind dies."""
        found = dict(counts)
        by_name = {one.name: one for one in demand}
        for _ in range(_MAX_REPAIRS):
            without_room = self._without_room(found, demand, num_failures, down_seconds)
            if without_room is None:
                return found
            if not self._add(found, kind_of(by_name[without_room])):
                return None
        return None

    def failures(
        self,
        counts: Counts,
        demand: Sequence[Attachment],
        kind_name: str,
        num_failures: int,
        down_seconds: float,
        is_before: bool = False,
    ) -> tuple[Failure, ...]:
        """Let the fullest hosts of a kind die at the pool's peak, one after another, while it lasts.

        Args:
            is_before: They die so long before it that it finds them gone, and what they held on its way elsewhere.
        """
        uses = self.run(counts, demand, stops=False).uses
        most = peak(uses)
        number = min(num_failures, counts[kind_name])
        at, lasts = (0.0, math.inf) if most is None else (most.at, _lasts(uses, most))
        apart = min(1.0, lasts / (number + 1))
        lost_after = self.rules.failover.lost_at(0.0)
        first = at - lost_after - number * apart if is_before else at + apart
        return tuple(
            Failure(first + each * apart, among=prefix_of(kind_name), down_seconds=down_seconds)
            for each in range(number)
        )

    def is_harmless(
        self, counts: Counts, demand: Sequence[Attachment], kind_name: str, num: int, down_seconds: float
    ) -> bool:
        """Whether deaths at the peak harm nobody, as where it is over before a lease is; those before it may."""
        return (
            self._harmed(counts, demand, self.failures(counts, demand, kind_name, num, down_seconds)) is None
        )

    def _without_room(
        self, counts: Counts, demand: Sequence[Attachment], num_failures: int, down_seconds: float
    ) -> str | None:
        """Name an attachment that finds no place, or not at once; None where all do."""
        for name in (name for name, count in counts.items() if count):
            for is_before in (False, True):
                failures = self.failures(counts, demand, name, num_failures, down_seconds, is_before)
                found = self._harmed(counts, demand, failures)
                if found is not None:
                    return found
        return None

    def _harmed(
        self, counts: Counts, demand: Sequence[Attachment], failures: Sequence[Failure]
    ) -> str | None:
        course = self.run(counts, demand, failures)
        for one, stay in course.stays.items():
            if stay.was_refused or one in course.waited:
                return one
        return None

    def _add(self, counts: dict[str, int], name: str) -> bool:
        (kind,) = (each for each in self.kinds if each.name == name)
        if counts.get(name, 0) >= kind.max_hosts:
            return False
        counts[name] = counts.get(name, 0) + 1
        return True


def _peak_hosts(kind: HostKind, demand: Sequence[Attachment]) -> float:
    """Return the most hosts that are held at once if parts of hosts could be added up."""
    changes = []
    for one in demand:
        share = kind.share_of_host(one.request.type_name) or 0.0
        changes += [(one.start, 1, share), (one.end, 0, -share)]
    held = most = 0.0
    for _, _, change in sorted(changes):
        held += change
        most = max(most, held)
    return most - 1e-9


def _lasts(uses: Sequence[Use], most: Use) -> float:
    """Return for how long as much as at the peak is held, in seconds."""
    after = (use.at for use in uses if use.at > most.at and use.held_devices < most.held_devices)
    return next(after, math.inf) - most.at
