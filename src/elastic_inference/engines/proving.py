"""The process that compares a model on two engines: `python -m elastic_inference.engines.proving`, a job on its input.

It is apart, so that what it loads is gone afterwards and what it breaks breaks nothing else. It takes one thread, only
processor time that nobody else wants, no more memory than it is given, and ends with whoever started it.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import json
import os
import platform
import resource
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from elastic_inference import interpreter, settings
from elastic_inference.engines import registry
from elastic_inference.engines.base import EngineOptions, LoadedModel
from elastic_inference.errors import ElasticInferenceError, EngineNotAvailable
from elastic_inference.models.package import ModelFile, ModelFormat, ModelPackage
from elastic_inference.models.signature import SignatureRequest
from elastic_inference.proof.agreement import Deviation, Tolerance, compare
from elastic_inference.proof.proof import Proof, Verdict
from elastic_inference.proof.samples import made_up

NUM_MADE_UP = 3
MAX_SPREADS = (
    10.0  # a difference of so many times what the reference differs from itself is no other computation
)
_SET_PARENT_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG of <linux/prctl.h>
_ROUNDING = 2.0**-23  # of float32
Sample = dict[str, npt.NDArray[Any]]
Found = list[tuple[Sample, Sample, tuple[Deviation, ...]]]


@dataclass(frozen=True)
class Job:
    """What to compare.

    Attributes:
        root, format, files: The model's package.
        request: `SignatureRequest.to_json()`.
        engine, precision: What answers calls.
        shapes: Shapes of inputs that are known, by alias.
        recorded: A `.npz` file with the inputs of a call; "" for none.
        memory_limit_bytes: What the process may take; None: no limit.
    """

    root: str
    format: str
    files: tuple[Mapping[str, Any], ...]
    request: Mapping[str, Any]
    engine: str
    precision: str
    shapes: Mapping[str, tuple[int, ...]]
    recorded: str = ""
    memory_limit_bytes: int | None = None
    allow_unsafe_operations: bool = False

    @property
    def package(self) -> ModelPackage:
        """The model."""
        files = tuple(ModelFile(**file) for file in self.files)
        return ModelPackage(ModelFormat(self.format), Path(self.root), files)

    def load(self, engine: str, precision: str) -> LoadedModel:
        """Load the model on one engine, in one thread."""
        options = EngineOptions(
            engine, precision=precision, num_threads=1, allow_unsafe_operations=self.allow_unsafe_operations
        )
        request = SignatureRequest.from_json(self.request)
        return registry.engine_named(engine).load(self.package, request, options)


def prove(job: Job) -> Proof:
    """Compare, in this process; what cannot be compared is a verdict too."""
    reference = registry.reference_of(ModelFormat(job.format))
    subject = f"{job.engine} {job.precision}"
    if reference is None:
        return Proof(
            subject, Verdict.NOT_COMPARED, reason=f"no engine is the reference of {job.format} models"
        )
    try:
        return _compared(job, reference.name)
    except EngineNotAvailable as error:
        return Proof(subject, Verdict.NOT_COMPARED, reason=str(error))
    except MemoryError as error:
        return Proof(
            subject, Verdict.NOT_COMPARED, reason=f"there was too little memory for a second engine ({error})"
        )
    except ElasticInferenceError as error:
        return Proof(subject, Verdict.NOT_COMPARED, reason=f"{type(error).__name__}: {error}")


def _compared(job: Job, reference: str) -> Proof:
    model = job.load(job.engine, job.precision)
    subject = _named(model)
    recorded = _recorded(job)
    needed = {alias: model.signature.inputs[alias] for alias in sorted(model.signature.required_inputs)}
    samples = [*recorded, *(made_up(needed, job.shapes, seed) for seed in range(NUM_MADE_UP))]
    answers = [_answer(model, sample) for sample in samples]
    model.close()
    del model
    gc.collect()  # the memory of one engine is what there is
    with contextlib.closing(job.load(reference, "fp32")) as other:
        proof = Proof(
            subject, Verdict.AGREES, _named(other), relative=Tolerance().relative, absolute=Tolerance().absolute,
            compared_unix_seconds=int(time.time()), machine=_processor(),
        )  # fmt: skip
        pairs = [
            (sample, ours, _answer(other, sample)) for sample, ours in zip(samples, answers, strict=True)
        ]
    return _judged(job, proof, pairs, len(recorded))


def _judged(job: Job, proof: Proof, pairs: list[tuple[Sample, Any, Any]], num_recorded: int) -> Proof:
    worst, num_compared = 0.0, 0
    found: Found = []
    for sample, ours, theirs in pairs:
        if isinstance(theirs, str):  # made-up values that the model does not take prove nothing
            continue
        num_compared += 1
        if isinstance(ours, str):
            found.append((sample, theirs, (Deviation("", float("inf"), f"it raised {ours}"),)))
            continue
        difference, deviations = compare(ours, theirs, Tolerance())
        worst = max(worst, difference)
        if deviations:
            found.append((sample, theirs, deviations))
    if not num_compared:
        told = next(theirs for _, _, theirs in pairs)
        return replace(
            proof,
            verdict=Verdict.NOT_COMPARED,
            reason=f"the reference takes no made-up values ({told}); name shapes with warm_up",
        )
    proof = replace(proof, num_samples=num_compared, num_recorded=num_recorded, worst=_finite(worst))
    if not found:
        return proof
    verdict = Verdict.WITHIN_SPREAD if _is_within_spread(job, found) else Verdict.DIFFERS
    (first, *_) = found[0][2]
    return replace(proof, verdict=verdict, reason=f"output {first.alias!r}: {first.what}")


def _is_within_spread(job: Job, found: Found) -> bool:
    """Whether the reference itself gives answers as far apart, when only its order of adding is another.

    Detectors do where two scores are nearly equal: then the order of their boxes is nobody's.
    """
    with tempfile.TemporaryDirectory(prefix="elastic-inference-") as folder:
        for sample, theirs, deviations in found:
            again = _other_order(job, sample, Path(folder))
            if again is None or any(d.worst == float("inf") for d in deviations):
                return False
            spread, spreads = compare(again, theirs, Tolerance())
            spread_of = {deviation.alias: deviation.worst for deviation in spreads}
            if any(d.worst > MAX_SPREADS * spread_of.get(d.alias, min(spread, 1e-4)) for d in deviations):
                return False
    return True


def _other_order(job: Job, sample: Sample, folder: Path) -> Sample | None:
    """Return the reference's answer with floats moved by their rounding and, in TensorFlow, its other kernels."""
    inputs, outputs = folder / "inputs.npz", folder / "outputs.npz"
    np.savez(inputs, **{alias: _moved(array) for alias, array in sample.items()})  # type: ignore[arg-type]
    described = {**vars(job), "recorded": str(inputs), "outputs": str(outputs)}
    subprocess.run(
        interpreter.sibling_command("elastic_inference.engines.proving"),
        input=json.dumps(described), text=True, stdout=subprocess.DEVNULL, check=False,
        env=settings.with_variables(TF_ENABLE_ONEDNN_OPTS="0"),
    )  # fmt: skip
    return _arrays(outputs) if outputs.exists() else None


