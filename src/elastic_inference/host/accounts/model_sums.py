"""Usage summed up by model. Pure: rows of the database in, sums out; the sums come to exactly what was billed.

An accelerator is billed by attached time, not by model. So each hour of it is divided among the models that ran in that
hour, in proportion to the seconds for which they used the device; an hour in which none ran is `NO_MODEL`'s.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from elastic_inference.host.accounts.sums import HourRow, ModelHourRow, UsageSum, add_time, pieces
from elastic_inference.host.accounts.usage import clip

NO_MODEL = "(no model ran)"
_HOUR_SECONDS = 3600
_Hour = tuple[str, int]


def sum_up_models(
    intervals: Iterable[Mapping[str, Any]],
    hours: Iterable[HourRow],
    model_hours: Iterable[ModelHourRow],
    since: float,
    now: float,
) -> tuple[UsageSum, ...]:
    """Return one sum for each model, in the order of their names.

    Args:
        intervals, hours, since, now: See `sums.sum_up`.
        model_hours: What each model did.
    """
    first_hour = int(since // _HOUR_SECONDS)
    ran = _ran(row for row in model_hours if row.hour >= first_hour)
    sums: dict[str, UsageSum] = {}

    def of(key: str) -> UsageSum:
        return sums.setdefault(key, UsageSum(key))

    for interval in intervals:
        for start, end in pieces(*clip(interval, since, now), _HOUR_SECONDS):
            weights = _weights(ran.get((interval["accelerator_id"], int(start // _HOUR_SECONDS))))
            for model, microseconds in _divide(round((end - start) * 1_000_000), weights):
                add_time(of(model), interval["usd_per_hour"], microseconds / 1_000_000)
    for (_, _), models in ran.items():
        for model, (inferences, _) in models.items():
            of(model).inferences += inferences
    for row in hours:
        if row.hour >= first_hour:
            weights = _weights(ran.get((row.accelerator_id, row.hour)))
            for model, weight in weights.items():
                of(model).device_seconds += row.device_seconds * weight
                of(model).throttled_seconds += row.throttled_seconds * weight
    return tuple(sums[key] for key in sorted(sums))


def _ran(rows: Iterable[ModelHourRow]) -> dict[_Hour, dict[str, tuple[int, float]]]:
    found: dict[_Hour, dict[str, tuple[int, float]]] = {}
    for row in rows:
        found.setdefault((row.accelerator_id, row.hour), {})[row.model] = row.inferences, row.service_seconds
    return found


def _weights(models: Mapping[str, tuple[int, float]] | None) -> dict[str, float]:
    """Return which part of an hour is whose; the parts add up to 1."""
    if not models:
        return {NO_MODEL: 1.0}
    total_seconds = sum(seconds for _, seconds in models.values())
    if total_seconds > 0:
        return {model: seconds / total_seconds for model, (_, seconds) in models.items()}
    return {model: 1 / len(models) for model in models}


def _divide(microseconds: int, weights: Mapping[str, float]) -> list[tuple[str, int]]:
    """Divide a time so that the parts add up to it exactly: the last gets what rounding left."""
    *others, last = weights
    parts = [(model, int(microseconds * weights[model])) for model in others]
    return [*parts, (last, microseconds - sum(part for _, part in parts))]
