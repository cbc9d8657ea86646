"""`ei explore`: which client and which accelerator are cheapest for a model, measured or from given measurements."""

from __future__ import annotations

import errno
import functools
import shlex
import sys
from dataclasses import asdict
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from elastic_inference import settings
from elastic_inference.cli import completion
from elastic_inference.cli._support import extra, parse_latency
from elastic_inference.cli.exit_codes import ExitCode
from elastic_inference.cli.host_access import HostAccess
from elastic_inference.cli.models import fetch_model
from elastic_inference.cli.registration import add_group
from elastic_inference.cli.rendering import Output, Sentence
from elastic_inference.client.load_options import LoadOptions
from elastic_inference.engines import registry
from elastic_inference.errors import InvalidInput
from elastic_inference.models.input_shape import FORM, InputShape
from elastic_inference.units import format_seconds, parse_seconds

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from elastic_inference.cli._explore_text import Explored
    from elastic_inference.explorer.article import Claim
    from elastic_inference.explorer.measuring.coordinator import Coordinator
    from elastic_inference.explorer.prices import PriceTable
    from elastic_inference.explorer.reporting.result import Exploration
    from elastic_inference.explorer.run import Event, Plan
    from elastic_inference.explorer.search_result import SearchOptions
    from elastic_inference.explorer.walk_back import WalkBackResult

DEFAULT_OUTPUT = Path("report")
DEFAULT_PERCENTILE = 95.0


def register(app: typer.Typer) -> None:
    """Add `ei explore` and `ei explore client`."""
    add_group(app, "explore", explore, client=client)


def explore(
    access: HostAccess,
    said: Output,
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            metavar="MODEL",
            help="Path or known name of the model to measure.",
            autocompletion=completion.models,
        ),
    ] = None,
    input_file: Annotated[
        str | None,
        typer.Option("--input", metavar="FILE", help="Input of each call: .npy, .npz or an image."),
    ] = None,
    shape: Annotated[
        list[str] | None,
        typer.Option(
            "--shape",
            metavar=FORM,
            help="Made-up input instead, such as 1,1080,1920,3 or uint8:1,1080,1920,3; once for each input.",
        ),
    ] = None,
    clients: Annotated[
        str,
        typer.Option(
            "--clients", help="cores=1,2: this machine limited to that many cores; or names that join."
        ),
    ] = "cores=1",
    accelerators: Annotated[
        str, typer.Option("--accelerators", help="Types of the host, separated by commas, or all.")
    ] = "all",
    no_ei_too: Annotated[
        bool, typer.Option("--no-ei-too/--only-ei", help="Measure each client without accelerator as well.")
    ] = True,
    precision: Annotated[
        str, typer.Option("--precision", help="fp32, bf16 or int8; several separated by commas.")
    ] = "fp32",
    engine: Annotated[str, typer.Option("--engine", help=f"auto, {registry.names()}.")] = "auto",
    target_latency: Annotated[
        str | None,
        typer.Option("--target-latency", metavar="TIME", help="Such as 250ms; by default any latency."),
    ] = None,
    percentile: Annotated[
        float | None,
        typer.Option(
            "--percentile", help="Of the latencies, which must be within the target; by default the 95th."
        ),
    ] = None,
    demand: Annotated[
        str | None, typer.Option("--rate", metavar="RATE", help="Demand, such as 20/s, for cost (c).")
    ] = None,
    budget: Annotated[
        int | None, typer.Option("--budget", help="Measure at most this many combinations.")
    ] = None,
    exhaustive: Annotated[bool, typer.Option("--exhaustive", help="Measure every combination.")] = False,
    repeats: Annotated[
        int, typer.Option("--repeats", help="Runs of each combination that could be the cheapest.")
    ] = 3,
    slack: Annotated[
        float, typer.Option("--slack", help="How much slower a more capable combination may be; 0.08 is 8%.")
    ] = 0.08,
    seconds: Annotated[
        str, typer.Option("--cell-time", metavar="TIME", help="Time limit of each part of a measurement.")
    ] = "60s",
    curves: Annotated[
        bool, typer.Option("--curves/--no-curves", help="Measure finalists' throughput.")
    ] = True,
    listen: Annotated[
        str, typer.Option("--listen", metavar="ADDRESS", help="Where clients on other machines join.")
    ] = "127.0.0.1:8490",
    measurements: Annotated[
        Path | None, typer.Option("--measurements", metavar="CSV", help="Analyse these instead of measuring.")
    ] = None,
    article: Annotated[
        bool, typer.Option("--article", help="Analyse the article's own measurements.")
    ] = False,
    prices_file: Annotated[
        Path | None,
        typer.Option(
            "--prices", metavar="CSV", help="Your own prices; they go before the host's and the shipped ones."
        ),
    ] = None,
    method: Annotated[str, typer.Option("--method", help="search, or walk-back for comparison.")] = "search",
    output: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--output",
            metavar="DIR",
            help="For report.html and its data; continues an earlier run in it.",
        ),
    ] = None,
) -> Explored | Sentence:
    """Name the cheapest combination that meets the target.

    Measures combinations of clients and accelerators, or analyses given measurements, and says why no other can be
    cheaper. Exit code 7 if no combination meets the target, or none could be measured and priced.

    \b
    Examples:
      ei explore --article --target-latency 223ms -o report/
      ei explore --measurements latencies.csv --prices prices.csv --target-latency 223ms --json
      ei explore --model model.pb --shape uint8:1,1080,1920,3 --host https://10.0.0.5:8500 --tls-ca ca.pem \\
          --clients cores=1,2 --target-latency 250ms -o report/
    """
    with extra("explore"):
        from elastic_inference.explorer.prices import load_prices
        from elastic_inference.explorer.search_result import SearchOptions
    prices = load_prices(prices_file)
    options = SearchOptions(
        target_latency_seconds=None if target_latency is None else parse_latency(target_latency),
        slack_share=slack,
        budget=budget,
        repeats=repeats,
        exhaustive=exhaustive,
    )
    if method not in ("search", "walk-back"):
        raise InvalidInput(f"--method {method!r} is not one of search, walk-back")
    if sum((model is not None, measurements is not None, article)) != 1:
        raise InvalidInput("give exactly one of --model MODEL, --measurements CSV and --article")
    rate = parse_rate(demand)
    if model is None:
        _refuse_unused({"--percentile": percentile, "--input": input_file, "--shape": shape or None})
        return _analyse(measurements, prices, options, method, rate, output, said)
    if (input_file is None) == (not shape):
        raise InvalidInput("give exactly one of --input FILE and --shape SHAPE")
    given = _checked_input(input_file, shape or ())
    wanted = {
        "precisions": _names(precision),
        "accelerators": _names(accelerators) if access.is_named else [],
        "with_no_accelerator": no_ei_too,
    }
    path = str(fetch_model(model, said).path)
    plan = _plan(path, given, clients, wanted, prices, options, engine, access)
    at = DEFAULT_PERCENTILE if percentile is None else percentile
    plan = _with(plan, at, rate, curves, parse_seconds(seconds), method == "walk-back")
    return _measure(plan, output or DEFAULT_OUTPUT, listen, said)


