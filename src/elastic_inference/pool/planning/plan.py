"""A plan: hosts of which kinds hold a demand at a target of latency, what they cost, and what deaths do to it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal

from elastic_inference.errors import InvalidInput
from elastic_inference.pool.planning.assignment import Assignment, assignments
from elastic_inference.pool.planning.auto import AUTO, Candidate, Target, advice, choose_types, larger_types
from elastic_inference.pool.planning.kinds import HostKind
from elastic_inference.pool.planning.outcome import Outcome, outcome_of
from elastic_inference.pool.planning.search import Search, hosts_of
from elastic_inference.pool.simulation.attachment import Attachment, span_seconds
from elastic_inference.pool.simulation.control import ControlRules, Failure
from elastic_inference.pool.simulation.profile import Profile
from elastic_inference.pool.simulation.service_time import ServiceTime
from elastic_inference.pool.simulation.simulate import (
    DEFAULT_MAX_CALLS,
    SimulationOptions,
    SimulationResult,
    simulate,
)

# Trials before the simulation draw fewer calls than it does, so that it may find a chosen type too slow.
_MAX_ROUNDS = 3

Progress = Callable[[str, int, int | None], None]
"""Called with what goes on, steps done and all of them where that is known."""


@dataclass(frozen=True)
class PlanOptions:
    """What a plan has to hold.

    Attributes:
        num_failures: Hosts that die at the peak or just before it, and whose accelerators have to find room elsewhere
            at once.
        down_seconds: Until a host that died is back.
        max_calls: As SimulationOptions.
    """

    target: Target = field(default_factory=Target)
    num_failures: int = 2
    down_seconds: float = 600.0
    rules: ControlRules = field(default_factory=ControlRules)
    max_calls: int = DEFAULT_MAX_CALLS
    seed: int = 0


@dataclass(frozen=True)
class Option:
    """One way to hold the demand.

    Attributes:
        counts: Hosts by kind; empty where it does not hold the demand.
        spares: Of these, those that are there for hosts that die.
        usd_per_hour: Of all; None where a price is not known.
        num_slow: Attachments that would miss the target.
        problem: Why it does not hold the demand; "" where it does.
    """

    name: str
    assignment: Assignment
    counts: Mapping[str, int]
    spares: Mapping[str, int]
    usd_per_hour: Decimal | None
    num_slow: int
    problem: str = ""


@dataclass(frozen=True)
class Plan:
    """The answer.

    Attributes:
        chosen: None where no option holds the demand.
        usual: Without a death, on the hosts that the demand needs and the spare ones.
        bare, spared: With the deaths, on the hosts that the demand needs alone, and with the spare ones.
        advice: (type, type that would meet the target or None) -> attachments that miss it.
        hours: Length of the demand.
    """

    options: Sequence[Option]
    chosen: Option | None
    target: Target
    demand: Sequence[Attachment]
    hours: float
    usual: Outcome | None = None
    bare: Outcome | None = None
    spared: Outcome | None = None
    advice: Mapping[tuple[str, str | None], int] = field(default_factory=dict)
    simulation: SimulationResult | None = None
    notes: Sequence[str] = ()

    @property
    def meets_target(self) -> bool:
        """Whether the demand is held and no attachment misses the target."""
        return self.usual is not None and self.usual.num_over_target == 0


def make_plan(
    demand: Sequence[Attachment],
    kinds: Sequence[HostKind],
    profile: Profile,
    options: PlanOptions,
    progress: Progress = lambda *_: None,
) -> Plan:
    """Plan hosts for a demand.

    Args:
        profile: For kinds without one of their own.

    Raises:
        InvalidInput: A type that no kind offers, or without a service time on any kind that offers it.
    """
    if not demand:
        raise InvalidInput("there is no demand to plan for")
    options = replace(options, target=replace(options.target, trial_calls=_trial_calls(demand)))
    times = _Times(kinds, profile)
    candidates = _candidates(kinds, times)
    typed = choose_types(
        demand, candidates, options.target, lambda done, of: progress("choosing types", done, of)
    )
    open_names = {one.name for one in demand if one.request.type_name == AUTO}
    for _ in range(_MAX_ROUNDS):
        plan = _planned(typed, kinds, times, candidates, options, progress)
        missed = open_names.intersection(() if plan.simulation is None else plan.simulation.over_target)
        larger = larger_types(typed, missed, candidates, options.target) if missed else None
        if larger is None:
            break
        typed = larger
    return replace(plan, notes=_notes(demand, plan.demand, profile))


def _planned(
    demand: Sequence[Attachment],
    kinds: Sequence[HostKind],
    times: _Times,
    candidates: Sequence[Candidate],
    options: PlanOptions,
    progress: Progress,
) -> Plan:
    """Plan for attachments of which each has its type."""
    found = []
    for assignment in assignments(demand, kinds, times.find, options.target):
        found.append(_option(assignment, demand, kinds, times, options, progress))
    usable = [option for option in found if not option.problem]
    chosen = min(usable, key=_order, default=None)
    plan = Plan(found, chosen, options.target, demand, span_seconds(demand) / 3600)
    return plan if chosen is None else _simulated(plan, chosen, kinds, times, candidates, options, progress)


def _trial_calls(demand: Sequence[Attachment]) -> float:
    """Judge by as many calls as a few seconds allow."""
    return min(500_000.0, max(20_000.0, 2e7 / len(demand)))


class _Times:
    """Service times by type and host."""

    def __init__(self, kinds: Sequence[HostKind], profile: Profile) -> None:
        self._profiles = {kind.name: kind.profile or profile for kind in kinds}

    def find(self, type_name: str, kind: HostKind) -> ServiceTime | None:
        """Return the time on a kind; None where it is not known."""
        return self._profiles[kind.name].times.get(type_name)

    def of(self, type_name: str, host_id: str) -> ServiceTime:
        return self._profiles[host_id.rpartition("-")[0]].of(type_name)


def _candidates(kinds: Sequence[HostKind], times: _Times) -> list[Candidate]:
    """Every type with a service time, on the kind where it costs least."""
    is_priced = all(kind.usd_per_hour is not None for kind in kinds)
    best: dict[str, Candidate] = {}
    for kind in kinds:
        for type_name in kind.catalogue:
            share, service = kind.share_of_host(type_name), times.find(type_name, kind)
            if share is None or service is None:
                continue
            cost = share * float(kind.usd_per_hour or 0) if is_priced else share
            if type_name not in best or cost < best[type_name].cost:
                best[type_name] = Candidate(type_name, service, cost)
    return sorted(best.values(), key=lambda each: each.type_name)


def _option(
    assignment: Assignment,
    demand: Sequence[Attachment],
    kinds: Sequence[HostKind],
    times: _Times,
    options: PlanOptions,
    progress: Progress,
) -> Option:
    name = assignment.name

    def refuse(problem: str) -> Option:
        return Option(name, assignment, {}, {}, None, assignment.num_slow, problem)

    if assignment.problem:
        return refuse(assignment.problem)
    search = Search(
        kinds, times.of, options.rules, lambda count: progress(f"trying hosts of {name}", count, None)
    )
    counts: dict[str, int] = {}
    for kind in kinds:
        own = [one for one in demand if assignment.kind_of(one) == kind.name]
        fewest = search.fewest(kind, own)
        if fewest is None:
            return refuse(f"{kind.max_hosts} hosts of {kind.name} are too few")
        counts[kind.name] = fewest
    needed = search.repaired(counts, demand, assignment.kind_of)
    if needed is None:
        return refuse("the hosts that there are together are too few")
    all_ = needed
    if options.num_failures:
        spared = search.with_spares(
            needed, demand, options.num_failures, options.down_seconds, assignment.kind_of
        )
        if spared is None:
            return refuse(f"no host is left to spare for {options.num_failures} that die")
        all_ = spared
    return Option(
        name,
        assignment,
        {each: count for each, count in all_.items() if count},
        {each: count - needed[each] for each, count in all_.items() if count > needed[each]},
        _usd(kinds, all_),
        assignment.num_slow,
    )


def _usd(kinds: Sequence[HostKind], counts: Mapping[str, int]) -> Decimal | None:
    total = Decimal(0)
    for kind in kinds:
        if counts.get(kind.name):
            if kind.usd_per_hour is None:
                return None
            total += counts[kind.name] * kind.usd_per_hour
    return total


def _order(option: Option) -> tuple[int, Decimal | float, int, str]:
    """Prefer what misses the target least, then what costs least, then the fewest hosts."""
    usd = math.inf if option.usd_per_hour is None else option.usd_per_hour
    return option.num_slow, usd, sum(option.counts.values()), option.name


def _simulated(
    plan: Plan,
    chosen: Option,
    kinds: Sequence[HostKind],
    times: _Times,
    candidates: Sequence[Candidate],
    options: PlanOptions,
    progress: Progress,
) -> Plan:
    """Run the chosen hosts through the demand, as usual and with the deaths."""
    needed = {name: count - chosen.spares.get(name, 0) for name, count in chosen.counts.items()}
    search = Search(kinds, times.of, options.rules)
    dying = _dying_kind(chosen, kinds)

    def run(counts: Mapping[str, int], failures: Sequence[Failure], what: str) -> SimulationResult:
        settings = SimulationOptions(
            options.rules,
            tuple(failures),
            options.target.seconds,
            options.target.percentile,
            options.max_calls,
            options.seed,
        )
        hosts = hosts_of(kinds, counts)
        return simulate(
            hosts, plan.demand, times.of, settings, lambda done, of: progress(f"simulating {what}", done, of)
        )

    usual = run(chosen.counts, (), "a usual time")
    what_helps = advice({one.name: one for one in plan.demand}, usual.over_target, candidates, options.target)
    done = replace(plan, usual=outcome_of(usual, options.target), advice=what_helps, simulation=usual)
    if not options.num_failures:
        return done

    death = dying, options.num_failures, options.down_seconds
    is_before = search.is_harmless(needed, plan.demand, *death)

    def with_deaths(counts: Mapping[str, int], what: str) -> Outcome:
        failures = search.failures(counts, plan.demand, *death, is_before)
        return outcome_of(run(counts, failures, what), options.target)

    return replace(
        done,
        bare=with_deaths(needed, "deaths without spare hosts"),
        spared=with_deaths(chosen.counts, "deaths with spare hosts"),
    )


def _dying_kind(chosen: Option, kinds: Sequence[HostKind]) -> str:
    """Return the kind of which most hosts are needed, for the story of the deaths; each kind's were tried."""
    needed = {name: count - chosen.spares.get(name, 0) for name, count in chosen.counts.items()}
    return max((kind.name for kind in kinds if kind.name in needed), key=lambda name: needed[name])


def _notes(before: Sequence[Attachment], after: Sequence[Attachment], profile: Profile) -> list[str]:
    notes = list(profile.notes)
    counted: dict[str, int] = {}
    for one, typed in zip(before, after, strict=True):
        if one.request.type_name == AUTO:
            counted[typed.request.type_name] = counted.get(typed.request.type_name, 0) + 1
    if counted:
        shown = ", ".join(f"{name} for {count}" for name, count in sorted(counted.items()))
        notes.append(f"types chosen for attachments of type {AUTO!r}: {shown}")
    return notes
