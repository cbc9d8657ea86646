"""Options that `ei serve` and `ei host start` share, each said once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from elastic_inference.errors import InvalidInput

LOG_LEVELS = ("debug", "info", "warning", "error")

TlsCertOption = Annotated[
    Path | None, typer.Option("--tls-cert", metavar="FILE", help="Your own certificate (PEM).")
]
TlsKeyOption = Annotated[Path | None, typer.Option("--tls-key", metavar="FILE", help="Its key.")]
UnsafeOption = Annotated[
    bool,
    typer.Option("--allow-unsafe-operations", help="Allow graphs that use files, processes or the network."),
]
RecordOption = Annotated[
    int,
    typer.Option(
        "--record-requests",
        metavar="NUM",
        min=0,
        max=1024,
        help="Let a CPU's accelerators keep the inputs of this many requests of each model while it is loaded, to "
        "choose int8 or auto by them; 0 keeps none.",
    ),
]
LogLevelOption = Annotated[str, typer.Option("--log-level", help=f"{', '.join(LOG_LEVELS[:-1])} or error.")]


def check_log_level(level: str, where: str = "--log-level") -> None:
    """Raise InvalidInput, which says where it was given, unless it is one of them."""
    if level not in LOG_LEVELS:
        raise InvalidInput(f"{where} {level!r} is not one of {', '.join(LOG_LEVELS)}")
