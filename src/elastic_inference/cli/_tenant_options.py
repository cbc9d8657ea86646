"""Options of a tenant's quota and budget, and what the control API takes of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from elastic_inference.errors import InvalidInput
from elastic_inference.units import parse_bytes, parse_seconds, parse_usd

_NONE = "none"

AcceleratorsOption = Annotated[
    str | None, typer.Option("--accelerators", metavar="NUMBER", help="How many at the same time, or 'none'.")
]
ShareOption = Annotated[
    str | None,
    typer.Option("--share", metavar="SHARE", help="Of devices, all together, such as 50% or 1.5, or 'none'."),
]
MemoryOption = Annotated[
    str | None, typer.Option("--memory", metavar="SIZE", help="All together, such as 8GiB, or 'none'.")
]
TypesOption = Annotated[
    list[str] | None,
    typer.Option("--type", metavar="TYPE", help="A type, or a pattern such as 'cpu.*'; may be repeated."),
]
RateOption = Annotated[
    str | None,
    typer.Option("--requests", metavar="NUMBER", help="A second, of each accelerator, or 'none'."),
]
PriorityOption = Annotated[
    int | None, typer.Option("--max-priority", min=0, max=9, help="With which it may wait for capacity.")
]
BudgetOption = Annotated[
    str | None, typer.Option("--budget", metavar="USD", help="For a month (UTC), or 'none'.")
]
WarnOption = Annotated[
    str | None, typer.Option("--warn-at", metavar="SHARE", help="Of the budget; 80% unless given.")
]
AtBudgetOption = Annotated[
    str | None,
    typer.Option(
        "--at-budget",
        metavar="WHAT",
        help="What becomes of what runs when the budget is spent: 'warn' (unless given), or 'detach'.",
    ),
]
GraceOption = Annotated[
    str | None,
    typer.Option("--grace", metavar="TIME", help="How long it continues before that; 10min unless given."),
]


def quota_body(
    before: Mapping[str, Any],
    accelerators: str | None,
    share: str | None,
    memory: str | None,
    types: list[str] | None,
    requests: str | None,
    max_priority: int | None,
) -> dict[str, Any]:
    """Return a quota of the control API: `before` with what the options say; 'none' takes a limit away."""
    quota = dict(before)
    for name, text, read in (
        ("max_accelerators", accelerators, lambda t: _whole("--accelerators", t)),
        ("max_share", share, lambda t: _share("--share", t)),
        ("max_memory_bytes", memory, parse_bytes),
        ("requests_per_second", requests, lambda t: _number("--requests", t)),
    ):
        if text is not None:
            quota[name] = None if text == _NONE else read(text)
    if types:
        quota["types"] = [] if types == [_NONE] else types
    if max_priority is not None:
        quota["max_priority"] = max_priority
    return quota


def budget_body(
    before: Mapping[str, Any] | None,
    usd: str | None,
    warn_at: str | None,
    at_budget: str | None,
    grace: str | None,
) -> dict[str, Any] | None:
    """Return a budget of the control API: `before` with what the options say; None: there is none."""
    given = {"--warn-at": warn_at, "--at-budget": at_budget, "--grace": grace}
    if usd == _NONE or (usd is None and before is None):
        named = [name for name, text in given.items() if text is not None]
        if named:
            raise InvalidInput(f"{named[0]} is of a budget, and there is none: give --budget USD too")
        return None
    budget = dict(before or {})
    if usd is not None:
        budget["usd_per_month"] = f"{parse_usd(usd, '--budget'):f}"
    if warn_at is not None:
        budget["warn_share"] = _share("--warn-at", warn_at)
    if at_budget is not None:
        budget["at_limit"] = at_budget
    if grace is not None:
        budget["grace_seconds"] = parse_seconds(grace)
    return budget


def _whole(option: str, text: str) -> int:
    number = _number(option, text)
    if not number.is_integer():
        raise InvalidInput(f"{option} {text!r} is not a whole number")
    return int(number)


def _share(option: str, text: str) -> float:
    """Read `50%` or `0.5`."""
    return _number(option, text[:-1]) / 100 if text.endswith("%") else _number(option, text)


def _number(option: str, text: str) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise InvalidInput(f"{option} {text!r} is not a number") from error
