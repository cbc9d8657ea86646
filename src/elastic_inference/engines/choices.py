"""What was chosen for a model before: where it is kept, when it still holds, and what a load is told of it."""

from __future__ import annotations

from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from elastic_inference.engines import registry
from elastic_inference.engines.base import EngineOptions
from elastic_inference.limits.processor import processor
from elastic_inference.models.artifacts.store import Kind
from elastic_inference.models.package import ModelPackage
from elastic_inference.models.signature import SignatureRequest
from elastic_inference.proof.choice import Choice


def find(package: ModelPackage, request: SignatureRequest, options: EngineOptions) -> Choice | None:
    """Return what was chosen for this model, engine and precision with these versions on this processor."""
    if options.store is None:
        return None
    found = options.store.get(Kind.DECISION, _key(package, request, options))
    try:
        return None if found is None else Choice.from_json(found.about)
    except (ValueError, TypeError, KeyError, AttributeError):  # of another version
        return None


def keep(package: ModelPackage, request: SignatureRequest, options: EngineOptions, choice: Choice) -> str:
    """Keep a choice for loads that ask for `options`; return why that cannot be, "" where it was done.

    The model is listed with it, though its files come with its first load only.
    """
    if options.store is None:
        return "no store is in use"
    named = {"model": package.content_hash}
    if options.store.get(Kind.MODEL, named) is None:
        why_not = options.store.put(Kind.MODEL, named, package.described())
        if why_not:
            return why_not
    return options.store.put(Kind.DECISION, _key(package, request, options), choice.to_json())


def note(choice: Choice) -> str:
    """Say what was chosen and why, for the report."""
    day = datetime.fromtimestamp(choice.chosen_unix_seconds, timezone.utc).date().isoformat()
    on = f" on {choice.num_recorded} recorded requests" if choice.num_recorded else ""
    return f"{choice.reason} (measured{on} on {day}, {choice.machine})."


def none_note(options: EngineOptions) -> str:
    """Say why precision "auto" stays at fp32 where nothing was chosen."""
    command = "`ei compile MODEL --precision auto --calibration FOLDER`"
    if options.store is None:
        return f"Precision auto stays at fp32: no store is in use that could hold what {command} has proved."
    return (
        "Precision auto stays at fp32: without samples nothing was proved for this model, these versions and this "
        f"processor; {command} does that."
    )


def _key(package: ModelPackage, request: SignatureRequest, options: EngineOptions) -> dict[str, Any]:
    """Everything that decides; threads and shapes are told with a choice, and change little of it."""
    candidates = [engine for engine in registry.engines() if engine.considers(package.format, options.device)]
    versions = [_version(distribution) for engine in candidates for distribution in engine.distributions]
    return {
        "model": package.content_hash,
        "signature": request.key(),
        "engine": options.engine,
        "precision": options.precision,
        "device": options.device,
        "cpu": processor(),
        "versions": versions,
    }


def _version(distribution: str) -> str:
    try:
        return f"{distribution} {version(distribution)}"
    except PackageNotFoundError:
        return f"{distribution} absent"
