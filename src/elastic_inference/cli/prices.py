"""`ei prices`: the price table in force, and whether a prices file is right."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from elastic_inference.cli.registration import add_group
from elastic_inference.cli.rendering import Listing

if TYPE_CHECKING:
    from elastic_inference.cli._price_rows import PriceCheck

PricesFile = Annotated[
    Path | None,
    typer.Option("--prices", metavar="CSV", help="Your own prices; they replace the shipped ones by name."),
]


def register(app: typer.Typer) -> None:
    """Add `ei prices` and `ei prices check`."""
    add_group(app, "prices", prices, check=check)


def prices(
    vendor: Annotated[str | None, typer.Option("--vendor", help="Only this vendor, such as aws.")] = None,
    prices_file: PricesFile = None,
) -> Listing:
    """Show every price with region, date and source.

    \b
    Examples:
      ei prices
      ei prices --vendor aws --json
    """
    from elastic_inference.cli._price_rows import Price, price_rows
    from elastic_inference.explorer.prices import load_prices

    chosen = load_prices(prices_file).of_vendor(vendor)
    return Listing(Price, price_rows(chosen, chosen.old_rows(date.today())))


def check(prices_file: PricesFile = None) -> PriceCheck:
    """Check your own prices file, and list old prices.

    Exit code 2 if the file is wrong; old prices are listed and are no error.

    \b
    Examples:
      ei prices check
      ei prices check --prices prices.csv
    """
    from elastic_inference.cli._price_rows import check_prices
    from elastic_inference.explorer.prices import load_prices

    table = load_prices(prices_file)
    return check_prices(table, table.old_rows(date.today()))
