"""The type of each attachment that leaves it open, and what would do for those whose type is too slow."""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from elastic_inference.errors import InvalidInput
from elastic_inference.pool.simulation.attachment import Attachment
from elastic_inference.pool.simulation.calls import Sampling, Serving, run_calls
from elastic_inference.pool.simulation.latencies import Latencies
from elastic_inference.pool.simulation.service_time import ServiceTime

AUTO = "auto"
_HEADROOM = 0.95  # of the target: what p99 of that many calls may be off by


@dataclass(frozen=True)
class Candidate:
    """A type on its cheapest kind of host.

    Attributes:
        cost: What an hour of it costs, as its part of the host: USD, or hosts where prices are not known.
    """

    type_name: str
    service: ServiceTime
    cost: float


@dataclass(frozen=True)
class Target:
    """What part of an attachment's calls must be within which latency.

    Attributes:
        trial_calls: Of an attachment, by which a type is judged before the simulation.
    """

    seconds: float = math.inf
    percentile: float = 0.99
    trial_calls: float = 20_000.0


def meets(one: Attachment, service: ServiceTime, target: Target) -> bool:
    """Whether an attachment's calls are within the target where it has an accelerator of its own all the time."""
    busiest = max(piece.calls_per_second for piece in one.pieces) * service.mean_seconds
    if service.least_seconds > target.seconds:
        return False
    if busiest >= 1 and target.seconds == math.inf:
        return _load(one) * service.mean_seconds < 1
    share = min(1.0, target.trial_calls / max(1.0, one.num_calls))
    chance = np.random.default_rng(zlib.crc32(one.name.encode()))
    serving = Serving(one.start, one.end, service)
    count = run_calls(one.pieces, [serving], chance, Sampling(share, _HEADROOM * target.seconds), Latencies())
    return count.num_late <= count.num_offered * (1 - target.percentile) + 1


def _load(one: Attachment) -> float:
    return one.num_calls / (one.end - one.start)


def choose_types(
    demand: Sequence[Attachment],
    candidates: Sequence[Candidate],
    target: Target,
    on_progress: Callable[[int, int], None] = lambda *_: None,
) -> list[Attachment]:
    """Give each attachment of type `auto` the cheapest type that meets the target, else the quickest.

    Raises:
        InvalidInput: There is no candidate.
    """
    if not any(one.request.type_name == AUTO for one in demand):
        return list(demand)
    if not candidates:
        raise InvalidInput(
            "type 'auto' needs a type with a service time on some kind of host: give --profile"
        )
    chosen = []
    for number, one in enumerate(demand):
        on_progress(number, len(demand))
        if one.request.type_name == AUTO:
            best = cheapest(one, candidates, target) or min(
                candidates, key=lambda each: (each.service.mean_seconds, each.type_name)
            )
            one = replace(one, request=replace(one.request, type_name=best.type_name))
        chosen.append(one)
    return chosen


def larger_types(
    demand: Sequence[Attachment], is_open: Collection[str], candidates: Sequence[Candidate], target: Target
) -> list[Attachment] | None:
    """Give attachments whose chosen type turned out too slow the next type that meets the target.

    Args:
        is_open: Names of those whose type may be changed.

    Returns:
        The demand with these types; None where nothing can be changed.
    """
    cost = {each.type_name: each.cost for each in candidates}
    changed, has_changed = [], False
    for one in demand:
        now = one.request.type_name
        if one.name in is_open and now in cost:
            above = [each for each in candidates if each.cost > cost[now]]
            best = cheapest(one, above, target)
            if best is not None:
                has_changed = True
                one = replace(one, request=replace(one.request, type_name=best.type_name))
        changed.append(one)
    return changed if has_changed else None


def cheapest(one: Attachment, candidates: Sequence[Candidate], target: Target) -> Candidate | None:
    """Return the cheapest type that meets the target; None where none does."""
    ordered = sorted(candidates, key=lambda each: (each.cost, each.type_name))
    return next((each for each in ordered if meets(one, each.service, target)), None)


def advice(
    demand: Mapping[str, Attachment], over: Sequence[str], candidates: Sequence[Candidate], target: Target
) -> dict[tuple[str, str | None], int]:
    """Count attachments that miss the target by (type, type that would meet it or None)."""
    found: dict[tuple[str, str | None], int] = {}
    for name in over:
        one = demand[name]
        others = [each for each in candidates if each.type_name != one.request.type_name]
        best = cheapest(one, others, target)
        key = one.request.type_name, None if best is None else best.type_name
        found[key] = found.get(key, 0) + 1
    return found
