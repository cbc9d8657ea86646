"""Attaches, detaches, deaths and returns of hosts as events, one by one, decided by the pool's own code.

Placement, the line of those that wait and failover are the pool's own: nothing is decided here. But that who waits is
placed at once where there is room, and not when it asks again, a second later or so.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from elastic_inference.host.accounts.line import MAX_WAITING, Line, Waiter
from elastic_inference.host.accounts.tenants import MAX_PRIORITY
from elastic_inference.pool.failover import FailoverRules, Standing, lost_hosts, order_of_return
from elastic_inference.pool.model import HostState, HostView, Placement, Request
from elastic_inference.pool.placement import Policy, PoolRoom, Table, serve_line
from elastic_inference.pool.placement.choosing import find, refusal
from elastic_inference.pool.simulation.attachment import Attachment
from elastic_inference.pool.simulation.calls import Serving
from elastic_inference.pool.simulation.service_time import ServiceTime

_PROGRESS_EVERY = 500

ServiceOf = Callable[[str, str], ServiceTime]
"""How long calls take, by type name and host id."""


@dataclass(frozen=True)
class Failure:
    """A host that dies.

    Attributes:
        at: When, in seconds of the demand.
        host_id: None: the one that holds the most accelerators then.
        among: Of the hosts whose ids begin so.
        down_seconds: From its death until it has joined again, empty.
        is_known: Its end is seen at once, as that of a process is; else its lease has to end.
    """

    at: float
    host_id: str | None = None
    among: str = ""
    down_seconds: float = 600.0
    is_known: bool = False


@dataclass(frozen=True)
class ControlRules:
    """How the pool acts.

    Attributes:
        start_seconds: From a place to a process that serves; loading its models comes on top.
        notice_seconds: From a known death to its being known.
        attach_wait_seconds: How long an attach waits for room before it is refused; 0: not at all.
        stops_at_refusal: Go no further than the first refused attach, which one of a type that no host has is then
            too: all that a search for a large enough pool asks.
    """

    policy: Policy = Policy.PACK
    failover: FailoverRules = field(default_factory=FailoverRules)
    start_seconds: float = 0.1
    notice_seconds: float = 0.5
    attach_wait_seconds: float = 0.0
    stops_at_refusal: bool = False


@dataclass
class Stay:
    """What became of one attachment.

    Attributes:
        wait_seconds: For room; None where it was refused, or never placed.
        out_seconds: In which it did not serve because its host had died, each time.
        was_refused: No room within the wait that is allowed.
    """

    servings: list[Serving] = field(default_factory=list)
    wait_seconds: float | None = None
    out_seconds: list[float] = field(default_factory=list)
    was_refused: bool = False


@dataclass(frozen=True)
class Use:
    """What was in use from a moment on, until the next.

    Attributes:
        held_devices: Sum of the shares that accelerators hold.
        used_hosts: Hosts that hold an accelerator.
    """

    at: float
    num_accelerators: int
    num_waiting: int
    held_devices: float
    used_devices: int
    used_hosts: int


@dataclass
class Course:
    """What happened.

    Attributes:
        stays: By name of attachment, in order of their attach.
        uses: At each change, in order of time.
        num_moved: Accelerators that lost their host.
        num_refused: Attaches without room.
        waited: Names of those that lost their host and found no place at once.
        num_events: Events handled.
    """

    stays: dict[str, Stay]
    uses: list[Use]
    num_moved: int = 0
    num_refused: int = 0
    waited: set[str] = field(default_factory=set)
    num_events: int = 0


@dataclass
class _Moment:
    """The clock of a simulation."""

    seconds: float = 0.0

    def now(self) -> float:
        return self.seconds


@dataclass(frozen=True)
class _Lost:
    request: Request
    share: float


class _Run:
    """One simulation under way: a heap of events, each a moment, a number and what to do then."""

    def __init__(
        self,
        hosts: Sequence[HostView],
        demand: Sequence[Attachment],
        service_of: ServiceOf,
        rules: ControlRules,
    ) -> None:
        self.rules, self.service_of = rules, service_of
        self.table = Table(hosts)
        self.clock = _Moment()
        self.line = Line(self.clock)
        self.lost: dict[str, _Lost] = {}
        self.attachments = {each.name: each for each in demand}
        self.course = Course({}, [])
        self._serving: dict[str, tuple[float, ServiceTime]] = {}
        self._out_since: dict[str, float] = {}
        self._dead: set[str] = set()
        self._events: list[tuple[float, int, int, Callable[[float], None]]] = []
        self._number = itertools.count()
        self._held = 0.0

    # At one moment what leaves goes before what comes, or a full pool would refuse its successor.
    LEAVE, CHANGE, COME = 0, 1, 2

    def at(self, when: float, order: int, do: Callable[[float], None]) -> None:
        heapq.heappush(self._events, (when, order, next(self._number), do))

    def run(self, on_progress: Callable[[int, int], None]) -> Course:
        total = 2 * len(self.attachments)
        while self._events and not (self.rules.stops_at_refusal and self.course.num_refused):
            now, _, _, do = heapq.heappop(self._events)
            self.clock.seconds = now
            do(now)
            self.course.num_events += 1
            if self.course.num_events % _PROGRESS_EVERY == 0:
                on_progress(min(self.course.num_events, total), total)
        return self.course

    # --- attachments

    def attach(self, name: str, now: float) -> None:
        one = self.attachments[name]
        stay = self.course.stays[name] = Stay()
        priority = max(0, min(MAX_PRIORITY, one.request.priority))
        number = len(self.course.stays)
        waiter = Waiter(name, one.request.tenant, one.request.type_name, priority, now, number)
        placement = self.find(waiter)
        if placement is None and not self.may_wait(one.request):
            stay.was_refused = True
            self.course.num_refused += 1
            return
        self.at(one.end, self.LEAVE, lambda when: self.detach(name, when))
        if placement is None:
            self.line.join(waiter)
            self.at(now + self.rules.attach_wait_seconds, self.CHANGE, lambda when: self.give_up(name, when))
        else:
            self.table.put(name, one.request, placement)
            self.begin(name, now)
        self.note(now)

    def find(self, waiter: Waiter) -> Placement | None:
        """Return where one that comes now goes beside what those in front of it wait for; None: nowhere yet."""
        room = self.room()
        self.line.keep_from(waiter, room)
        placement = room.find(self.request_of(waiter))
        room.release()
        return placement

    def room(self) -> PoolRoom:
        lost = [(name, one.request) for name, one in self.lost.items()]
        return PoolRoom(self.table, self.rules.policy, lost, self.request_of)

    def request_of(self, waiter: Waiter) -> Request:
        return self.attachments[waiter.ticket].request

    def may_wait(self, request: Request) -> bool:
        """Whether one that finds no room may wait for it; raises InvalidInput: no host has such a type."""
        if not self.table.has_type(request.type_name) and not self.rules.stops_at_refusal:
            raise refusal(self.table, request)
        if self.rules.attach_wait_seconds <= 0 or len(self.line) >= MAX_WAITING:
            return False
        return bool(self.table.suits(request).any())  # or it never will

    def begin(self, name: str, now: float) -> None:
        """Let an accelerator that has its place start; it serves when its process does and its model is loaded."""
        one, stay = self.attachments[name], self.course.stays[name]
        if stay.wait_seconds is None:
            stay.wait_seconds = now - one.start
        placement = self.table.held()[name].placement
        self._held += placement.allocation.share
        service = self.service_of(one.request.type_name, placement.host_id)
        self._serving[name] = now + self.rules.start_seconds + service.load_seconds, service

    def end_serving(self, name: str, now: float, is_cut: bool) -> None:
        """Write down that an accelerator served until now, if it did."""
        since, service = self._serving.pop(name, (now, None))
        if service is None or since >= now:
            if is_cut:
                self._out_since.setdefault(name, now)
            return
        stay = self.course.stays[name]
        if name in self._out_since:
            stay.out_seconds.append(since - self._out_since.pop(name))
        stay.servings.append(Serving(since, now, service, is_cut))
        if is_cut:
            self._out_since[name] = now

    def detach(self, name: str, now: float) -> None:
        if name in self.table.held():
            self.end_serving(name, now, is_cut=False)
            self._held -= self.table.take(name).placement.allocation.share
        self.line.leave(name)
        self.lost.pop(name, None)
        self.admit(now)
        if name in self._out_since:  # it ended before it came back
            self.course.stays[name].out_seconds.append(now - self._out_since.pop(name))
        self.note(now)

    def give_up(self, name: str, now: float) -> None:
        if self.line.leave(name) is not None:
            self.course.stays[name].was_refused = True
            self.course.num_refused += 1
            self.admit(now)
            self.note(now)

    def admit(self, now: float) -> None:
        """Place all that fit now: first what lost its host, then who stands in line."""
        if self.lost:
            self.bring_back(now)
        if len(self.line):
            for waiter in serve_line(self.line, self.room(), self.table, self.request_of):
                self.begin(waiter.ticket, now)

    def bring_back(self, now: float) -> None:
        requests = {name: one.request for name, one in self.lost.items()}
        for name in order_of_return(requests, {name: one.share for name, one in self.lost.items()}):
            row = find(self.table, requests[name], self.rules.policy)
            if row is not None:
                self.table.put(name, requests[name], self.table.placement(requests[name].type_name, row))
                del self.lost[name]
                self.begin(name, now)

    # --- hosts

    def fail(self, failure: Failure, now: float) -> None:
        host_id = failure.host_id or self._fullest(failure.among)
        if host_id is None or host_id in self._dead:
            return
        self._dead.add(host_id)
        self.table.set_state(host_id, HostState.LOST)
        for name in self.table.held_on(host_id):
            self.end_serving(name, now, is_cut=True)
        # Its last report was answered somewhere in the interval before its death: half of it, in the mean.
        standing = Standing(host_id, now - self.rules.failover.report_seconds / 2, failure.is_known)
        lost_at = self.rules.failover.lost_at(standing.answered_at)
        when = min(lost_at, now + self.rules.notice_seconds) if failure.is_known else lost_at
        back_at = max(when, now + failure.down_seconds)
        self.at(when, self.CHANGE, lambda moment: self.lose(standing, moment))
        self.at(back_at, self.CHANGE, lambda moment: self.come_back(host_id, moment))
        self.note(now)

    def lose(self, standing: Standing, now: float) -> None:
        """Place elsewhere what a lost host held."""
        (host_id,) = lost_hosts([standing], now, self.rules.failover)
        held = {name: self.table.take(name) for name in self.table.held_on(host_id)}
        for name, each in held.items():
            share = each.placement.allocation.share
            self.lost[name] = _Lost(each.request, share)
            self._held -= share
        self.course.num_moved += len(held)
        self.admit(now)
        self.course.waited.update(name for name in held if name in self.lost)
        self.note(now)

    def come_back(self, host_id: str, now: float) -> None:
        self._dead.discard(host_id)
        self.table.set_state(host_id, HostState.READY)
        self.admit(now)
        self.note(now)

    def _fullest(self, among: str) -> str | None:
        alive = [
            number
            for number, host_id in enumerate(self.table.host_ids)
            if host_id not in self._dead and host_id.startswith(among)
        ]
        if not alive:
            return None
        return self.table.host_ids[max(alive, key=lambda number: self.table.num_on_host[number])]

    def note(self, now: float) -> None:
        """Write down what is in use now; of one moment only the last counts."""
        table = self.table
        use = Use(
            now,
            len(table.held()),
            len(self.line) + len(self.lost),
            self._held,
            table.num_used_devices,
            table.num_used_hosts,
        )
        if self.course.uses and self.course.uses[-1].at == now:
            self.course.uses[-1] = use
        else:
            self.course.uses.append(use)


def run_control(
    hosts: Sequence[HostView],
    demand: Sequence[Attachment],
    service_of: ServiceOf,
    rules: ControlRules,
    failures: Sequence[Failure] = (),
    on_progress: Callable[[int, int], None] = lambda *_: None,
) -> Course:
    """Run all attaches, detaches and failures.

    Args:
        hosts: Empty ones; what they hold stays where it is for ever.
        on_progress: Called now and then with events done and all.

    Raises:
        InvalidInput: No host has a type that is asked for.
    """
    run = _Run(hosts, demand, service_of, rules)
    for one in sorted(demand, key=lambda each: (each.start, each.name)):
        run.at(one.start, run.COME, _attaching(run, one.name))
    for failure in failures:
        run.at(failure.at, run.CHANGE, _failing(run, failure))
    return run.run(on_progress)


def _attaching(run: _Run, name: str) -> Callable[[float], None]:
    return lambda now: run.attach(name, now)


def _failing(run: _Run, failure: Failure) -> Callable[[float], None]:
    return lambda now: run.fail(failure, now)


def peak(uses: Sequence[Use]) -> Use | None:
    """Return the first moment at which the most is held."""
    return max(uses, key=lambda use: use.held_devices, default=None)


def mean_over_time(uses: Sequence[Use], value: Callable[[Use], float]) -> float:
    """Return the mean of a figure over the time from the first use to the last; nan where there is none."""
    if len(uses) < 2 or uses[-1].at <= uses[0].at:
        return float("nan")
    total = sum(value(now) * (then.at - now.at) for now, then in itertools.pairwise(uses))
    return total / (uses[-1].at - uses[0].at)
