"""What attached accelerators cost and did. Pure: rows of the database in, figures out; money is exact."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, TypeVar

INFERENCES_PRICED = 100_000
_Number = TypeVar("_Number", int, float)


@dataclass(frozen=True)
class UsageRow:
    """One accelerator's usage since a moment.

    Attributes:
        tenant: Whose it is; "" for the operator's own.
        accelerator_types: Those it had in that time, in order.
        attached_seconds: How long it was attached.
        unpriced_seconds: For how much of that it had a type without a price.
        cost_usd: Attached time x price, exact, of the time that has a price; None where none has.
        device_seconds: CPU seconds that its processes used, divided by the cores of the device.
        throttled_seconds: For how long it wanted to run and was held back.
        usd_per_100k: What 100,000 inferences really cost, idle time paid included; None without inferences, or
            where some of the time has no price.
        is_attached: Whether it still is.
    """

    accelerator_id: str
    name: str
    accelerator_types: tuple[str, ...]
    started_at: float
    attached_seconds: float
    unpriced_seconds: float
    cost_usd: Decimal | None
    inferences: int
    device_seconds: float
    throttled_seconds: float
    usd_per_100k: Decimal | None
    is_attached: bool
    tenant: str = ""


def summarize(
    intervals: Iterable[Mapping[str, Any]],
    counters: Mapping[str, tuple[int, float, float]],
    since: float,
    now: float,
) -> tuple[UsageRow, ...]:
    """Put attached time and counters together, one row an accelerator, in order of attaching.

    Args:
        intervals: Rows with accelerator_id, name, accelerator_type, usd_per_hour (text or None), started_at
            and ended_at (None while attached).
        counters: Inferences, device seconds, throttled seconds by accelerator.
        since: Time before it does not count; seconds since 1970.
        now: When intervals that are open end for this sum.
    """
    grouped: dict[str, list[Mapping[str, Any]]] = {}
    for interval in intervals:
        grouped.setdefault(interval["accelerator_id"], []).append(interval)
    return tuple(
        _row(accelerator_id, mine, counters.get(accelerator_id, (0, 0.0, 0.0)), since, now)
        for accelerator_id, mine in grouped.items()
    )


def _row(
    accelerator_id: str,
    intervals: list[Mapping[str, Any]],
    counters: tuple[int, float, float],
    since: float,
    now: float,
) -> UsageRow:
    spans = [(i, *clip(i, since, now)) for i in intervals]
    priced = [usd for i, start, end in spans if (usd := cost(i["usd_per_hour"], end - start)) is not None]
    unpriced = [end - start for i, start, end in spans if i["usd_per_hour"] is None]
    total = sum(priced, Decimal(0)) if priced else None
    inferences, device_seconds, throttled_seconds = counters
    return UsageRow(
        accelerator_id=accelerator_id,
        name=intervals[-1]["name"],
        accelerator_types=tuple(i["accelerator_type"] for i in intervals),
        started_at=intervals[0]["started_at"],
        attached_seconds=sum(end - start for _, start, end in spans),
        unpriced_seconds=sum(unpriced),
        cost_usd=total,
        inferences=inferences,
        device_seconds=device_seconds,
        throttled_seconds=throttled_seconds,
        usd_per_100k=None
        if total is None or unpriced or not inferences
        else total * INFERENCES_PRICED / inferences,
        is_attached=intervals[-1]["ended_at"] is None,
        tenant=intervals[-1].get("tenant", ""),
    )


def clip(interval: Mapping[str, Any], since: float, now: float) -> tuple[float, float]:
    """Return when an interval begins and ends within a sum."""
    start = max(interval["started_at"], since)
    end = now if interval["ended_at"] is None else interval["ended_at"]
    return start, max(start, end)


def cost(usd_per_hour: str | None, seconds: float) -> Decimal | None:
    """Return price x time, exact to the microsecond; None without a price."""
    if usd_per_hour is None:
        return None
    # Microseconds as an integer: a float's binary digits have no place in money.
    return Decimal(usd_per_hour) * round(seconds * 1_000_000) / Decimal(3_600_000_000)


@dataclass(frozen=True)
class Sample:
    """Counters of one process as it told them last; they begin at 0 with each process.

    Attributes:
        models: Inferences and service seconds by the names of the models that are loaded.
    """

    inferences: int = 0
    device_seconds: float = 0.0
    throttled_seconds: float = 0.0
    models: Mapping[str, tuple[int, float]] = field(default_factory=dict)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Sample:
        """Read what stands in the database; hosts of before told no models apart."""
        models = {
            name: (int(count), float(seconds)) for name, (count, seconds) in value.get("models", {}).items()
        }
        return cls(**{**value, "models": models})

    def since(self, earlier: Sample) -> Sample:
        """Return what was added; a counter that went back began anew, so all of it is new."""
        return Sample(
            _added(self.inferences, earlier.inferences),
            _added(self.device_seconds, earlier.device_seconds),
            _added(self.throttled_seconds, earlier.throttled_seconds),
            {name: _model_since(new, earlier.models.get(name)) for name, new in self.models.items()},
        )

    def began_after(self, earlier: Sample) -> bool:
        """Whether these are of another process than those: a counter never goes back."""
        return (
            self.inferences < earlier.inferences
            or self.device_seconds < earlier.device_seconds
            or self.throttled_seconds < earlier.throttled_seconds
        )


def _added(new: _Number, old: _Number) -> _Number:
    return new - old if new >= old else new


def _model_since(new: tuple[int, float], old: tuple[int, float] | None) -> tuple[int, float]:
    return new if old is None else (_added(new[0], old[0]), _added(new[1], old[1]))
