"""Bytes, seconds and money as people write and read them; inside Python only bytes, seconds and Decimal USD."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from decimal import Decimal, InvalidOperation

from elastic_inference.errors import InvalidInput

_BYTES = {
    "": 1, "b": 1,
    "k": 1000, "kb": 1000, "m": 1000**2, "mb": 1000**2, "g": 1000**3, "gb": 1000**3, "t": 1000**4, "tb": 1000**4,
    "kib": 1024, "ki": 1024, "mib": 1024**2, "mi": 1024**2, "gib": 1024**3, "gi": 1024**3, "tib": 1024**4,
}  # fmt: skip
_SECONDS = {
    "ns": 1e-9, "us": 1e-6, "ms": 1e-3, "": 1.0, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0,
}  # fmt: skip
_MOST_USD = Decimal(10**12)  # more is a slip of the pen, and would make every table as wide
_USD_PLACES = 12
_QUANTITY = re.compile(r"\s*([0-9]*\.?[0-9]+(?:[eE][+-]?[0-9]+)?)\s*([A-Za-z]*)\s*")


def _parse(text: str, units: Mapping[str, float], what: str, known: str) -> float:
    match = _QUANTITY.fullmatch(text)
    scale = units.get(match[2].lower()) if match is not None else None
    if match is None or scale is None:
        raise InvalidInput(f"{what} {text!r} is not a number with one of the units {known}")
    value = float(match[1]) * scale
    if not math.isfinite(value):
        raise InvalidInput(f"{what} {text!r} is too large")
    return value


def parse_bytes(text: str) -> int:
    """Read `512MiB`, `2GB` or `1024` as bytes; decimal units are powers of 1000, binary ones of 1024."""
    return round(_parse(text, _BYTES, "size", "B, kB, MB, GB, TB, KiB, MiB, GiB, TiB"))


def parse_seconds(text: str) -> float:
    """Read `250ms`, `1.5s`, `10min` or `0.3` (seconds) as seconds."""
    return _parse(text, _SECONDS, "duration", "ns, us, ms, s, min, h, d")


def format_usd(amount: Decimal, num_places: int = 2) -> str:
    """Write an amount with so many decimal places, and with more where else it had fewer than two digits: 0.0000031."""
    least = 1 - amount.adjusted() if amount else 0
    return f"{amount:.{min(max(num_places, least), _USD_PLACES)}f}"


def parse_usd(text: str, field: str = "price") -> Decimal:
    """Read an amount of US dollars exactly, as Decimal; it must be finite and not negative."""
    try:
        amount = Decimal(text.strip())
    except InvalidOperation as error:
        raise InvalidInput(f"{field} {text!r} is not a number of US dollars") from error
    if not amount.is_finite() or amount < 0:
        raise InvalidInput(f"{field} {text!r} must be finite and 0 or more")
    if amount > _MOST_USD or int(amount.as_tuple().exponent) < -_USD_PLACES:
        raise InvalidInput(
            f"{field} {text!r:.80} is above {_MOST_USD:.0e} or has more than {_USD_PLACES} decimal places"
        )
    return amount


def format_bytes(count: int | float) -> str:
    """Write bytes with the binary unit that keeps the figure below 1024."""
    value = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(value) < 1024:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} TiB"


def format_seconds(seconds: float) -> str:
    """Write a duration with three significant digits in the unit that suits it."""
    for scale, unit in ((1.0, "s"), (1e-3, "ms"), (1e-6, "us")):
        if abs(seconds) >= scale:
            return f"{seconds / scale:.3g} {unit}" if abs(seconds) < 1000 else f"{seconds:.0f} s"
    return f"{seconds * 1e9:.3g} ns" if seconds else "0 s"
