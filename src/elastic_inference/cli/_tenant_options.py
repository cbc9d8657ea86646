"""Options of a tenant's quota and budget, and what the control API takes of them."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import typer

from elastic_inference.cli.registration import Options
from elastic_inference.errors import InvalidInput
from elastic_inference.units import parse_bytes, parse_seconds, parse_usd

_NONE = "none"


@dataclass(frozen=True)
class TenantOptions(Options):
    """What a tenant may have and spend; None: as before."""

    accelerators: Annotated[
        str | None,
        typer.Option("--accelerators", metavar="NUMBER", help="How many at the same time, or 'none'."),
    ] = None
    share: Annotated[
        str | None,
        typer.Option(
            "--share", metavar="SHARE", help="Of devices, all together, such as 50% or 1.5, or 'none'."
        ),
    ] = None
    memory: Annotated[
        str | None, typer.Option("--memory", metavar="SIZE", help="All together, such as 8GiB, or 'none'.")
    ] = None
    types: Annotated[
        list[str] | None,
        typer.Option("--type", metavar="TYPE", help="A type, or a pattern such as 'cpu.*'; may be repeated."),
    ] = None
    requests: Annotated[
        str | None,
        typer.Option(
            "--requests", metavar="NUMBER", help="A second, of all accelerators together, or 'none'."
        ),
    ] = None
    max_priority: Annotated[
        int | None, typer.Option("--max-priority", min=0, max=9, help="With which it may wait for capacity.")
    ] = None
    budget: Annotated[
        str | None, typer.Option("--budget", metavar="USD", help="For a month (UTC), or 'none'.")
    ] = None
    warn_at: Annotated[
        str | None, typer.Option("--warn-at", metavar="SHARE", help="Of the budget; 80% unless given.")
    ] = None
    at_budget: Annotated[
        str | None,
        typer.Option(
            "--at-budget",
            metavar="WHAT",
            help="What becomes of what runs when the budget is spent: 'warn' (unless given), or 'detach'.",
        ),
    ] = None
    grace: Annotated[
        str | None,
        typer.Option(
            "--grace", metavar="TIME", help="How long it continues before that; 10min unless given."
        ),
    ] = None

    def quota_body(self, before: Mapping[str, Any]) -> dict[str, Any]:
        """Return a quota of the control API: `before` with what the options say; 'none' takes a limit away."""
        quota = dict(before)
        for name, text, read in (
            ("max_accelerators", self.accelerators, lambda t: _whole("--accelerators", t)),
            ("max_share", self.share, lambda t: _share("--share", t)),
            ("max_memory_bytes", self.memory, parse_bytes),
            ("requests_per_second", self.requests, lambda t: _number("--requests", t)),
        ):
            if text is not None:
                quota[name] = None if text == _NONE else read(text)
        if self.types:
            quota["types"] = [] if self.types == [_NONE] else self.types
        if self.max_priority is not None:
            quota["max_priority"] = self.max_priority
        return quota

    def budget_body(self, before: Mapping[str, Any] | None) -> dict[str, Any] | None:
        """Return a budget of the control API: `before` with what the options say; None: there is none."""
        given = {"--warn-at": self.warn_at, "--at-budget": self.at_budget, "--grace": self.grace}
        if self.budget == _NONE or (self.budget is None and before is None):
            named = [name for name, text in given.items() if text is not None]
            if named:
                raise InvalidInput(f"{named[0]} is of a budget, and there is none: give --budget USD too")
            return None
        budget = dict(before or {})
        if self.budget is not None:
            budget["usd_per_month"] = f"{parse_usd(self.budget, '--budget'):f}"
        if self.warn_at is not None:
            budget["warn_share"] = _share("--warn-at", self.warn_at)
        if self.at_budget is not None:
            budget["at_limit"] = self.at_budget
        if self.grace is not None:
            budget["grace_seconds"] = parse_seconds(self.grace)
        return budget

    def unknown_types(self, known: Iterable[str]) -> list[str]:
        """Return what of `--type` is no type's name and no pattern of one."""
        names = list(known)
        wanted = [] if self.types in (None, [_NONE]) else self.types or []
        return [pattern for pattern in wanted if not fnmatch.filter(names, pattern)]


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
