"""Which kind of host each type of accelerator is planned on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from elastic_inference.errors import InvalidInput
from elastic_inference.pool.planning.auto import Target, meets
from elastic_inference.pool.planning.kinds import HostKind
from elastic_inference.pool.simulation.attachment import Attachment
from elastic_inference.pool.simulation.service_time import ServiceTime

Group = tuple[str, frozenset[str]]
"""Attachments of one type that ask for the same features: the same kinds of hosts can hold them."""

_MAX_TRIED = 100  # attachments of a group by which a kind is judged slow or not


@dataclass(frozen=True)
class Assignment:
    """A kind for each group.

    Attributes:
        num_slow: Attachments that would miss the target.
        problem: Why this cannot be; "" where it can.
    """

    name: str
    kinds: Mapping[Group, str]
    num_slow: int = 0
    problem: str = ""

    def kind_of(self, one: Attachment) -> str:
        """Return the kind that an attachment is planned on."""
        return self.kinds[group_of(one)]


def group_of(one: Attachment) -> Group:
    """Return what decides which kinds can hold an attachment."""
    return one.request.type_name, one.request.features


@dataclass(frozen=True)
class _Judged:
    num_slow: int
    cost: float


def assignments(
    demand: Sequence[Attachment],
    kinds: Sequence[HostKind],
    find_time: Callable[[str, HostKind], ServiceTime | None],
    target: Target,
) -> Iterator[Assignment]:
    """Give the assignment that is best for each group by itself, and each kind alone.

    Raises:
        InvalidInput: A group that no kind can hold, or none of those that can has a service time.
    """
    groups: dict[Group, list[Attachment]] = {}
    for one in demand:
        groups.setdefault(group_of(one), []).append(one)
    is_priced = all(kind.usd_per_hour is not None for kind in kinds)
    judged: dict[Group, dict[str, _Judged]] = {}
    for group, members in groups.items():
        judged[group] = {}
        for kind in kinds:
            share, service = kind.share_of_host(group[0]), find_time(group[0], kind)
            if share is None or service is None or not group[1] <= kind.features:
                continue
            cost = share * float(kind.usd_per_hour or 0) if is_priced else share
            judged[group][kind.name] = _Judged(_num_slow(members, service, target), cost)
        if not judged[group]:
            raise InvalidInput(_why_nowhere(group, kinds, find_time))
    best = {
        group: min(each, key=lambda name: (each[name].num_slow, each[name].cost, name))
        for group, each in judged.items()
    }
    used = sorted(set(best.values()))
    alone = []
    for kind in kinds:
        lacking = [group for group in groups if kind.name not in judged[group]]
        if lacking:
            alone.append(Assignment(kind.name, {}, problem=f"cannot hold {_shown(lacking[0])}"))
            continue
        slow = sum(each[kind.name].num_slow for each in judged.values())
        alone.append(Assignment(kind.name, dict.fromkeys(groups, kind.name), slow))
    if len(used) > 1:
        slow = sum(judged[group][name].num_slow for group, name in best.items())
        yield Assignment(" + ".join(used), best, slow)
    yield from alone


def _num_slow(members: Sequence[Attachment], service: ServiceTime, target: Target) -> int:
    """Count, or for many estimate from evenly spaced ones, how many would miss the target."""
    tried = members[:: max(1, len(members) // _MAX_TRIED)]
    slow = sum(not meets(one, service, target) for one in tried)
    return round(slow * len(members) / len(tried))


def _why_nowhere(
    group: Group, kinds: Sequence[HostKind], find_time: Callable[[str, HostKind], ServiceTime | None]
) -> str:
    holding = [
        kind for kind in kinds if kind.share_of_host(group[0]) is not None and group[1] <= kind.features
    ]
    if holding:
        names = ", ".join(kind.name for kind in holding)
        timed = sorted(
            {name for kind in holding for name in kind.catalogue if find_time(name, kind) is not None}
        )
        return (
            f"no service time of type {group[0]!r} on {names}; known are {', '.join(timed) or 'none'}: measure it "
            f"with ei explore and give --profile, or give --service {group[0]}=40ms"
        )
    offered = sorted(
        {name for kind in kinds for name in kind.catalogue if kind.share_of_host(name) is not None}
    )
    return f"no kind of host can hold {_shown(group)}; they offer {', '.join(offered) or 'nothing'}"


def _shown(group: Group) -> str:
    return f"type {group[0]!r}" + (f" with {', '.join(sorted(group[1]))}" if group[1] else "")
