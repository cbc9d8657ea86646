"""Prices for a cost that a command shows: the user's own figures, else rows of the shipped table."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

from elastic_inference.explorer.cost import sequential_usd
from elastic_inference.explorer.prices import PriceRow, load_prices
from elastic_inference.units import parse_usd
from elastic_inference.video.report import Costs, PriceBasis, RunReport

DEFAULT_CLIENT = "m5.large"
DEFAULT_ACCELERATOR = "eia1.medium"


def price_basis(client_usd: str | None, accelerator_usd: str | None, prices_file: Path | None) -> PriceBasis:
    """Take each price as given in USD an hour, else from the default row of the prices in force.

    Raises:
        InvalidInput: A price is no amount, or the prices file cannot be read.
    """
    table = load_prices(prices_file)
    client, client_price = _price(client_usd, table.get(DEFAULT_CLIENT), "--client-usd-per-hour")
    accelerator, accelerator_price = _price(
        accelerator_usd, table.get(DEFAULT_ACCELERATOR), "--accelerator-usd-per-hour"
    )
    return PriceBasis(client, client_price, accelerator, accelerator_price)


def costs(basis: PriceBasis, without: RunReport, with_accelerator: RunReport) -> Costs:
    """Return what 100,000 inferences in a row cost in each run; without accelerator only the client is paid."""
    both = basis.client_usd_per_hour + basis.accelerator_usd_per_hour
    return Costs(
        basis,
        without_usd=sequential_usd(basis.client_usd_per_hour, without.average_inference_seconds),
        with_usd=sequential_usd(both, with_accelerator.average_inference_seconds),
    )


def _price(given: str | None, row: PriceRow, option: str) -> tuple[str, Decimal]:
    if given is not None:
        return f"given by {option}", parse_usd(given, option)
    return f"{row.name}, {row.region}, {row.as_of}, {row.source}", row.usd_per_hour
