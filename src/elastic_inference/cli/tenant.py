"""`ei tenant`: tenants of a host, their quotas, budgets and tokens."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar
from urllib.parse import quote

import typer

from elastic_inference.cli._tenant_options import TenantOptions
from elastic_inference.cli.answers import Answer, bytes_text, moment, of_limit, percent_text
from elastic_inference.cli.host_access import HostAccess
from elastic_inference.cli.registration import add_command
from elastic_inference.cli.rendering import Block, Column, Listing, Output, Pairs, Sentence
from elastic_inference.client.host_session import HostSession
from elastic_inference.units import format_seconds, parse_seconds


@dataclass(frozen=True)
class TenantAnswer(Answer):
    """A tenant: what it may have, has and has spent."""

    name: str
    created_at: float
    quota: Mapping[str, Any]
    budget: Mapping[str, Any] | None
    now: Mapping[str, Any]

    COLUMNS: ClassVar[Sequence[Column]] = (
        Column("TENANT", lambda t: t.name),
        Column(
            "ACCELERATORS", lambda t: of_limit(t.now["num_accelerators"], t.quota["max_accelerators"]), ""
        ),
        Column("WAITING", lambda t: t.now["num_waiting"], "d"),
        Column(
            "SHARE %",
            lambda t: of_limit(percent_text(t.now["share"]), percent_text(t.quota["max_share"])),
            "",
        ),
        Column(
            "MEMORY",
            lambda t: of_limit(bytes_text(t.now["memory_bytes"]), bytes_text(t.quota["max_memory_bytes"])),
            "",
        ),
        Column(
            "USD THIS MONTH",
            lambda t: of_limit(t.now["spent_usd"], t.budget and t.budget["usd_per_month"]),
            "",
        ),
        Column("BUDGET", lambda t: t.now["budget"] and t.now["budget"]["level"]),
    )
    EMPTY: ClassVar[str] = "no tenants; `ei tenant add NAME` takes one in"

    def blocks(self) -> Iterable[Block]:
        """Show all that is known, one fact a line."""
        quota, now = self.quota, self.now
        rate = quota["requests_per_second"]
        unpriced = now["unpriced_hours"]
        yield Pairs(
            [
                ("tenant", self.name),
                ("since", f"{moment(self.created_at)} UTC"),
                ("accelerators", of_limit(now["num_accelerators"], quota["max_accelerators"])),
                ("waiting", now["num_waiting"]),
                (
                    "share of devices",
                    f"{of_limit(percent_text(now['share']), percent_text(quota['max_share']))} %",
                ),
                ("memory", of_limit(bytes_text(now["memory_bytes"]), bytes_text(quota["max_memory_bytes"]))),
                ("types", ", ".join(quota["types"]) or "all"),
                (
                    "requests",
                    "no limit" if rate is None else f"{rate:g} a second for all accelerators together",
                ),
                ("priority", f"up to {quota['max_priority']}"),
                ("budget", "none" if self.budget is None else _budget_text(self.budget)),
                ("spent this month", "-" if now["spent_usd"] is None else f"{now['spent_usd']} USD"),
                *([("without a price", f"{unpriced:.3f} hours this month")] if unpriced else []),
                *([("warning", now["warning"])] if now["warning"] else []),
            ]
        )


@dataclass(frozen=True)
class TokenRow(Answer):
    """A token of a tenant, without its text."""

    token_id: str
    label: str
    created_at: float
    expires_at: float | None
    is_in_force: bool

    COLUMNS: ClassVar[Sequence[Column]] = (
        Column("TOKEN ID", lambda t: t.token_id),
        Column("LABEL", lambda t: t.label or None),
        Column("SINCE (UTC)", lambda t: moment(t.created_at)),
        Column("EXPIRES (UTC)", lambda t: "never" if t.expires_at is None else moment(t.expires_at)),
        Column("IN FORCE", lambda t: "yes" if t.is_in_force else "no"),
    )
    EMPTY: ClassVar[str] = "no tokens; `ei tenant token add TENANT` makes one"


@dataclass(frozen=True)
class NewToken(TokenRow):
    """A new token with its text, which the host shows only in this answer."""

    token: str

    def blocks(self) -> Iterable[Block]:
        """Show what a client needs."""
        ends = "" if self.expires_at is None else f", until {moment(self.expires_at)} UTC"
        yield f"token    {self.token}  (shown only now; keep it)"
        yield f"id       {self.token_id}{ends}"


TenantArgument = Annotated[str, typer.Argument(metavar="TENANT", help="Its name.")]


def register(app: typer.Typer) -> None:
    """Add `ei tenant ...`."""
    group = _group("Take in tenants of a host: their quotas, budgets and tokens.")
    for name, command in (
        ("add", add),
        ("change", change),
        ("list", list_tenants),
        ("show", show),
        ("remove", remove),
    ):
        add_command(group, name, command)
    tokens = _group("Make, list and revoke a tenant's tokens.")
    add_command(tokens, "add", add_token)
    add_command(tokens, "list", list_tokens)
    add_command(tokens, "revoke", revoke_token)
    group.add_typer(tokens, name="token")
    app.add_typer(group, name="tenant")


def _group(text: str) -> typer.Typer:
    return typer.Typer(help=text, no_args_is_help=True, rich_markup_mode=None, add_completion=False)


def add(
    tenant: TenantArgument,
    access: HostAccess,
    output: Output,
    options: TenantOptions,
) -> TenantAnswer:
    """Take a tenant in; what is not limited here is as much as there is.

    It has no token yet: `ei tenant token add` makes one. It needs the operator's token.

    \b
    Examples:
      ei tenant add vision --share 50% --accelerators 4 --budget 100
      ei tenant add batch --type 'cpu.*' --budget 20 --at-budget detach --grace 30min
    """
    body = {"name": tenant, "quota": options.quota_body({}), "budget": options.budget_body(None)}
    session = access.open()
    _say_unknown_types(options, session, output)
    return TenantAnswer.read(session.request("POST", "/v1/tenants", body), session)


def change(
    tenant: TenantArgument,
    access: HostAccess,
    output: Output,
    options: TenantOptions,
) -> TenantAnswer:
    """Change a tenant's quota or budget, in force at once; what is not named stays.

    What the tenant has already is not taken away. 'none' takes a limit away.

    \b
    Examples:
      ei tenant change vision --budget 200
      ei tenant change vision --share none --type 'cpu.*' --type eia1.medium
    """
    session = access.open()
    before = TenantAnswer.read(session.request("GET", _path(tenant)), session)
    body = {"quota": options.quota_body(before.quota), "budget": options.budget_body(before.budget)}
    _say_unknown_types(options, session, output)
    return TenantAnswer.read(session.request("PUT", _path(tenant), body), session)


def list_tenants(access: HostAccess) -> Listing:
    """List tenants with what they have, may have and have spent this month.

    The operator's token shows all of them, a tenant's token that one.

    \b
    Examples:
      ei tenant list
      ei tenant list --json
    """
    session = access.open()
    return Listing(TenantAnswer, TenantAnswer.read_all(session.request("GET", "/v1/tenants"), session))


def show(tenant: TenantArgument, access: HostAccess) -> TenantAnswer:
    """Show one tenant: quota, budget, and what it has and has spent.

    \b
    Examples:
      ei tenant show vision
    """
    session = access.open()
    return TenantAnswer.read(session.request("GET", _path(tenant)), session)


def remove(
    tenant: TenantArgument,
    access: HostAccess,
    detach: Annotated[bool, typer.Option("--detach", help="Detach its accelerators first.")] = False,
) -> Sentence:
    """Forget a tenant, its tokens and its store of models; what it used stays in `ei usage`.

    \b
    Examples:
      ei tenant remove vision
      ei tenant remove vision --detach
    """
    session = access.open()
    query = "?detach=true" if detach else ""
    session.request("DELETE", _path(tenant) + query, timeout_seconds=120.0)
    return Sentence(f"removed tenant {tenant}", {"name": tenant, "removed": True})


def add_token(
    tenant: TenantArgument,
    access: HostAccess,
    label: Annotated[str, typer.Option("--label", help="What it is for.")] = "",
    expires: Annotated[
        str | None,
        typer.Option("--expires", metavar="TIME", help="From now, such as 90d; never unless given."),
    ] = None,
) -> NewToken:
    """Make a token for a tenant, and print it: the host keeps its hash alone.

    \b
    Examples:
      ei tenant token add vision --label ci --expires 90d
      export EI_TOKEN=$(ei tenant token add vision --json | jq -r .token)
    """
    session = access.open()
    seconds = None if expires is None else parse_seconds(expires)
    body = {"label": label, "lifetime_seconds": seconds}
    return NewToken.read(session.request("POST", f"{_path(tenant)}/tokens", body), session)


def list_tokens(tenant: TenantArgument, access: HostAccess) -> Listing:
    """List a tenant's tokens, without their texts.

    \b
    Examples:
      ei tenant token list vision
    """
    session = access.open()
    values = session.request("GET", f"{_path(tenant)}/tokens")
    return Listing(TokenRow, TokenRow.read_all(values, session))


def revoke_token(
    tenant: TenantArgument,
    token_id: Annotated[str, typer.Argument(metavar="TOKEN_ID", help="As `ei tenant token list` shows it.")],
    access: HostAccess,
) -> Sentence:
    """Refuse a token of a tenant from now on; accelerators keep their own tokens.

    \b
    Examples:
      ei tenant token revoke vision 3f9a1c22
    """
    session = access.open()
    session.request("DELETE", f"{_path(tenant)}/tokens/{quote(token_id, safe='')}")
    return Sentence(f"revoked token {token_id} of {tenant}", {"token_id": token_id, "revoked": True})


def _say_unknown_types(options: TenantOptions, session: HostSession, output: Output) -> None:
    """Say which of `--type` allow nothing on this host now; a type may come with the host's next start."""
    known = [row["name"] for row in session.request("GET", "/v1/types")] if options.types else []
    for pattern in options.unknown_types(known):
        output.say(f"--type {pattern!r} is no type of this host now; `ei types` lists them")


def _path(tenant: str) -> str:
    return f"/v1/tenants/{quote(tenant, safe='')}"


def _budget_text(budget: Mapping[str, Any]) -> str:
    text = f"{budget['usd_per_month']} USD a month, warning at {budget['warn_share'] * 100:g}%"
    if budget["at_limit"] == "detach":
        return (
            f"{text}; {format_seconds(budget['grace_seconds'])} after it is spent, accelerators are detached"
        )
    return f"{text}; when it is spent, accelerators continue and nothing new is attached"
