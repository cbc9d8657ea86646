"""One model: its own runtime, then ours, each in a process with bounded time and memory; and what came of it."""

from __future__ import annotations

import importlib.util
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from benchmarks.common import ROOT
from benchmarks.models.listing import Model

MEMORY_BYTES = 8 << 30
WORKS, TOLD, REFUSED, BOTH, BAD = "works", "differs, told", "refused", "refused by both", "BAD"
NOT_RUN = "not run"


@dataclass(frozen=True)
class Outcome:
    """What came of one model.

    Attributes:
        verdict: `works`: the same numbers; `differs, told`: other numbers until the reference took over, which the
            report says; `refused`: by us alone; `refused by both`; `BAD`: other numbers and no word, a crash
            or no end; `not run`: not fetched, or its runtime is not installed.
        engine: Which answered, "" for none.
        detail: The refusal's text, or how the numbers differ.
    """

    key: str
    format: str
    verdict: str
    engine: str = ""
    runtime: str = ""
    detail: str = ""
    proof: str = ""
    notes: tuple[str, ...] = field(default=())

    def to_json(self) -> dict[str, Any]:
        """A JSON object of all fields."""
        return asdict(self)


def run(model: Model, path: Path, python: str, seconds: float) -> Outcome:
    """Compute a fetched model on both.

    Args:
        python: The interpreter that has the model's runtime and this package.
        seconds: For each of the two processes.
    """
    with tempfile.TemporaryDirectory(prefix="ei-bench-models-") as made:
        folder = Path(made)
        job = {
            "path": str(path), "format": model.format, "inputs": dict(model.inputs), "seconds": seconds,
            "input_specs": _input_specs(model),
        }  # fmt: skip
        (folder / "job.json").write_text(json.dumps(job))
        own = _child("own", folder, python, seconds)
        if "failed" in own:
            return Outcome(model.key, model.format, NOT_RUN, detail=f"its own runtime {own['failed']}")
        ours = (
            _child("product", folder, python, seconds)
            if "refused" not in own
            else _refusal(folder, python, seconds)
        )
    here = (
        str(path.parents[len(Path(model.path).parts) - 1]) + os.sep
    )  # where the package was unpacked says nothing
    outcome = _judged(model, own, ours)
    notes = tuple(note.replace(here, "") for note in outcome.notes)
    return replace(outcome, detail=outcome.detail.replace(here, ""), notes=notes)


def _refusal(folder: Path, python: str, seconds: float) -> dict[str, Any]:
    """What we say of a model that its own runtime refuses; there is nothing to compare."""
    own = folder / "own.json"
    own.write_text(json.dumps({"inputs": [], "outputs": []}))
    return _child("product", folder, python, seconds)


def _judged(model: Model, own: Mapping[str, Any], ours: Mapping[str, Any]) -> Outcome:
    def outcome(verdict: str, detail: str = "") -> Outcome:
        return Outcome(
            model.key, model.format, verdict, ours.get("engine_now", ours.get("engine", "")),
            own.get("runtime", ""), detail, ours.get("proof", ""), tuple(ours.get("notes", ())),
        )  # fmt: skip

    if "failed" in ours:
        return outcome(BAD, ours["failed"])
    if "refused" in own:
        return outcome(BOTH, f"its own runtime: {own['refused']}; ours: {ours.get('refused', 'loaded it')}")
    if "refused" in ours:
        return outcome(REFUSED, ours["refused"])
    if ours["differences_now"]:
        return outcome(BAD, "; ".join(ours["differences_now"][:4]))
    return outcome(TOLD, "; ".join(ours["differences"][:4])) if ours["differences"] else outcome(WORKS)


def _child(module: str, folder: Path, python: str, seconds: float) -> dict[str, Any]:
    variables = {**os.environ, "PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}", "TF_CPP_MIN_LOG_LEVEL": "3"}
    command = [python, "-m", f"benchmarks.models.{module}", str(folder / "job.json")]
    process = subprocess.Popen(
        command, env=variables, cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE, text=True, start_new_session=True, preexec_fn=_bounded,
    )  # fmt: skip
    try:
        _, errors = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        return {"failed": f"did not end within {seconds:.0f} s"}
    finally:
        if process.poll() is None:  # an embedded accelerator ends with it
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
    result = folder / f"{module}.json"
    if process.returncode or not result.exists():
        last = errors.strip().splitlines()[-1:] or ["without a word"]
        return {"failed": f"ended with status {process.returncode}: {last[0][:300]}"}
    found: dict[str, Any] = json.loads(result.read_text())
    return found


def _bounded() -> None:
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _input_specs(model: Model) -> dict[str, str]:
    """For TorchScript, which does not say what its inputs are: `{"x": "float32:-1,-1"}`."""
    if model.format != "TorchScript":
        return {}
    return {
        name: f"{'int64' if name == 'sr' else 'float32'}:{','.join(['-1'] * len(hints['shapes'][0]))}"
        for name, hints in model.inputs.items()
    }


def python_for(model: Model) -> str | None:
    """The interpreter for a model's format; None where its runtime is nowhere."""
    if model.format != "TorchScript" or importlib.util.find_spec("torch") is not None:
        return sys.executable
    beside = ROOT / ".venv-torch/bin/python"
    return str(beside) if beside.exists() else None
