"""Service times by accelerator type, from what `ei explore` measured or from given figures."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from elastic_inference.errors import InvalidInput
from elastic_inference.pool.simulation.service_time import ServiceTime
from elastic_inference.units import format_seconds, parse_seconds

SCHEMA = "elastic-inference exploration 1"


@dataclass(frozen=True)
class Profile:
    """How long calls take, by type.

    Attributes:
        source: Where the figures come from, for the reader.
        notes: What was chosen on the way, such as which client's measurements.
    """

    times: Mapping[str, ServiceTime]
    source: str
    notes: Sequence[str] = field(default_factory=tuple)

    def of(self, type_name: str) -> ServiceTime:
        """Return the time of a type; raises InvalidInput that names the known ones."""
        if type_name not in self.times:
            known = ", ".join(sorted(self.times)) or "none"
            raise InvalidInput(
                f"no service time of type {type_name!r} in {self.source}; known are {known}; "
                f"measure it with ei explore, or give --service {type_name}=40ms"
            )
        return self.times[type_name]

    def with_times(self, given: Mapping[str, ServiceTime]) -> Profile:
        """Return this profile with other times on top."""
        if not given:
            return self
        source = f"{self.source}, and given: {', '.join(sorted(given))}" if self.times else "given"
        return Profile({**self.times, **given}, source, self.notes)


EMPTY = Profile({}, "no profile")


def parse_service(text: str) -> tuple[str | None, str, ServiceTime]:
    """Read `cpu.quarter=40ms`, `KIND:cpu.quarter=40ms` or `cpu.quarter=40ms,0.3` (standard deviation : mean).

    Returns:
        Kind of host or None, type, time.
    """
    before, _, rest = text.partition("=")
    kind, _, name = before.rpartition(":")
    seconds, _, variation = rest.partition(",")
    try:
        spread = float(variation) if variation else 0.0
    except ValueError as error:
        raise InvalidInput(f"service time {text!r}: variation {variation!r} is not a number") from error
    if not name.strip() or not seconds.strip():
        raise InvalidInput(f"service time {text!r} is not TYPE=TIME, such as cpu.quarter=40ms")
    return kind.strip() or None, name.strip(), ServiceTime(parse_seconds(seconds), spread)


def read_profile(path: str | Path, client: str | None = None, precision: str | None = None) -> Profile:
    """Read `measurements.json` of `ei explore`.

    Args:
        client: Whose measurements count; None: for each type those of the quickest client.
        precision: None: for each type the quickest that was measured.

    Raises:
        InvalidInput: The file cannot be read, is no such file, or has no measured accelerator.
    """
    try:
        value = json.loads(Path(path).read_text("utf-8"))
    except OSError as error:
        raise InvalidInput(f"profile {str(path)!r} cannot be read: {error.strerror or error}") from error
    except (UnicodeDecodeError, ValueError) as error:
        raise InvalidInput(f"profile {str(path)!r} is not JSON: {error}") from error
    if not isinstance(value, dict) or value.get("schema") != SCHEMA:
        raise InvalidInput(
            f"profile {str(path)!r} is not a measurements.json of ei explore: its schema is "
            f"{value.get('schema') if isinstance(value, dict) else None!r}, not {SCHEMA!r}"
        )
    best: dict[str, dict[str, Any]] = {}
    for row in value.get("combinations", ()):
        if _is_wanted(row, client, precision) and _seconds(row) < _seconds(best.get(row["accelerator"])):
            best[row["accelerator"]] = row
    if not best:
        asked = "".join(
            f", {name} {what!r}" for name, what in (("client", client), ("precision", precision)) if what
        )
        raise InvalidInput(f"profile {str(path)!r} has no accelerator whose service time was measured{asked}")
    notes = [f"{name}: {_describe(row)}" for name, row in sorted(best.items())]
    return Profile({name: _service_time(row) for name, row in best.items()}, str(path), notes)


def _is_wanted(row: Mapping[str, Any], client: str | None, precision: str | None) -> bool:
    return (
        row.get("state") == "measured"
        and row.get("accelerator") is not None
        and row.get("detail", {}).get("service_seconds") is not None
        and client in (None, row.get("client"))
        and precision in (None, row.get("precision"))
    )


def _seconds(row: Mapping[str, Any] | None) -> float:
    """Return the mean of one call after the other: by that, measurements are compared."""
    return float("inf") if row is None else float(row["detail"]["service_seconds"])


def _describe(row: Mapping[str, Any]) -> str:
    return f"{format_seconds(_seconds(row))} of computation in {row['precision']}, as {row['client']} measured it"


def _service_time(row: Mapping[str, Any]) -> ServiceTime:
    """Take what was measured of calls that come with pauses, as a pool's do; of an older file, the sequential mean."""
    detail = row["detail"]
    wire, load = (float(detail.get(name) or 0.0) for name in ("wire_seconds", "load_seconds"))
    first_call = detail.get("first_call_seconds")
    first = () if first_call is None else (max(0.0, float(first_call) - wire),)
    measured = [(float(computation), float(beside)) for computation, beside in detail.get("call_parts", ())]
    if not measured:
        return ServiceTime(_seconds(row), 0.0, wire, load, first)
    return ServiceTime.of_measured(measured, load, first)