def command_line(arguments: Sequence[str]) -> str:
    """Return the command for a report, which others may read: without the token."""
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
        raise InvalidInput(f"--rate {text!r} is not a number with a unit, such as 20/s") from error
    if seconds is None or not 0 < value < float("inf"):
        raise InvalidInput(f"--rate {text!r} must be above 0 and end in /s, /min or /h")
    return value / seconds


def _refuse_unused(options: Mapping[str, object]) -> None:
    for name, value in options.items():
        if value is not None:
            raise InvalidInput(
                f"{name} is for measuring a --model; given measurements say themselves what their latencies are"
            )


def _checked_input(input_file: str | None, shapes: Sequence[str]) -> str:
    """Return what each call is given; refuse at once what the first measurement would refuse, minutes later."""
    if input_file is None:
        return " ".join(str(InputShape.parse(text)) for text in shapes)
    if not Path(input_file).is_file():
        raise FileNotFoundError(errno.ENOENT, "No such file", input_file)
    return input_file


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _plan(
    path: str,
    given_input: str,
    clients: str,
    wanted: dict[str, Any],
    prices: PriceTable,
    options: SearchOptions,
    engine: str,
    access: HostAccess,
) -> Plan:
    with extra("explore"):
        from elastic_inference.explorer.grid import host_types, make_grid, parse_clients
        from elastic_inference.explorer.run import Plan
    session = access.open() if access.is_named else None
    offered = [] if session is None else host_types(session)
    grid = make_grid(parse_clients(clients), prices=prices, offered=offered, **wanted)
    asked = None if session is None else access.value(session.url, session.token)
    return Plan(path, given_input, grid, options, LoadOptions(engine), asked)


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
        raise InvalidInput(f"--percentile {percentile} must be above 0 and below 100")
    return replace(
        plan,
        percentile=percentile / 100,
        demand_per_second=rate,
        has_curves=has_curves,
        is_walk_back=is_walk_back,
        max_seconds=max_seconds,
        command=command_line(sys.argv[1:]),
    )


