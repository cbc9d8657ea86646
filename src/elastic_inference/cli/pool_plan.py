"""`ei pool plan`: how many hosts of which kind a demand needs, what they cost, and what deaths of hosts do to it."""

from __future__ import annotations

import difflib
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from elastic_inference.cli._support import Progress, extra, parse_latency
from elastic_inference.cli.rendering import Output
from elastic_inference.errors import InvalidInput
from elastic_inference.units import parse_seconds

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from elastic_inference.cli._plan_text import Planned
    from elastic_inference.explorer.prices import PriceTable
    from elastic_inference.pool.planning.kinds import HostKind
    from elastic_inference.pool.planning.plan import PlanOptions
    from elastic_inference.pool.simulation.attachment import Attachment
    from elastic_inference.pool.simulation.profile import Profile
    from elastic_inference.pool.simulation.service_time import ServiceTime

DEFAULT_HOSTS = "m5.xlarge"
MAX_FAILURES = 100


def plan(
    said: Output,
    trace: Annotated[
        Path,
        typer.Argument(
            metavar="TRACE",
            help="Demand: a CSV with a line for each attachment, or a TOML that describes it.",
        ),
    ],
    profile: Annotated[
        Path | None,
        typer.Option("--profile", metavar="JSON", help="Service times: measurements.json of ei explore."),
    ] = None,
    client: Annotated[
        str | None,
        typer.Option("--client", help="Whose measurements of the profile count; by default the quickest's."),
    ] = None,
    precision: Annotated[
        str | None,
        typer.Option("--precision", help="Of the profile: fp32, bf16 or int8; by default the quickest."),
    ] = None,
    service: Annotated[
        list[str] | None,
        typer.Option(
            "--service",
            metavar="TYPE=TIME",
            help="Service time of a type, such as cpu.quarter=40ms, or 40ms,0.3 where its standard deviation is "
            "0.3 of it, or KIND:cpu.quarter=40ms for hosts of one kind; replaces the profile's. May be repeated.",
        ),
    ] = None,
    hosts: Annotated[
        str,
        typer.Option(
            "--hosts", metavar="KINDS", help="Kinds of hosts: a TOML file, or names of prices with commas."
        ),
    ] = DEFAULT_HOSTS,
    prices_file: Annotated[
        Path | None,
        typer.Option(
            "--prices", metavar="CSV", help="Your own prices; they replace the shipped ones by name."
        ),
    ] = None,
    types_file: Annotated[
        Path | None, typer.Option("--types", metavar="TOML", help="Your own accelerator types.")
    ] = None,
    target_latency: Annotated[
        str | None,
        typer.Option("--target-latency", metavar="TIME", help="Such as 250ms; by default any latency."),
    ] = None,
    percentile: Annotated[
        float,
        typer.Option("--percentile", help="Of each attachment's calls, which must be within the target."),
    ] = 99.0,
    failures: Annotated[
        int, typer.Option("--failures", help="Hosts that may die at the peak and be made up for at once.")
    ] = 2,
    down: Annotated[
        str, typer.Option("--down", metavar="TIME", help="Until a host that died is back.")
    ] = "10min",
    spread: Annotated[
        bool, typer.Option("--spread/--pack", help="Place on the emptiest host instead of filling hosts up.")
    ] = False,
    seed: Annotated[int, typer.Option("--seed", help="Of what is drawn: demand of a TOML, and calls.")] = 0,
    max_calls: Annotated[
        int, typer.Option("--max-calls", help="Beyond these, parts of the calls stand for all of them.")
    ] = 100_000_000,
    write_trace: Annotated[
        Path | None,
        typer.Option("--write-trace", metavar="CSV", help="Write the demand, types chosen, as a trace."),
    ] = None,
    report: Annotated[
        Path | None,
        typer.Option("--report", metavar="HTML", help="Write the plan as a page that loads nothing."),
    ] = None,
) -> Planned:
    """Plan a pool: the cheapest hosts that hold a demand at a target of latency, some of them dying.

    Runs the demand through a simulated pool with the pool's own placement and failover. Attachments of type `auto` get
    the cheapest type that meets the target. Exit code 7 if no hosts hold the demand, or attachments miss the target.

    \b
    Examples:
      ei pool plan trace.csv --service cpu.quarter=40ms --service cpu.half=22ms --target-latency 250ms
      ei pool plan trace.csv --profile report/measurements.json --hosts kinds.toml --percentile 95 --failures 1
      ei pool plan demand.toml --hosts m5.xlarge,m5.4xlarge --service m5.xlarge:cpu.whole=40ms \\
          --service m5.4xlarge:cpu.quarter=40ms --json
    """
    with extra("host"):
        from elastic_inference.cli._plan_page import write_page
        from elastic_inference.cli._plan_text import Planned
        from elastic_inference.explorer.prices import load_prices
        from elastic_inference.host.accounts.catalogue import load_types
        from elastic_inference.pool.planning.kinds import kinds_of
        from elastic_inference.pool.planning.plan import make_plan
        from elastic_inference.pool.simulation.trace import write_trace as trace_text
    options = _options(target_latency, percentile, failures, down, spread, seed, max_calls)
    prices = load_prices(prices_file)
    kinds = kinds_of(hosts, prices, () if types_file is None else load_types(types_file))
    times, kinds = _profile(profile, client, precision, service or (), kinds)
    demand = _demand(trace, seed)
    with Progress("planning", "steps", said.as_json) as bar:
        made = make_plan(demand, kinds, times, options, lambda _, done, total: bar.update(done, total))
    if write_trace is not None:
        try:
            write_trace.write_text(trace_text(made.demand), "utf-8")
        except OSError as error:
            raise InvalidInput(f"--write-trace {write_trace}: {error.strerror or error}") from error
    planned = Planned(made, options, times.source, _warnings(kinds, prices, hosts))
    if report is not None:
        write_page(planned, report)
    return planned


