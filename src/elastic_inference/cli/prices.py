"""`ei prices`: the price table in force, and whether a prices file is right."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Annotated

import typer

PricesFile = Annotated[
    Path | None, typer.Option("--prices", metavar="FILE", help="Your own CSV, on top of the shipped table.")
]


def register(app: typer.Typer) -> None:
    """Add `ei prices` and `ei prices check`."""
    prices_app = typer.Typer()
    prices_app.callback(invoke_without_command=True)(prices)
    prices_app.command("check")(check)
    app.add_typer(prices_app, name="prices")


def prices(
    context: typer.Context,
    vendor: Annotated[str | None, typer.Option("--vendor", help="Only this vendor, such as aws.")] = None,
    prices_file: PricesFile = None,
) -> None:
    """Show every price with region, date and source."""
    if context.invoked_subcommand is not None:
        return
    from elastic_inference.explorer.prices import load_prices
    from elastic_inference.explorer.reporting.text import price_table

    chosen = load_prices(prices_file).of_vendor(vendor)
    print(price_table(chosen, chosen.old_rows(date.today())))


def check(prices_file: PricesFile = None) -> None:
    """Read the table with your own file on top, and name what is wrong (exit code 1) or old (exit code 0)."""
    from elastic_inference.explorer.prices import OLD_AFTER_DAYS, load_prices

    table = load_prices(prices_file)
    old = table.old_rows(date.today())
    print(f"{len(table)} prices are well formed; {len(old)} are undated or older than {OLD_AFTER_DAYS} days")
    for row in old:
        print(f"  {row.name}: {row.usd_per_hour} USD/hour as of {row.as_of}, {row.region}, from {row.source}")