def _measure(plan: Plan, output: Path, listen: str, said: Output) -> Explored:
    with extra("explore"):
        from elastic_inference.explorer.measuring.coordinator import Coordinator
        from elastic_inference.explorer.measuring.in_process import run_in_process
        from elastic_inference.explorer.reporting.html import write_report
        from elastic_inference.explorer.run import explore as run
        from elastic_inference.explorer.run import journal_result
    elsewhere = {each.name for each in plan.grid.clients if each.cores is None}
    on_event = functools.partial(_say_event, said)
    try:
        if not elsewhere:
            exploration = run(plan, output, run_in_process, on_event)
        else:
            with Coordinator(listen, plan.model, elsewhere) as coordinator:
                _ask_to_join(elsewhere, coordinator, said)
                exploration = run(plan, output, coordinator.run_task, on_event)
    except KeyboardInterrupt as error:
        write_report(journal_result(plan, output), output)
        raise KeyboardInterrupt(
            f"interrupted; the measurements so far are in {output}, and the same command continues from them"
        ) from error
    return _explored(exploration, output, (), said)


def _ask_to_join(elsewhere: set[str], coordinator: Coordinator, said: Output) -> None:
    names = sorted(elsewhere)
    said.ask(
        f"waiting for {', '.join(names)}; run there: EI_EXPLORE_TOKEN={coordinator.token} "
        f"ei explore client --join {coordinator.url} --name NAME",
        {"waiting_for": names, "join": coordinator.url, "token": coordinator.token},
    )


def _say_event(said: Output, event: Event) -> None:
    if not event.is_done:
        left = "" if event.seconds_left is None else f", at most {format_seconds(event.seconds_left)} left"
        said.say(f"{event.num_measured} of {event.num_cells}: measuring {event.cell.name}{left}")
    elif event.outcome is not None:
        seen = event.outcome.observation
        said.say(f"    {seen.problem or f'{(seen.latency_seconds or 0) * 1000:.4g} ms'}")


def _analyse(
    measurements: Path | None,
    prices: PriceTable,
    options: SearchOptions,
    method: str,
    demand_per_second: float | None,
    output: Path | None,
    said: Output,
) -> Explored | Sentence:
    with extra("explore"):
        from elastic_inference.explorer import analysis
        from elastic_inference.explorer.article import article_claims, article_path
    measured = analysis.read_measurements(article_path() if measurements is None else measurements)
    if method == "walk-back":
        return _walk_back(analysis.walk_back_of(measured, prices, options.target_latency_seconds))
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
    return _explored(exploration, output, article_claims(prices) if measurements is None else (), said)


def _walk_back(way: WalkBackResult) -> Sentence:
    code = ExitCode.OK if way.winner is not None else ExitCode.TARGET_NOT_MET
    return Sentence(way.sentence(), {"sentence": way.sentence(), **asdict(way)}, code)


def _explored(
    exploration: Exploration, output: Path | None, claims: Sequence[Claim], said: Output
) -> Explored:
    from elastic_inference.cli._explore_text import Explored, say_warnings

    say_warnings(exploration, said.say)
    if output is None:
        return Explored(exploration, claims)
    with extra("explore"):
        from elastic_inference.explorer.reporting.html import write_report
    return Explored(exploration, claims, write_report(exploration, output, claims))


def client(
    join: Annotated[str, typer.Option("--join", metavar="URL", help="Where the exploration listens.")],
    name: Annotated[
        str, typer.Option("--name", help="As the exploration's --clients and prices name this machine.")
    ],
    token: Annotated[
        str | None,
        typer.Option("--token", help="As the exploration printed it; default EI_EXPLORE_TOKEN."),
    ] = None,
) -> Sentence:
    """Join an exploration and measure from this machine until it ends.

    \b
    Examples:
      EI_EXPLORE_TOKEN=... ei explore client --join http://10.0.0.5:8490 --name m5.large
    """
    with extra("explore"):
        from elastic_inference.explorer.measuring.remote_client import RemoteClient
    token = settings.EXPLORE_TOKEN.of(token)
    if token is None:
        raise InvalidInput("give --token, or set EI_EXPLORE_TOKEN, to what the exploration printed")
    count = RemoteClient(join, name, token).run()
    return Sentence(f"done: {count} measurements", {"num_measurements": count})
