"""`ei pool`: many hosts as one."""

from __future__ import annotations

import typer

from elastic_inference.cli.pool_plan import plan
from elastic_inference.cli.registration import add_command


def register(app: typer.Typer) -> None:
    """Add `ei pool plan`."""
    group = typer.Typer(
        name="pool",
        help="Many hosts as one: plan a pool.",
        no_args_is_help=True,
        rich_markup_mode=None,
        add_completion=False,
    )
    add_command(group, "plan", plan)
    app.add_typer(group)