def _options(
    target_latency: str | None,
    percentile: float,
    failures: int,
    down: str,
    spread: bool,
    seed: int,
    max_calls: int,
) -> PlanOptions:
    with extra("host"):
        from elastic_inference.pool.placement import Policy
        from elastic_inference.pool.planning.auto import Target
        from elastic_inference.pool.planning.plan import PlanOptions
        from elastic_inference.pool.simulation.control import ControlRules
    if not 0 < percentile < 100:
        raise InvalidInput(f"--percentile {percentile} must be above 0 and below 100")
    if not 0 <= failures <= MAX_FAILURES:
        raise InvalidInput(f"--failures {failures} is not between 0 and {MAX_FAILURES}")
    if max_calls < 1:
        raise InvalidInput(f"--max-calls {max_calls} must be 1 or more")
    if seed < 0:
        raise InvalidInput(f"--seed {seed} must be 0 or more")
    seconds = float("inf") if target_latency is None else parse_latency(target_latency)
    rules = ControlRules(Policy.SPREAD if spread else Policy.PACK)
    return PlanOptions(
        Target(seconds, percentile / 100), failures, parse_seconds(down), rules, max_calls, seed
    )


def _profile(
    path: Path | None,
    client: str | None,
    precision: str | None,
    given: Sequence[str],
    kinds: Sequence[HostKind],
) -> tuple[Profile, list[HostKind]]:
    """Return the service times of all kinds, and the kinds with those of their own."""
    from elastic_inference.pool.simulation.profile import EMPTY, parse_service, read_profile

    if path is None and (client is not None or precision is not None):
        raise InvalidInput("--client and --precision choose measurements of a --profile, which is not given")
    if path is None and not given and all(kind.profile is None for kind in kinds):
        raise InvalidInput(
            "no service times: give --profile measurements.json of ei explore, or --service TYPE=TIME, such as "
            "--service cpu.quarter=40ms"
        )
    read = EMPTY if path is None else read_profile(path, client, precision)
    times = [parse_service(text) for text in given]
    named = {kind for kind, _, _ in times if kind is not None} - {kind.name for kind in kinds}
    if named:
        known = ", ".join(kind.name for kind in kinds)
        raise InvalidInput(
            f"--service names {min(named)!r}, which is not one of the kinds of --hosts: {known}"
        )
    for kind_name, name, _ in times:
        _check_type(name, [kind for kind in kinds if kind_name in (None, kind.name)])
    common = read.with_times({name: time for kind, name, time in times if kind is None})
    return common, [
        _with_own(kind, common, {name: time for of, name, time in times if of == kind.name}) for kind in kinds
    ]


def _check_type(name: str, kinds: Sequence[HostKind]) -> None:
    """Refuse the time of a type that no kind offers: one that is misspelt would count for nothing."""
    known = sorted({offered for kind in kinds for offered in kind.catalogue})
    if name not in known:
        near = difflib.get_close_matches(name, known, 1)
        raise InvalidInput(
            f"--service names the type {name!r:.80}, which is not one of {', '.join(known)}"
            + (f"; did you mean {near[0]}?" if near else "")
        )


def _with_own(kind: HostKind, common: Profile, own: Mapping[str, ServiceTime]) -> HostKind:
    return replace(kind, profile=(kind.profile or common).with_times(own)) if own else kind


def _demand(path: Path, seed: int) -> Sequence[Attachment]:
    from elastic_inference.pool.simulation.demand_file import read_demand_model
    from elastic_inference.pool.simulation.demand_model import draw_demand
    from elastic_inference.pool.simulation.trace import read_trace

    if path.suffix == ".toml":
        return draw_demand(read_demand_model(path), seed)
    return read_trace(path)


def _warnings(kinds: Sequence[HostKind], prices: PriceTable, hosts: str) -> list[str]:
    old = {row.name: row for row in prices.old_rows(date.today())}
    shown = [old[name] for name in (hosts.split(",") if not hosts.endswith(".toml") else ()) if name in old]
    found = [
        f"the price of {row.name} is of {row.as_of} ({row.region}, {row.source}); give --prices"
        for row in shown
    ]
    found += _shared_times(kinds)
    return found + [f"no price of {kind.name} is known" for kind in kinds if kind.usd_per_hour is None]


def _shared_times(kinds: Sequence[HostKind]) -> list[str]:
    """Warn where one measurement stands for parts of unlike devices."""
    common = [kind for kind in kinds if kind.profile is None]
    capacities = {
        tuple((d.kind, d.num_cores, d.fp32_tflops) for d in kind.capacity.devices) for kind in common
    }
    if len(capacities) < 2:
        return []
    names = ", ".join(kind.name for kind in common)
    return [
        f"types that are a part of a device have the same service time on {names}, which are unlike: give each its "
        "own, by profile in the hosts file or --service KIND:TYPE=TIME"
    ]
