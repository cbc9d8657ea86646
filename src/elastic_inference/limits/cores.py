"""Which cores each accelerator runs on: whole ones of its own where its share has them, shared ones for the rest.

A quota says how much, not where: two accelerators whose quotas add up to the machine still wait for each
other on one core while the other core rests, which took p99 from 20 ms to over 100. Pure; the edge is
`Limits.keep_to_cores`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

_ROUNDING = 1e-6  # shares such as 0.1 x 2 cores are not exact in binary


@dataclass(frozen=True)
class CoreRequest:
    """What one accelerator may use of the device.

    Attributes:
        num_cores: Its share in cores, not whole in general.
        may_burst: It may use what neighbours leave idle, so it is not kept to cores.
    """

    num_cores: float
    may_burst: bool = False


def plan_cores(
    requests: Mapping[str, CoreRequest],
    cores: Sequence[int],
    previous: Mapping[str, frozenset[int]] | None = None,
) -> dict[str, frozenset[int]]:
    """Give each accelerator its cores.

    Whole cores of a share are its alone; what is left of a share goes to shared cores, the largest rest
    first, each to the fullest core that still has room, and over several where none has.

    Args:
        requests: By accelerator; together at most as many cores as there are.
        cores: Numbers of the device's cores.
        previous: The plan in force; an accelerator keeps cores of it where it can.

    Returns:
        The cores of each accelerator; all of them for one that may burst.
    """
    before = previous or {}
    plan: dict[str, set[int]] = {name: set() for name in requests}
    held = sorted(
        (n for n, r in requests.items() if not r.may_burst), key=lambda n: (-requests[n].num_cores, n)
    )
    free = list(cores)
    rests: dict[str, float] = {}
    for name in held:
        whole = int(requests[name].num_cores + _ROUNDING)
        rests[name] = max(0.0, requests[name].num_cores - whole)
        # Cores that others had are the last to be taken, so that a newcomer moves no one.
        others = frozenset().union(
            *(had for other, had in before.items() if other != name and other in requests)
        )
        free.sort(key=lambda core: (core not in before.get(name, ()), core in others, core))
        plan[name].update(free[:whole])
        del free[:whole]
    room = dict.fromkeys(free, 1.0)
    # Those that are there already choose first: their engine's threads do not like to be moved.
    for name in sorted(rests, key=lambda n: (n not in before, -rests[n], n)):
        if rests[name] > _ROUNDING:
            plan[name].update(_place_rest(rests[name], room, before.get(name, frozenset())))
    everywhere = frozenset(cores)
    return {name: frozenset(plan[name]) or everywhere for name in requests}


def _place_rest(rest: float, room: dict[int, float], had: frozenset[int]) -> list[int]:
    fitting = [core for core in room if room[core] + _ROUNDING >= rest]
    if fitting:
        best = min(fitting, key=lambda core: (core not in had, room[core], core))
        room[best] -= rest
        return [best]
    taken = []
    for core in sorted(room, key=lambda core: (-room[core], core)):
        if rest <= _ROUNDING or room[core] <= _ROUNDING:
            break
        part = min(rest, room[core])
        room[core] -= part
        rest -= part
        taken.append(core)
    return taken
