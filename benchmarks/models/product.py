"""The same model through EIPredictor, on an embedded accelerator as anybody gets it, compared with its own runtime.

Run as a process: `python -m benchmarks.models.product JOB`, after `own` has left samples and answers beside JOB.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.models.samples import Arrays
from elastic_inference import EIPredictor
from elastic_inference.errors import ElasticInferenceError

RELATIVE = ABSOLUTE = 1e-4
PROOF_SECONDS = 90.0
_PENDING = "not compared: not yet"


def compute(job: Mapping[str, Any], own: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Load, call with all samples, wait for the comparison in the background, call again where that changed things.

    A model that its own runtime refuses has no samples; then it is only loaded.
    """
    specs = job["input_specs"] or None
    try:
        predictor = EIPredictor(job["path"], timeout_seconds=job["seconds"], input_specs=specs)
    except ElasticInferenceError as error:
        return {"refused": f"{type(error).__name__}: {error}"}
    with predictor:
        try:
            differences = _differences(predictor, own, folder)
        except ElasticInferenceError as error:
            return {"refused": f"call: {type(error).__name__}: {error}", "engine": predictor.report.engine}
        # The comparison takes only time that nobody wants, so it is waited for where there is something to tell.
        first, now = predictor.report, _proved(predictor) if differences else predictor.report_now()
        found = {
            "engine": first.engine,
            "engine_now": now.engine,
            "proof": now.proof,
            "notes": list(now.notes),
            "differences": differences,
            "differences_now": differences,
        }
        if now.engine != first.engine:
            found["differences_now"] = _differences(predictor, own, folder)
        return found


def _proved(predictor: EIPredictor) -> Any:
    """The report once the comparison has ended, or as it is when the time for that is over."""
    deadline = time.monotonic() + PROOF_SECONDS
    report = predictor.report_now()
    while _PENDING in report.proof and time.monotonic() < deadline:
        time.sleep(0.2)
        report = predictor.report_now()
    return report


def _differences(predictor: EIPredictor, own: Mapping[str, Any], folder: Path) -> list[str]:
    """What differs from the own runtime's answers by more than the tolerance; a sentence each."""
    found = []
    for index, (inputs, outputs) in enumerate(zip(own["inputs"], own["outputs"], strict=True)):
        sample, wanted = (
            _read(folder / f"sample{index}.npz", inputs),
            _read(folder / f"answer{index}.npz", outputs),
        )
        got = predictor(_renamed(sample, list(predictor.feed_tensors)))
        found += [f"sample {index}: {each}" for each in compare(_renamed(got, list(wanted)), wanted)]
    return found


def _renamed(arrays: Arrays, names: list[str]) -> Arrays:
    """The arrays under these names: where they are called otherwise (Keras, TorchScript), by their order."""
    if set(arrays) == set(names) or len(arrays) != len(names):
        return arrays
    return dict(zip(names, arrays.values(), strict=True))


def compare(got: Arrays, wanted: Arrays) -> list[str]:
    """Return how outputs differ; written apart from `elastic_inference.proof`, which it is to check."""
    if set(got) != set(wanted):
        return [f"outputs {sorted(got)} instead of {sorted(wanted)}"]
    found = []
    for name, value in wanted.items():
        other = got[name]
        if other.shape != value.shape or (other.dtype != value.dtype and value.dtype.kind != "U"):
            found.append(f"{name} is {other.dtype}{list(other.shape)}, not {value.dtype}{list(value.shape)}")
        elif value.dtype.kind in "fc":
            if not np.allclose(other, value, rtol=RELATIVE, atol=ABSOLUTE, equal_nan=True):
                worst = float(np.nanmax(np.abs(other.astype(np.float64) - value)))
                found.append(
                    f"{name} differs by up to {worst:.3g} (of {float(np.nanmax(np.abs(value))):.3g})"
                )
        elif not np.array_equal(other, value):
            found.append(f"{name} differs in {int(np.count_nonzero(other != value))} of {value.size} values")
    return found


def _read(path: Path, names: list[str]) -> Arrays:
    with np.load(path, allow_pickle=True) as stored:  # written by the process before, of what a runtime gave
        return {name: stored[f"n{index}"] for index, name in enumerate(names)}


if __name__ == "__main__":
    job_path = Path(sys.argv[1])
    read = json.loads((job_path.parent / "own.json").read_text())
    result = compute(json.loads(job_path.read_text()), read, job_path.parent)
    (job_path.parent / "product.json").write_text(json.dumps(result))
