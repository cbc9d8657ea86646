"""`ei explore`: which client and which accelerator are cheapest for a model, measured or from given measurements."""

from __future__ import annotations

import shlex
import sys
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from elastic_inference import settings
from elastic_inference.cli._support import extra
from elastic_inference.client.accelerator import HostAccess
from elastic_inference.client.load_options import LoadOptions
from elastic_inference.errors import InvalidInput
from elastic_inference.units import format_seconds, parse_seconds

if TYPE_CHECKING:
    from collections.abc import Sequence

    from elastic_inference.explorer.article import Claim
    from elastic_inference.explorer.prices import PriceTable
    from elastic_inference.explorer.reporting.result import Exploration
    from elastic_inference.explorer.run import Event, Plan
    from elastic_inference.explorer.search_result import SearchOptions

DEFAULT_OUTPUT = Path("report")


def register(app: typer.Typer) -> None:
    """Add `ei explore` and `ei explore client`."""
    explore_app = typer.Typer()
    explore_app.callback(invoke_without_command=True)(explore)
    explore_app.command("client")(client)
    app.add_typer(explore_app, name="explore")


def explore(
    context: typer.Context,
    model: Annotated[
        str | None,
        typer.Option("--model", metavar="MODEL", help="Path or known name of the model to measure."),
    ] = None,
    input_file: Annotated[
        str | None,
        typer.Option("--input", metavar="FILE", help="Input of each call: .npy, .npz or an image."),
    ] = None,
    shape: Annotated[
        str | None, typer.Option("--shape", metavar="SHAPE", help="Made-up input, as uint8:1,1080,1920,3.")
    ] = None,
    host: Annotated[
        str | None,
        typer.Option("--host", metavar="URL", help="Host that gives accelerators; default EI_HOST."),
    ] = None,
    token: Annotated[str | None, typer.Option("--token", help="The host's token; default EI_TOKEN.")] = None,
    clients: Annotated[
        str,
        typer.Option("--clients", help="cores=1,2: this machine bound to so many cores; or names that join."),
    ] = "cores=1",
    accelerators: Annotated[
        str, typer.Option("--accelerators", help="Types of the host, by name, or all.")
    ] = "all",
    no_ei_too: Annotated[
        bool, typer.Option("--no-ei-too/--only-ei", help="Measure each client without accelerator as well.")
    ] = True,
    precision: Annotated[
        str, typer.Option("--precision", help="fp32, bf16, int8; several with commas.")
    ] = "fp32",
    engine: Annotated[
        str, typer.Option("--engine", help="auto, openvino, tensorflow or onnxruntime.")
    ] = "auto",
    target_latency: Annotated[
        str | None, typer.Option("--target-latency", metavar="TIME", help="Such as 250ms; none: any latency.")
    ] = None,
    percentile: Annotated[float, typer.Option("--percentile", help="What the target is about.")] = 95.0,
    demand: Annotated[
        str | None, typer.Option("--rate", metavar="RATE", help="Demand, such as 20/s, for cost (c).")
    ] = None,
    budget: Annotated[int | None, typer.Option("--budget", help="Combinations to measure at most.")] = None,
    exhaustive: Annotated[bool, typer.Option("--exhaustive", help="Measure every combination.")] = False,
    repeats: Annotated[int, typer.Option("--repeats", help="Runs of each that could be the cheapest.")] = 3,
    slack: Annotated[
        float, typer.Option("--slack", help="Share by which a more capable combination may be slower.")
    ] = 0.08,
    seconds: Annotated[
        str, typer.Option("--cell-time", metavar="TIME", help="Limit of each part of a measurement.")
    ] = "60s",
    curves: Annotated[
        bool, typer.Option("--curves/--no-curves", help="Measure finalists' throughput.")
    ] = True,
    listen: Annotated[
        str, typer.Option("--listen", metavar="ADDRESS", help="Where clients elsewhere join.")
    ] = "127.0.0.1:8490",
    measurements: Annotated[
        Path | None, typer.Option("--measurements", metavar="CSV", help="Analyse these instead of measuring.")
    ] = None,
    article: Annotated[
        bool, typer.Option("--article", help="Analyse the article's own measurements.")
    ] = False,
    prices_file: Annotated[
        Path | None, typer.Option("--prices", metavar="CSV", help="Your prices, on top of the shipped ones.")
    ] = None,
    method: Annotated[str, typer.Option("--method", help="search, or walk-back for comparison.")] = "search",
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", metavar="DIR", help="For report.html and its data; resumed if there."),
    ] = None,
) -> None:
    """Name the cheapest combination that meets the target, and say why no other can be cheaper.

    \b
    Examples:
      ei explore --model model.pb --shape uint8:1,1080,1920,3 --host http://10.0.0.5:8500 \\
          --clients cores=1,2 --target-latency 250ms -o report/
      ei explore --measurements latencies.csv --prices prices.csv --target-latency 223ms
      ei explore --article --target-latency 223ms -o report/
    """
    if context.invoked_subcommand is not None:
        return
    with extra("explore"):
        from elastic_inference.explorer.prices import load_prices
        from elastic_inference.explorer.search_result import SearchOptions
    prices = load_prices(prices_file)
    options = SearchOptions(
        target_latency_seconds=None if target_latency is None else parse_seconds(target_latency),
        slack_share=slack,
        budget=budget,
        repeats=repeats,
        exhaustive=exhaustive,
    )
    if method not in ("search", "walk-back"):
        raise InvalidInput(f"method {method!r} is not one of search, walk-back")
    if sum((model is not None, measurements is not None, article)) != 1:
        raise InvalidInput("give one of --model MODEL, --measurements CSV and --article")
    rate = parse_rate(demand)
    if model is None:
        _analyse(measurements, prices, options, method, rate, output)
        return
    if (input_file is None) == (shape is None):
        raise InvalidInput("give either --input FILE or --shape SHAPE")
    host = settings.HOST.of(host)
    wanted = {
        "precisions": _names(precision),
        "accelerators": _names(accelerators) if host is not None else [],
        "with_no_accelerator": no_ei_too,
    }
    plan = _plan(model, str(input_file or shape), clients, wanted, prices, options, engine, host, token)
    plan = _with(plan, percentile, rate, curves, parse_seconds(seconds), method == "walk-back")
    _measure(plan, output or DEFAULT_OUTPUT, listen)


