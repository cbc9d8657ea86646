"""Usage summed up by tenant, type or day. Pure: rows in, sums out; money is exact, and no price is no cost."""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from enum import Enum
from typing import Any, NamedTuple

from elastic_inference.host.accounts.usage import INFERENCES_PRICED, clip, cost

_DAY_SECONDS = 86400
_HOUR_SECONDS = 3600
OPERATOR_KEY = "operator"  # no tenant may have this name


class By(Enum):
    """What usage is summed up by."""

    TYPE = "type"  # an hour's counters go to the type that an accelerator had for most of it
    DAY = "day"  # in UTC
    TENANT = "tenant"
    MODEL = "model"  # time goes to the models that ran in its hour, as they used the device; see `model_sums`


class HourRow(NamedTuple):
    """What an accelerator did in an hour; hours since 1970, UTC."""

    accelerator_id: str
    hour: int
    inferences: int
    device_seconds: float
    throttled_seconds: float


class ModelHourRow(NamedTuple):
    """What a model did on an accelerator in an hour; hours since 1970, UTC."""

    accelerator_id: str
    hour: int
    model: str
    inferences: int
    service_seconds: float


@dataclass
class UsageSum:
    """The sum over accelerators.

    Attributes:
        key: The type, the tenant (`operator` for what is nobody's), the model, or the day such as `2026-01-31`.
        attached_seconds: In all, `unpriced_seconds` of them without a price.
        cost_usd: Of the time that has a price, exact.
    """

    key: str
    attached_seconds: float = 0.0
    unpriced_seconds: float = 0.0
    cost_usd: Decimal = Decimal(0)
    inferences: int = 0
    device_seconds: float = 0.0
    throttled_seconds: float = 0.0

    @property
    def usd_per_100k(self) -> Decimal | None:
        """Cost of 100,000 inferences, idle time included; None without inferences, or where some time has no price."""
        if not self.inferences or self.unpriced_seconds:
            return None
        return self.cost_usd * INFERENCES_PRICED / self.inferences


def sum_up(
    by: By, intervals: Iterable[Mapping[str, Any]], hours: Iterable[HourRow], since: float, now: float
) -> tuple[UsageSum, ...]:
    """Return one sum for each type, tenant or day, in the order of their names.

    Args:
        by: Not MODEL; see `model_sums`.
        intervals: See `usage.summarize`.
        hours: Counters; those of hours before `since` do not count.
        since: Time before it does not count; seconds since 1970.
        now: When intervals that are open end for this sum.
    """
    sums: dict[str, UsageSum] = {}

    def of(key: str) -> UsageSum:
        return sums.setdefault(key, UsageSum(key))

    spans = [(interval, *clip(interval, since, now)) for interval in intervals]
    for interval, start, end in spans:
        for piece_start, piece_end in pieces(start, end, _DAY_SECONDS) if by is By.DAY else [(start, end)]:
            key = _day(piece_start) if by is By.DAY else _key(by, interval)
            add_time(of(key), interval["usd_per_hour"], piece_end - piece_start)
    for row in hours:
        key_of_row = _day(row.hour * _HOUR_SECONDS) if by is By.DAY else _key_in(by, row, spans)
        if row.hour >= int(since // _HOUR_SECONDS) and key_of_row is not None:
            total = of(key_of_row)
            total.inferences += row.inferences
            total.device_seconds += row.device_seconds
            total.throttled_seconds += row.throttled_seconds
    return tuple(sums[key] for key in sorted(sums))


def _key(by: By, interval: Mapping[str, Any]) -> str:
    if by is By.TENANT:
        return str(interval["tenant"]) or OPERATOR_KEY
    return str(interval["accelerator_type"])


def add_time(total: UsageSum, usd_per_hour: str | None, seconds: float) -> None:
    """Add attached time and what it cost."""
    total.attached_seconds += seconds
    usd = cost(usd_per_hour, seconds)
    if usd is None:
        total.unpriced_seconds += seconds
    else:
        total.cost_usd += usd


def pieces(start: float, end: float, every_seconds: int) -> Iterator[tuple[float, float]]:
    """Cut a time at each midnight, or each full hour; one of no length has no piece."""
    while start < end:
        cut = (start // every_seconds + 1) * every_seconds
        yield start, min(cut, end)
        start = cut


def _day(seconds: float) -> str:
    return datetime.datetime.fromtimestamp(seconds, datetime.timezone.utc).date().isoformat()


def _key_in(by: By, row: HourRow, spans: list[tuple[Mapping[str, Any], float, float]]) -> str | None:
    """Return the key that an accelerator had for most of an hour; None where it was not attached in it."""
    begin = row.hour * _HOUR_SECONDS
    lengths = [
        (min(end, begin + _HOUR_SECONDS) - max(start, begin), _key(by, interval))
        for interval, start, end in spans
        if interval["accelerator_id"] == row.accelerator_id
    ]
    length, name = max(lengths, default=(-1.0, None))
    return name if length >= 0 else None
