"""Sizes, durations and money as text, read and written."""

from __future__ import annotations

import contextlib
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from elastic_inference.errors import InvalidInput
from elastic_inference.units import format_bytes, format_seconds, parse_bytes, parse_seconds, parse_usd

SIZES = {
    "0": 0, "1024": 1024, "7B": 7, "1kB": 1000, "1KiB": 1024, "512MiB": 512 << 20, "1.5 GiB": 3 << 29,
    "2GB": 2 * 10**9, " 3 Gi ": 3 << 30, "1e3": 1000, ".5k": 500, "1TiB": 1 << 40,
}  # fmt: skip
DURATIONS = {"0.3": 0.3, "250ms": 0.25, "1.5s": 1.5, "10min": 600.0, "2h": 7200.0, "3us": 3e-6, "1d": 86400.0}


@pytest.mark.parametrize(("text", "count"), SIZES.items())
def test_sizes_are_read_as_bytes(text: str, count: int) -> None:
    assert parse_bytes(text) == count


@pytest.mark.parametrize(("text", "seconds"), DURATIONS.items())
def test_durations_are_read_as_seconds(text: str, seconds: float) -> None:
    assert parse_seconds(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "text", ["", "MiB", "-1", "1 2", "5 parsecs", "0x10", "nan", "inf", "1,5 GB", "1e999"]
)
@pytest.mark.parametrize("parse", [parse_bytes, parse_seconds])
def test_what_is_no_quantity_is_refused(text: str, parse: object) -> None:
    with pytest.raises(InvalidInput, match=r"^(size|duration) "):
        parse(text)  # type: ignore[operator]


@given(st.text())
def test_any_text_is_a_quantity_or_refused(text: str) -> None:
    for parse in (parse_bytes, parse_seconds, parse_usd):
        with contextlib.suppress(InvalidInput):
            assert parse(text) >= 0


@given(st.integers(0, 1 << 50))
def test_written_sizes_are_read_back_within_their_digits(count: int) -> None:
    assert parse_bytes(format_bytes(count).replace(" ", "")) == pytest.approx(count, rel=0.06, abs=0.5)


@given(st.floats(1e-9, 1e6))
def test_written_durations_are_read_back_within_their_digits(seconds: float) -> None:
    assert parse_seconds(format_seconds(seconds)) == pytest.approx(seconds, rel=0.01)


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (1 << 30, "1.0 GiB"), (3 << 40, "3.0 TiB")],
)
def test_sizes_are_written_with_the_unit_that_suits(count: int, text: str) -> None:
    assert format_bytes(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0 s"), (0.0123, "12.3 ms"), (1.5, "1.5 s"), (3600, "3600 s"), (2e-6, "2 us")]
)
def test_durations_are_written_with_the_unit_that_suits(seconds: float, text: str) -> None:
    assert format_seconds(seconds) == text


def test_money_is_read_exactly() -> None:
    assert parse_usd(" 0.10 ") == Decimal("0.10")


@pytest.mark.parametrize("text", ["-1", "nan", "inf", "ten", "", "1e400", "1e-30"])
def test_what_is_no_price_is_refused_by_name(text: str) -> None:
    with pytest.raises(InvalidInput, match="rent"):
        parse_usd(text, "rent")