def _moved(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    if array.dtype.kind != "f":
        return array
    signs = np.random.default_rng(0).choice([-1.0, 1.0], array.shape)
    return (array * (1.0 + _ROUNDING * signs)).astype(array.dtype)


def _answer(model: LoadedModel, sample: Sample) -> Sample | str:
    try:
        return model.predict(sample)
    except MemoryError:
        raise
    except ElasticInferenceError as error:
        return str(error)


def _named(model: LoadedModel) -> str:
    report = model.report
    return f"{report.engine} {report.engine_version} {report.precision}"


def _recorded(job: Job) -> list[Sample]:
    return [_arrays(Path(job.recorded))] if job.recorded else []


def _arrays(path: Path) -> Sample:
    with np.load(path, allow_pickle=False) as stored:
        return {alias: stored[alias] for alias in stored.files}


def _finite(number: float) -> float | None:
    return number if np.isfinite(number) else None


def _processor() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.machine()


def _stand_back(limit_bytes: int | None) -> None:
    """Take only what nobody else wants: idle processor time, this much memory, and the kernel's first choice to end."""
    ctypes.CDLL(None).prctl(_SET_PARENT_DEATH_SIGNAL, signal.SIGKILL)  # which ends us while we are held, too
    with contextlib.suppress(OSError):
        os.nice(19)
    with contextlib.suppress(OSError, AttributeError):
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")
    if limit_bytes is not None:
        resource.setrlimit(resource.RLIMIT_DATA, (limit_bytes, limit_bytes))


def _end_with_parent() -> None:
    """End when standard input does: whoever holds its other end has ended, or wants us to."""
    sys.stdin.read()
    os._exit(0)


def main() -> None:
    """Read a job in one line, write its proof in one line."""
    value = json.loads(sys.stdin.readline())
    outputs = value.pop("outputs", "")
    job = Job(**value)
    _stand_back(job.memory_limit_bytes)
    if not outputs:
        threading.Thread(target=_end_with_parent, daemon=True).start()
        print(json.dumps(prove(job).to_json()), flush=True)
        os._exit(0)  # engines' threads need not be waited for
    reference = registry.reference_of(ModelFormat(job.format))
    assert reference is not None
    with contextlib.closing(job.load(reference.name, "fp32")) as model:
        answer = _answer(model, _arrays(Path(job.recorded)))
    if not isinstance(answer, str):
        np.savez(outputs, **answer)  # type: ignore[arg-type]


if __name__ == "__main__":
    main()
