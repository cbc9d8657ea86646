"""What tenants have spent this month, and since when that is too much. Pure: rows of the database in, figures out.

Whether a budget is reached follows from attached time and prices alone, and so does when it was: nothing needs to be
remembered, and a host that was away finds the same moment.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from enum import Enum
from typing import Any

from elastic_inference.host.accounts.tenants import AtLimit, Budget
from elastic_inference.host.accounts.usage import clip, cost

_MICROSECONDS = 1_000_000
_HOUR_MICROSECONDS = 3600 * _MICROSECONDS


class Level(Enum):
    """How far a tenant is with its budget."""

    ENOUGH = "enough"
    WARNED = "warned"  # `warn_share` of it is spent
    REACHED = "reached"  # all of it: nothing new is attached
    OVER = "over"  # and the time of grace is over: what runs is detached, where the budget says so


@dataclass(frozen=True)
class Spending:
    """What a tenant has spent this month, and what follows from it.

    Attributes:
        month: Such as `2026-01`, in UTC.
        spent_usd: Attached time x price, exact; of types with a price.
        unpriced_seconds: Attached with types that have none, and so cost nothing.
        reached_at: When the budget was spent, in seconds since 1970; None: it is not.
        ends_at: When accelerators are detached for that; None: they are not.
        usd_per_hour: What all that is attached now costs.
    """

    month: str
    spent_usd: Decimal
    unpriced_seconds: float
    level: Level
    reached_at: float | None
    ends_at: float | None
    usd_per_hour: Decimal


def month_of(now: float) -> tuple[str, float]:
    """Return the month of a moment, such as `2026-01`, and when it began; in UTC."""
    moment = datetime.datetime.fromtimestamp(now, datetime.timezone.utc)
    begin = moment.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    return begin.strftime("%Y-%m"), begin.timestamp()


def spending(
    budget: Budget | None, intervals: Iterable[Mapping[str, Any]], now: float, since: float = 0.0
) -> Spending:
    """Say what a tenant has spent in the month of `now`.

    Args:
        intervals: See `usage.summarize`; of this tenant.
        now: When intervals that are open end for this sum.
        since: When the tenant was taken in; what was before is not its own.
    """
    month, began = month_of(now)
    began = max(began, since)
    mine = [(interval, *clip(interval, began, now)) for interval in intervals]
    spent_usd = sum(
        (cost(i["usd_per_hour"], end - start) or Decimal(0) for i, start, end in mine), Decimal(0)
    )
    reached_at = ends_at = None
    level = Level.ENOUGH
    if budget is not None:
        reached_at = crossing(budget.usd_per_month, intervals_of(mine), began, now)
        if reached_at is not None and budget.at_limit is AtLimit.DETACH:
            ends_at = max(reached_at, budget.since) + budget.grace_seconds
        level = _level(budget, spent_usd, reached_at, ends_at, now)
    return Spending(
        month=month,
        spent_usd=spent_usd,
        unpriced_seconds=sum(end - start for i, start, end in mine if i["usd_per_hour"] is None),
        level=level,
        reached_at=reached_at,
        ends_at=ends_at,
        usd_per_hour=sum(
            (Decimal(i["usd_per_hour"]) for i, _, _ in mine if i["ended_at"] is None and i["usd_per_hour"]),
            Decimal(0),
        ),
    )


def intervals_of(
    clipped: Iterable[tuple[Mapping[str, Any], float, float]],
) -> list[tuple[int, int, Decimal]]:
    """Return begin and end in microseconds, and price an hour, of those that have a price."""
    return [
        (round(start * _MICROSECONDS), round(end * _MICROSECONDS), Decimal(interval["usd_per_hour"]))
        for interval, start, end in clipped
        if interval["usd_per_hour"] is not None
    ]


def crossing(
    usd: Decimal, priced: Iterable[tuple[int, int, Decimal]], began: float, now: float
) -> float | None:
    """Return when an amount was spent, in seconds since 1970; None where it is not spent by `now`.

    Args:
        priced: Begin and end in microseconds since 1970, and USD an hour.
        began: From when on it could be spent; nothing at all is spent then.
    """
    if usd <= 0:
        return began
    changes = sorted(
        change for begin, end, price in priced for change in ((begin, price), (end, -price)) if begin < end
    )
    spent, price, at = Decimal(0), Decimal(0), 0
    for moment, change in (*changes, (round(now * _MICROSECONDS), Decimal(0))):
        more = price * (moment - at) / _HOUR_MICROSECONDS
        if price > 0 and spent + more >= usd:
            return float(at + (usd - spent) * _HOUR_MICROSECONDS / price) / _MICROSECONDS
        spent, price, at = spent + more, price + change, moment
    return None


def _level(
    budget: Budget, spent_usd: Decimal, reached_at: float | None, ends_at: float | None, now: float
) -> Level:
    if reached_at is not None:
        return Level.OVER if ends_at is not None and ends_at <= now else Level.REACHED
    warn_usd = budget.usd_per_month * Decimal(str(budget.warn_share))
    return Level.WARNED if spent_usd >= warn_usd else Level.ENOUGH
