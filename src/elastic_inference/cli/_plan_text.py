"""A plan as a value that can be printed: options, hosts and price, latencies by type, and what deaths do."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from decimal import Decimal
from typing import Any

from elastic_inference.cli.exit_codes import ExitCode
from elastic_inference.cli.rendering import Block, Column, Pairs, Table
from elastic_inference.pool.planning.outcome import Outcome
from elastic_inference.pool.planning.plan import Option, Plan, PlanOptions
from elastic_inference.units import format_seconds

SCHEMA = "elastic-inference pool plan 1"


@dataclass(frozen=True)
class Planned:
    """What `ei pool plan` found."""

    plan: Plan
    options: PlanOptions
    source: str
    warnings: Sequence[str] = ()

    @property
    def exit_code(self) -> ExitCode:
        """Not met where nothing holds the demand, or attachments miss the target."""
        return ExitCode.OK if self.plan.meets_target else ExitCode.TARGET_NOT_MET

    def blocks(self) -> Iterable[Block]:
        """Show demand, options, verdict, latencies and deaths."""
        plan = self.plan
        yield Pairs(self._demand())
        yield ""
        yield Table(self._option_columns(), plan.options)
        yield ""
        yield verdict(plan, self.options)
        if plan.usual is not None:
            yield ""
            yield Table(self._type_columns(), list(plan.usual.by_type.items()))
            yield from (f"\n{line}" for line in advice_lines(plan))
            if plan.bare is not None and plan.spared is not None:
                yield ""
                yield Table(self._death_columns(), self._lives())
        yield from plan.notes
        yield from (f"warning: {each}" for each in self.warnings)

    def to_json(self) -> dict[str, Any]:
        """Give every figure; money as text, unknown ones null."""
        plan, target = self.plan, self.plan.target
        chosen = plan.chosen
        return {
            "schema": SCHEMA,
            "verdict": verdict(plan, self.options),
            "meets_target": plan.meets_target,
            "target_latency_seconds": None if math.isinf(target.seconds) else target.seconds,
            "percentile": target.percentile,
            "num_failures": self.options.num_failures,
            "service_times": self.source,
            "demand": {
                "num_attachments": len(plan.demand),
                "num_tenants": len({one.request.tenant for one in plan.demand}),
                "hours": plan.hours,
                "num_calls": sum(one.num_calls for one in plan.demand),
            },
            "hosts": None if chosen is None else dict(chosen.counts),
            "spare_hosts": None if chosen is None else dict(chosen.spares),
            "usd_per_hour": None if chosen is None else chosen.usd_per_hour,
            "usd": None if chosen is None else total_usd(chosen, plan.hours),
            "usd_per_100k_calls": usd_per_100k(plan),
            "options": [_option_json(option) for option in plan.options],
            "usual": plan.usual and asdict(plan.usual),
            "deaths_without_spare_hosts": plan.bare and asdict(plan.bare),
            "deaths_with_spare_hosts": plan.spared and asdict(plan.spared),
            "advice": [
                {"type": name, "would_meet_target": better, "num_attachments": count}
                for (name, better), count in plan.advice.items()
            ],
            "notes": list(plan.notes),
            "warnings": list(self.warnings),
        }

    def _demand(self) -> list[tuple[str, Any]]:
        demand = self.plan.demand
        tenants = len({one.request.tenant for one in demand})
        calls = sum(one.num_calls for one in demand)
        most = "" if self.plan.usual is None else f", at most {self.plan.usual.peak_accelerators} at once"
        drawn = ""
        by_chance = 5 * calls**0.5  # each gap between calls is drawn, so their number is not exact either
        if self.plan.usual is not None and calls - self.plan.usual.num_drawn > by_chance:
            drawn = f"; {self.plan.usual.num_drawn:,} were computed and stand for all"
        return [
            (
                "demand",
                f"{len(demand):,} attachments of {tenants:,} tenants in {self.plan.hours:.4g} h{most}",
            ),
            ("calls", f"{calls:,.0f}{drawn}"),
            ("service times", self.source),
        ]

    def _option_columns(self) -> list[Column]:
        columns = [
            Column("HOSTS OF", lambda option: option.name),
            Column("NUMBER", lambda option: _counts(option.counts) if option.counts else None),
            Column(
                "OF THEM SPARE", lambda option: sum(option.spares.values()) if option.counts else None, "d"
            ),
            Column("USD/HOUR", lambda option: option.usd_per_hour, "f"),
        ]
        if math.isfinite(self.plan.target.seconds):
            columns.append(
                Column("TOO SLOW FOR", lambda option: option.num_slow if option.counts else None, "d")
            )
        return [*columns, Column("", self._remark)]

    def _remark(self, option: Option) -> str:
        return "chosen" if option is self.plan.chosen else option.problem

    def _type_columns(self) -> list[Column]:
        columns = [
            Column("TYPE", lambda item: item[0]),
            Column("ATTACHMENTS", lambda item: item[1]["num_attachments"], ",d"),
            Column("CALLS", lambda item: item[1]["num_calls"], ",.0f"),
            Column("p50 ms", lambda item: _ms(item[1]["p50_seconds"]), ".1f"),
            Column(f"{_name(self.plan)} ms", lambda item: _ms(item[1]["target_latency_seconds"]), ".1f"),
        ]
        if math.isfinite(self.plan.target.seconds):
            columns.append(Column("ATTACHMENTS TOO SLOW", lambda item: item[1]["num_over_target"], ",d"))
        return columns

    def _lives(self) -> list[tuple[str, Outcome]]:
        plan, count = self.plan, self.options.num_failures
        assert plan.usual is not None
        assert plan.bare is not None
        assert plan.spared is not None
        die = f"{count} die at the peak"
        return [
            (f"none dies, {plan.usual.num_hosts} hosts", plan.usual),
            (f"{die}, {plan.bare.num_hosts} hosts, none spare", plan.bare),
            (f"{die}, {plan.spared.num_hosts} hosts", plan.spared),
        ]

    def _death_columns(self) -> list[Column]:
        return [
            Column("IF", lambda life: life[0]),
            Column("MOVED", lambda life: life[1].num_moved, "d"),
            Column("OUT s", lambda life: life[1].median_out_seconds, ".1f"),
            Column("LONGEST s", lambda life: life[1].longest_out_seconds, ".1f"),
            Column("NO ROOM AT ONCE", lambda life: life[1].most_waiting, "d"),
            Column("REFUSED", lambda life: life[1].num_refused, "d"),
            Column("UNANSWERED", lambda life: life[1].num_unanswered, ".0f"),
            Column(f"{_name(self.plan)} ms", lambda life: _ms(life[1].target_latency_seconds), ".1f"),
            Column("LONGEST CALL s", lambda life: life[1].largest_seconds, ".2f"),
            Column("HELD", lambda life: f"{life[1].held_share:.0%}"),
        ]


def verdict(plan: Plan, options: PlanOptions) -> str:
    """Return the answer in one to three sentences."""
    if plan.chosen is None or plan.usual is None:
        return "No hosts of these kinds hold this demand: " + "; ".join(
            f"{option.name}: {option.problem}" for option in plan.options
        )
    chosen = plan.chosen
    text = f"{_counts(chosen.counts)} hold this demand"
    spare = sum(chosen.spares.values())
    if options.num_failures:
        text += f", {spare} of them spare so that {options.num_failures} may die at the peak"
    usd = total_usd(chosen, plan.hours)
    if chosen.usd_per_hour is not None and usd is not None:
        text += f": {chosen.usd_per_hour:f} USD an hour, {usd:.2f} USD for its {plan.hours:.4g} h"
        per = usd_per_100k(plan)
        text += "" if per is None else f", {per:.4f} USD for 100,000 calls"
    text += "."
    if math.isinf(plan.target.seconds):
        return text
    within = f"{_name(plan)} within {format_seconds(plan.target.seconds)}"
    slow = plan.usual.num_over_target
    if not slow:
        return f"{text} Every attachment has its {within}."
    return f"{text} {slow} of {plan.usual.num_attachments} attachments do not have their {within}."


def advice_lines(plan: Plan) -> list[str]:
    """Say what would do for attachments that miss the target."""
    lines = []
    for (name, better), count in sorted(plan.advice.items(), key=lambda item: -item[1]):
        what = (
            "no type with a known service time would meet the target; share their calls between accelerators"
            if better is None
            else f"{better} would meet the target"
        )
        lines.append(f"{count} attachments of type {name}: {what}.")
    return lines


def total_usd(option: Option, hours: float) -> Decimal | None:
    """Return what an option's hosts cost for the whole demand."""
    return None if option.usd_per_hour is None else option.usd_per_hour * Decimal(repr(hours))


def usd_per_100k(plan: Plan) -> Decimal | None:
    """Return what 100,000 of the calls cost; None without price or calls."""
    usd = None if plan.chosen is None else total_usd(plan.chosen, plan.hours)
    if usd is None or plan.usual is None or not plan.usual.num_calls:
        return None
    return usd * 100_000 / Decimal(repr(plan.usual.num_calls))


def _option_json(option: Option) -> dict[str, Any]:
    return {
        "name": option.name,
        "hosts": dict(option.counts),
        "spare_hosts": dict(option.spares),
        "usd_per_hour": option.usd_per_hour,
        "num_too_slow": option.num_slow,
        "problem": option.problem or None,
    }


def _counts(counts: Mapping[str, int]) -> str:
    return " and ".join(f"{count} {name}" for name, count in counts.items())


def _name(plan: Plan) -> str:
    return f"p{plan.target.percentile * 100:g}"


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else seconds * 1000