def command_line(arguments: Sequence[str]) -> str:
    """The command for a report, which others may read: without the token."""
    shown = ["ei"]
    for before, argument in zip(("", *arguments), arguments, strict=False):
        if argument.startswith("--token="):
            shown.append("--token=...")
        else:
            shown.append("..." if before == "--token" else argument)
    return shlex.join(shown)


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


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _plan(
    model: str,
    given_input: str,
    clients: str,
    wanted: dict[str, Any],
    prices: PriceTable,
    options: SearchOptions,
    engine: str,
    host: str | None,
    token: str | None,
) -> Plan:
    from elastic_inference.cli.models import fetch_model

    with extra("explore"):
        from elastic_inference.explorer.grid import host_types, make_grid, parse_clients
        from elastic_inference.explorer.run import Plan
    offered, access = [], None
    if host is not None:
        from elastic_inference.cli._hosts import open_session

        session = open_session(host, token, None)
        access = HostAccess(host, session.token)
        offered = host_types(session)
    grid = make_grid(parse_clients(clients), prices=prices, offered=offered, **wanted)
    path = str(fetch_model(model).path)
    return Plan(path, given_input, grid, options, LoadOptions(engine), access)


def _with(
    plan: Plan,
    percentile: float,
    rate: float | None,
    has_curves: bool,
    max_seconds: float,
    is_walk_back: bool,
) -> Plan:
    from dataclasses import replace

    if not 0 < percentile < 100:
        raise InvalidInput(f"percentile {percentile} must be above 0 and below 100")
    return replace(
        plan,
        percentile=percentile / 100,
        demand_per_second=rate,
        has_curves=has_curves,
        is_walk_back=is_walk_back,
        max_seconds=max_seconds,
        command=command_line(sys.argv[1:]),
    )


def _measure(plan: Plan, output: Path, listen: str) -> None:
    with extra("explore"):
        from elastic_inference.explorer.measuring.coordinator import Coordinator
        from elastic_inference.explorer.measuring.in_process import run_in_process
        from elastic_inference.explorer.reporting.html import write_report
        from elastic_inference.explorer.run import explore as run
        from elastic_inference.explorer.run import journal_result
    elsewhere = {each.name for each in plan.grid.clients if each.cores is None}
    try:
        if not elsewhere:
            exploration = run(plan, output, run_in_process, _print_event)
        else:
            with Coordinator(listen, plan.model, elsewhere) as coordinator:
                print(
                    f"waiting for {', '.join(sorted(elsewhere))}: EI_EXPLORE_TOKEN={coordinator.token} "
                    f"ei explore client --join {coordinator.url} --name NAME",
                    file=sys.stderr,
                )
                exploration = run(plan, output, coordinator.run_task, _print_event)
    except KeyboardInterrupt:
        write_report(journal_result(plan, output), output)
        print(f"interrupted; what is measured is kept in {output}, the same command goes on", file=sys.stderr)
        raise
    _show(exploration, output)


def _print_event(event: Event) -> None:
    if not event.is_done:
        left = "" if event.seconds_left is None else f", at most {format_seconds(event.seconds_left)} left"
        print(
            f"{event.num_measured} of {event.num_cells}: measuring {event.cell.name}{left}",
            file=sys.stderr,
            flush=True,
        )
    elif event.outcome is not None:
        seen = event.outcome.observation
        text = seen.problem or f"{(seen.latency_seconds or 0) * 1000:.4g} ms"
        print(f"    {text}", file=sys.stderr, flush=True)


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
        command=command_line(sys.argv[1:]),
    )
    _show(exploration, output, article_claims(prices) if measurements is None else ())


def _show(exploration: Exploration, output: Path | None, claims: Sequence[Claim] = ()) -> None:
    from elastic_inference.explorer.reporting.result import remarks, verdict
    from elastic_inference.explorer.reporting.text import claim_table, combination_table

    print(combination_table(exploration))
    if claims:
        print(f"\n{claim_table(claims)}")
    print(f"\n{verdict(exploration)}\n{exploration.result.proof}.")
    if remarks(exploration):
        print(
            f"{len(remarks(exploration))} remarks on single measurements are in the report", file=sys.stderr
        )
    for warning in exploration.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    if output is not None:
        with extra("explore"):
            from elastic_inference.explorer.reporting.html import write_report
        for path in write_report(exploration, output, claims):
            print(path)


def client(
    join: Annotated[str, typer.Option("--join", metavar="URL", help="Where the exploration listens.")],
    name: Annotated[
        str, typer.Option("--name", help="As the exploration's --clients and prices name this machine.")
    ],
    token: Annotated[
        str | None,
        typer.Option("--token", help="As the exploration printed it; default EI_EXPLORE_TOKEN."),
    ] = None,
) -> None:
    """Join an exploration and measure from this machine until it ends."""
    with extra("explore"):
        from elastic_inference.explorer.measuring.remote_client import RemoteClient
    token = settings.EXPLORE_TOKEN.of(token)
    if token is None:
        raise InvalidInput("give --token, or set EI_EXPLORE_TOKEN, to what the exploration printed")
    count = RemoteClient(join, name, token).run()
    print(f"done: {count} measurements")
