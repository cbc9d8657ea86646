"""When which fault comes, by a seed: the same storm can be had again. Pure."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass

GAP_SECONDS = (1.0, 3.0)
"""Between the beginnings of two faults. Several may be in force at once, but no two of one kind."""


@dataclass(frozen=True)
class Event:
    """One fault.

    Attributes:
        at_seconds: When it begins, from the start of the storm.
        lasts_seconds: For how long it is in force; what dies is dead at once and comes back by itself.
        fault: Its kind.
        luck: 0..1, by which the fault chooses what it hits.
    """

    at_seconds: float
    lasts_seconds: float
    fault: str
    luck: float


def make_schedule(
    kinds: Mapping[str, tuple[float, float]], seconds: float, calm_seconds: float, seed: int
) -> tuple[Event, ...]:
    """Plan a storm: all kinds in each round, in an order of its own.

    Args:
        kinds: How long a fault of each kind lasts, at least and at most, in seconds.
        seconds: Length of the storm.
        calm_seconds: At its end, without faults: what they did must be seen.
        seed: Of the chance in it.
    """
    dice = random.Random(seed)
    events: list[Event] = []
    free_at = dict.fromkeys(kinds, 0.0)
    now = dice.uniform(*GAP_SECONDS)
    while kinds:
        for kind in dice.sample(sorted(kinds), len(kinds)):
            event = Event(max(now, free_at[kind]), dice.uniform(*kinds[kind]), kind, dice.random())
            if event.at_seconds + event.lasts_seconds > seconds - calm_seconds:
                return tuple(events)
            events.append(event)
            free_at[kind] = event.at_seconds + event.lasts_seconds + GAP_SECONDS[0]
            now = event.at_seconds + dice.uniform(*GAP_SECONDS)
    return ()
