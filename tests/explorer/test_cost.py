"""Cost per inference, and the article's figures computed anew."""

from __future__ import annotations

import math
from decimal import ROUND_HALF_UP, Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from elastic_inference.errors import InvalidInput
from elastic_inference.explorer.article import article_claims, article_rows
from elastic_inference.explorer.cost import (
    ThroughputPoint,
    demand_usd,
    greatest_throughput,
    num_combinations,
    sequential_usd,
    throughput_usd,
)
from elastic_inference.explorer.prices import shipped_prices


def cents(usd: Decimal) -> Decimal:
    """Round half up, as the article does."""
    return usd.quantize(Decimal("0.01"), ROUND_HALF_UP)


def test_all_sixteen_published_costs_to_the_cent() -> None:
    prices = shipped_prices()
    rows = article_rows()
    computed = [
        cents(sequential_usd(prices.usd_per_hour(row.client, row.accelerator), row.latency_seconds))
        for row in rows
    ]
    assert computed == [row.published_usd_per_100k for row in rows]
    assert len(rows) == 16


def test_prices_rounded_to_cents_do_not_give_the_published_costs() -> None:
    rows = article_rows()
    computed = [cents(sequential_usd(row.published_usd_per_hour, row.latency_seconds)) for row in rows]
    assert computed != [row.published_usd_per_100k for row in rows]


def test_which_claims_of_the_article_hold() -> None:
    claims = article_claims()
    assert [c.published_text for c in claims if c.holds] == [
        "2.95x", "73%", "1.4x", "51%", "55%", "75%", "0.15 USD", "0.41 USD", "44 videos",
    ]  # fmt: skip
    assert {c.published_text: c.computed_text for c in claims if not c.holds} == {
        "3.34x": "3.24x",
        "78.5%": "71.0%",
        "27.5%": "30.8%",
    }


def test_three_costs_differ_and_agree_where_they_must() -> None:
    price = Decimal("0.36")
    assert sequential_usd(price, 0.25) == Decimal("2.5")
    assert throughput_usd(price, 4) == Decimal("2.5")
    assert throughput_usd(price, 8) == Decimal("1.25")
    assert demand_usd(price, capacity_per_second=8, demand_per_second=9) == 2 * price * 100_000 / (9 * 3600)


def test_latency_keeps_the_digits_that_were_written() -> None:
    assert sequential_usd(Decimal("0.226"), 0.35353) == sequential_usd(Decimal("0.226"), Decimal("0.35353"))


@pytest.mark.parametrize("latency", [0.0, -1.0, math.nan, math.inf])
def test_impossible_latency_never_becomes_a_cost(latency: float) -> None:
    with pytest.raises(InvalidInput, match="latency_seconds"):
        sequential_usd(Decimal(1), latency)


@pytest.mark.parametrize("price", ["-0.1", "NaN", "Infinity"])
def test_impossible_price_never_becomes_a_cost(price: str) -> None:
    with pytest.raises(InvalidInput, match="usd_per_hour"):
        sequential_usd(Decimal(price), 0.1)


def test_greatest_throughput_that_meets_the_target() -> None:
    points = [ThroughputPoint(5, 0.1), ThroughputPoint(9, 0.2), ThroughputPoint(10, 0.9)]
    assert greatest_throughput(points, 0.25) == 9
    assert greatest_throughput(points, None) == 10
    assert greatest_throughput(points, 0.05) is None


@given(st.floats(0.01, 1e4), st.floats(0.01, 1e4), st.decimals("0.001", "100", allow_nan=False, places=3))
def test_demand_never_costs_less_than_full_throughput(capacity: float, demand: float, price: Decimal) -> None:
    full = throughput_usd(price, capacity)
    at_demand = demand_usd(price, capacity, demand)
    assert at_demand >= full * (1 - Decimal("1e-20"))
    assert (num_combinations(capacity, demand) - 1) * capacity < demand * (1 + 1e-12)


@pytest.mark.parametrize(
    ("demand", "count"), [(0.01, 1), (7.9, 1), (8, 1), (8.001, 2), (16, 2), (16.001, 3), (80, 10)]
)
def test_a_demand_that_is_a_whole_multiple_takes_no_combination_more(demand: float, count: int) -> None:
    assert num_combinations(8, demand) == count
    assert demand_usd(Decimal(1), 8, demand) == count * Decimal(100_000) / (Decimal(str(demand)) * 3600)


def test_a_latency_of_just_the_target_meets_it() -> None:
    assert greatest_throughput([ThroughputPoint(5, 0.1), ThroughputPoint(9, 0.25)], 0.25) == 9


def test_what_costs_nothing_is_no_error() -> None:
    assert (
        sequential_usd(Decimal(0), 0.1) == throughput_usd(Decimal(0), 5) == demand_usd(Decimal(0), 5, 9) == 0
    )
