"""Demand without a trace: tenants of unlike sizes, days with a peak, and bursts."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from elastic_inference.errors import InvalidInput
from elastic_inference.pool.model import Request
from elastic_inference.pool.simulation.attachment import Attachment, Piece

_HOUR = 3600.0
_LONGEST_STAY_HOURS = 24.0
MAX_ATTACHMENTS = 2_000_000  # about 2 GiB of memory


@dataclass(frozen=True)
class DemandModel:
    """What demand is drawn from.

    Attributes:
        hours: Length of the demand.
        num_tenants: Each attaches at least once, those of a large size more often.
        mean_accelerators: Attached at once, as a mean over the whole time.
        stay_hours: Mean length of an attachment (log-normal, variation 1).
        calls_per_second: Mean of an attachment outside bursts.
        peak_to_trough: Attachments that begin at the day's peak : at its trough; 1: no days.
        peak_hour: Of the day.
        size_spread: Standard deviation of the logarithm of tenants' sizes, which their number of attachments and their
            rates of calls follow; 0: all alike.
        burst_share: Part of an attachment's time that is a burst, 0 to below 1.
        burst_factor: Rate in a burst : rate outside.
        types: Part of the attachments by type name; they are scaled to 1.
    """

    hours: float = 24.0
    num_tenants: int = 100
    mean_accelerators: float = 20.0
    stay_hours: float = 1.0
    calls_per_second: float = 1.0
    peak_to_trough: float = 3.0
    peak_hour: float = 15.0
    size_spread: float = 1.0
    burst_share: float = 0.05
    burst_factor: float = 5.0
    types: Mapping[str, float] = field(default_factory=lambda: {"cpu.quarter": 1.0})

    def __post_init__(self) -> None:
        limits = {
            "hours": (0.01, 24.0 * 366), "num_tenants": (1, 10**7), "mean_accelerators": (0.01, 1e6),
            "stay_hours": (1e-3, 24.0 * 366), "calls_per_second": (0.0, 1e6), "peak_to_trough": (1.0, 1000.0),
            "peak_hour": (0.0, 24.0), "size_spread": (0.0, 4.0), "burst_share": (0.0, 0.9),
            "burst_factor": (1.0, 1000.0),
        }  # fmt: skip
        for name, (least, most) in limits.items():
            if not least <= getattr(self, name) <= most:
                raise InvalidInput(f"{name} {getattr(self, name)} is not between {least:g} and {most:g}")
        if not self.types or any(not 0 < part < math.inf for part in self.types.values()):
            raise InvalidInput("types needs at least one type, each with a part above 0")
        if self.num_attachments > MAX_ATTACHMENTS:
            raise InvalidInput(
                f"mean_accelerators {self.mean_accelerators:g} for hours {self.hours:g} with stay_hours "
                f"{self.stay_hours:g}, of num_tenants {self.num_tenants}, are {self.num_attachments:,} attachments, "
                f"more than {MAX_ATTACHMENTS:,}; plan a part of them, or a shorter time"
            )

    @property
    def num_attachments(self) -> int:
        """How many attachments are drawn."""
        return max(self.num_tenants, round(self.mean_accelerators * self.hours / self.stay_hours))


def draw_demand(model: DemandModel, seed: int = 0) -> list[Attachment]:
    """Draw attachments, the same for equal seeds, in order of their start."""
    chance = np.random.default_rng(seed)
    span = model.hours * _HOUR
    count = model.num_attachments
    sizes = np.exp(model.size_spread * chance.standard_normal(model.num_tenants))
    more = chance.choice(model.num_tenants, count - model.num_tenants, p=sizes / sizes.sum())
    tenants = np.concatenate([np.arange(model.num_tenants), more])
    starts = _starts(model, chance, count, span)
    # Stays cut off at the end make room for others at the start, so that no hour is emptier than its part of the day.
    sigma = math.sqrt(math.log(2))
    stays = model.stay_hours * _HOUR * np.exp(sigma * chance.standard_normal(count) - sigma**2 / 2)
    stays *= model.mean_accelerators * span / stays.sum()
    stays = np.clip(stays, 1.0, _LONGEST_STAY_HOURS * _HOUR)
    names = list(model.types)
    parts = np.array([model.types[name] for name in names])
    kinds = chance.choice(len(names), count, p=parts / parts.sum())
    rates = model.calls_per_second * sizes[tenants] / sizes[tenants].mean()
    found = []
    for number in np.argsort(starts, kind="stable"):
        start, end = float(starts[number]), min(span, float(starts[number] + stays[number]))
        if end - start < 1e-3:
            continue
        tenant = f"tenant{tenants[number]:05}"
        found.append(
            Attachment(
                f"{tenant}/{number}",
                Request(names[kinds[number]], tenant=tenant),
                _pieces(model, chance, start, end, float(rates[number])),
            )
        )
    return found


def _starts(model: DemandModel, chance: np.random.Generator, count: int, span: float) -> np.ndarray:
    """Draw when attachments begin: the day's wave between trough and peak, by rejection."""
    ratio = model.peak_to_trough
    depth = (ratio - 1) / (ratio + 1)
    drawn: list[float] = []
    while len(drawn) < count:
        times = chance.random(2 * count) * span
        wave = 1 + depth * np.cos(2 * math.pi * (times / _HOUR - model.peak_hour) / 24)
        drawn += times[chance.random(2 * count) * (1 + depth) < wave].tolist()
    return np.array(drawn[:count])


def _pieces(
    model: DemandModel, chance: np.random.Generator, start: float, end: float, rate: float
) -> tuple[Piece, ...]:
    """Cut a stay into quiet, burst and quiet, with the mean rate kept."""
    if model.burst_share == 0 or model.burst_factor == 1:
        return (Piece(start, end, rate),)
    length = (end - start) * model.burst_share
    burst = start + float(chance.random()) * (end - start - length)
    quiet = rate / (1 + model.burst_share * (model.burst_factor - 1))
    return (
        Piece(start, burst, quiet),
        Piece(burst, burst + length, quiet * model.burst_factor),
        Piece(burst + length, end, quiet),
    )
