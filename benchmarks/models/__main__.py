"""Fetch the listed models, run each on its own runtime and on ours, and show what came of them.

What was run is kept, and an interrupted run goes on where it stopped.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

from benchmarks.common import describe_machine
from benchmarks.models import fetch, listing, table
from benchmarks.models.listing import Model
from benchmarks.models.run import BAD, NOT_RUN, Outcome, python_for, run
from elastic_inference import settings

_EXAMPLES = """examples:
  python -m benchmarks.models                                  everything that was not run yet
  python -m benchmarks.models --only silero-vad --again        one package anew
  python -m benchmarks.models --json benchmarks/models/results.json
"""


def main() -> int:
    """Run; returns 1 where a model is silently different, crashes or does not end."""
    options = _options()
    results = options.cache / "results.json"
    known = {} if options.again and not options.only else _read(results)
    wanted = [model for model in listing.models() if options.only in model.key]
    groups = [list(group) for _, group in groupby(wanted, key=lambda model: model.package)]
    done = 0
    for siblings in groups:
        for model in siblings:
            done += 1
            if model.key in known and known[model.key].verdict != NOT_RUN and not options.again:
                continue
            _say(f"[{done}/{len(wanted)}] {model.key}")
            known[model.key] = _run(model, siblings, options)
            _say(f"    {known[model.key].verdict} {known[model.key].engine} {known[model.key].detail[:200]}")
            _write(results, known)
    outcomes = [known[model.key] for model in listing.models() if model.key in known]
    if options.json:
        value = {"machine": describe_machine(["openvino", "onnxruntime", "ai-edge-litert", "tensorflow-cpu"])}
        value["models"] = [outcome.to_json() for outcome in outcomes]
        options.json.write_text(json.dumps(value, indent=1) + "\n")
    print(table.markdown(outcomes))
    return int(any(outcome.verdict == BAD for outcome in outcomes))


def _run(model: Model, siblings: Sequence[Model], options: argparse.Namespace) -> Outcome:
    python = (
        options.torch_python if model.format == "TorchScript" and options.torch_python else python_for(model)
    )
    if python is None:
        return Outcome(
            model.key, model.format, NOT_RUN, detail="torch is not installed here: make test-torch"
        )
    try:
        path = fetch.fetched(model, siblings, options.cache)
    except fetch.NotFetched as error:
        return Outcome(model.key, model.format, NOT_RUN, detail=str(error))
    return run(model, path, python, options.seconds)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.models", description=__doc__, epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--only", default="", help="models whose registry, package or path has this in it")
    parser.add_argument("--again", action="store_true", help="also those that were run before")
    parser.add_argument("--seconds", type=float, default=180.0, help="for each process (180)")
    parser.add_argument("--json", type=Path, help="write machine and outcomes to this file")
    parser.add_argument(
        "--torch-python", help="a Python with torch, for TorchScript (.venv-torch/bin/python)"
    )
    parser.add_argument(
        "--cache", type=Path, default=settings.cache_dir() / "bench-models", help="for packages (700 MB)"
    )
    options = parser.parse_args()
    options.cache.mkdir(parents=True, exist_ok=True)
    return options


def _read(path: Path) -> dict[str, Outcome]:
    if not path.exists():
        return {}
    return {
        each["key"]: Outcome(**{**each, "notes": tuple(each["notes"])})
        for each in json.loads(path.read_text())
    }


def _write(path: Path, outcomes: dict[str, Outcome]) -> None:
    fresh = path.with_suffix(".new")
    fresh.write_text(json.dumps([outcome.to_json() for outcome in outcomes.values()], indent=1))
    fresh.replace(path)


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        _say("interrupted; the next run goes on from here")
        sys.exit(130)
