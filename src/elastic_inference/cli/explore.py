"""`ei explore`: which client and which accelerator are cheapest for a model, measured or from given measurements."""

from __future__ import annotations

import shlex
import sys
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from elastic_inference.cli._support import extra
from elastic_inference.errors import InvalidInput
from elastic_inference.units import parse_seconds

if TYPE_CHECKING:
    from collections.abc import Sequence

    from elastic_inference.explorer.article import Claim
    from elastic_inference.explorer.exploration import Exploration
    from elastic_inference.explorer.outcome import SearchOptions
    from elastic_inference.explorer.prices import PriceTable


def register(app: typer.Typer) -> None:
    """Add `ei explore`."""
    explore_app = typer.Typer()
    explore_app.callback(invoke_without_command=True)(explore)
    app.add_typer(explore_app, name="explore")


def explore(
    context: typer.Context,
    measurements: Annotated[
        Path | None, typer.Option("--measurements", metavar="CSV", help="Analyse these instead of measuring.")
    ] = None,
    article: Annotated[
        bool, typer.Option("--article", help="Analyse the article's own measurements.")
    ] = False,
    prices_file: Annotated[
        Path | None, typer.Option("--prices", metavar="CSV", help="Your prices, on top of the shipped ones.")
    ] = None,
    target_latency: Annotated[
        str | None, typer.Option("--target-latency", metavar="TIME", help="Such as 250ms; none: any latency.")
    ] = None,
    demand: Annotated[
        str | None, typer.Option("--rate", metavar="RATE", help="Demand, such as 20/s, for cost (c).")
    ] = None,
    slack: Annotated[
        float, typer.Option("--slack", help="Share by which a more capable combination may be slower.")
    ] = 0.08,
    method: Annotated[str, typer.Option("--method", help="search, or walk-back for comparison.")] = "search",
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", metavar="DIR", help="Write report.html and its data here."),
    ] = None,
) -> None:
    """Name the cheapest combination that meets the target, and say why no other can be cheaper.

    \b
    Examples:
      ei explore --article --target-latency 223ms -o report/
      ei explore --measurements latencies.csv --prices prices.csv --target-latency 223ms
    """
    if context.invoked_subcommand is not None:
        return
    with extra("explore"):
        from elastic_inference.explorer.outcome import SearchOptions
        from elastic_inference.explorer.prices import load_prices
    prices = load_prices(prices_file)
    options = SearchOptions(
        target_latency_seconds=None if target_latency is None else parse_seconds(target_latency),
        slack_share=slack,
    )
    if method not in ("search", "walk-back"):
        raise InvalidInput(f"method {method!r} is not one of search, walk-back")
    if article == (measurements is not None):
        raise InvalidInput("give either --measurements CSV or --article")
    _analyse(measurements, prices, options, method, parse_rate(demand), output)


def parse_rate(text: str | None) -> float | None:
    """Read `20/s`, `600/min`, `5000/h` or `20` (a second) as requests a second."""
    if text is None:
        return None
    number, _, unit = text.partition("/")
    seconds = {"": 1.0, "s": 1.0, "min": 60.0, "h": 3600.0}.get(unit.strip())
    try:
        value = float(number)
    except ValueError as error:
        raise InvalidInput(f"rate {text!r} is not a number with a unit, such as 20/s") from error
    if seconds is None or not 0 < value < float("inf"):
        raise InvalidInput(f"rate {text!r} must be above 0 and end in /s, /min or /h")
    return value / seconds


def _analyse(
    measurements: Path | None,
    prices: PriceTable,
    options: SearchOptions,
    method: str,
    demand_per_second: float | None,
    output: Path | None,
) -> None:
    with extra("explore"):
        from elastic_inference.explorer import analysis
        from elastic_inference.explorer.article import article_claims, article_path
    path = article_path() if measurements is None else measurements
    measured = analysis.read_measurements(path)
    if method == "walk-back":
        print(analysis.walk_back_sentence(measured, prices, options.target_latency_seconds))
        return
    exploration = analysis.analyse(
        measured,
        prices,
        options,
        subject="the article's measurements: Faster R-CNN ResNet-50, 1080p"
        if measurements is None
        else f"measurements of {measurements}",
        today=date.today(),
        demand_per_second=demand_per_second,
        command=shlex.join(["ei", *sys.argv[1:]]),
    )
    _show(exploration, output, article_claims(prices) if measurements is None else ())


def _show(exploration: Exploration, output: Path | None, claims: Sequence[Claim] = ()) -> None:
    from elastic_inference.explorer.exploration import verdict
    from elastic_inference.explorer.text import claim_table, combination_table

    print(combination_table(exploration))
    if claims:
        print(f"\n{claim_table(claims)}")
    print(f"\n{verdict(exploration)}\n{exploration.result.proof}.")
    for warning in exploration.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    if output is not None:
        with extra("explore"):
            from elastic_inference.explorer.report import write_report
        for path in write_report(exploration, output, claims):
            print(path)
