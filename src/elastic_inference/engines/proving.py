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
import resource
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from elastic_inference import interpreter, settings
from elastic_inference.engines import registry
from elastic_inference.engines.base import EngineOptions, LoadedModel
from elastic_inference.engines.candidate import read_sample, write_sample
from elastic_inference.errors import ElasticInferenceError, EngineNotAvailable
from elastic_inference.limits.processor import processor
from elastic_inference.models.artifacts.store import ArtifactStore
from elastic_inference.models.package import ModelPackage
from elastic_inference.models.signature import SignatureRequest
from elastic_inference.proof.agreement import Criterion, Pair, compare, judge, kind_of
from elastic_inference.proof.proof import Proof, Verdict
from elastic_inference.proof.samples import made_up

NUM_MADE_UP = 3
NUM_TIMED = 5  # predictions of either engine, in one thread
CHEAP_SECONDS = 0.2  # a prediction that takes longer is timed once
MAX_SPREADS = (
    10.0  # a difference of so many times what the reference differs from itself is no other computation
)
_SET_PARENT_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG of <linux/prctl.h>
_ROUNDING = 2.0**-23  # of float32
Sample = dict[str, npt.NDArray[Any]]


@dataclass(frozen=True)
class Job:
    """What to compare.

    Attributes:
        model: The model's package, `ModelPackage.to_json()`.
        request: `SignatureRequest.to_json()`.
        engine, precision: What answers calls.
        reference: The engine whose answers in float32 they are compared with; another one, or the same one for a lower
            precision.
        shapes: Shapes of inputs that are known, by alias.
        recorded: Files with the inputs of a call each.
        store_dir: The artifact store in which a model in int8 lies; None: there is none.
        memory_limit_bytes: What the process may take; None: no limit.
    """

    model: Mapping[str, Any]
    request: Mapping[str, Any]
    engine: str
    precision: str
    reference: str
    shapes: Mapping[str, tuple[int, ...]]
    recorded: tuple[str, ...] = ()
    store_dir: str | None = None
    memory_limit_bytes: int | None = None
    allow_unsafe_operations: bool = False

    def load(self, engine: str, precision: str) -> LoadedModel:
        """Load the model on one engine, in one thread."""
        options = EngineOptions(
            engine,
            precision=precision,
            num_threads=1,
            # Nothing else is taken from there or kept: what is compared is computed here.
            store=self._store() if precision == "int8" else None,
            allow_unsafe_operations=self.allow_unsafe_operations,
        )
        request = SignatureRequest.from_json(self.request)
        return registry.engine_named(engine).load(ModelPackage.from_json(self.model), request, options)

    def _store(self) -> ArtifactStore | None:
        return None if self.store_dir is None else ArtifactStore.at(Path(self.store_dir))


def prove(job: Job) -> Proof:
    """Compare, in this process; what cannot be compared is a verdict too."""
    subject = f"{job.engine} {job.precision}"
    try:
        return _compared(job)
    except EngineNotAvailable as error:
        return Proof(subject, Verdict.NOT_COMPARED, reason=str(error))
    except MemoryError as error:
        return Proof(
            subject, Verdict.NOT_COMPARED, reason=f"there was too little memory for a second engine ({error})"
        )
    except ElasticInferenceError as error:
        return Proof(subject, Verdict.NOT_COMPARED, reason=f"{type(error).__name__}: {error}")


def _compared(job: Job) -> Proof:
    model = job.load(job.engine, job.precision)
    subject = _named(model)
    samples = _samples(job, model)
    answers = [_answer(model, sample) for sample in samples.values()]
    seconds = _cpu_seconds(model, samples, answers)
    model.close()
    del model
    gc.collect()  # the memory of one engine is what there is
    with contextlib.closing(job.load(job.reference, "fp32")) as other:
        proof = Proof(
            subject,
            Verdict.AGREES,
            _named(other),
            compared_unix_seconds=int(time.time()),
            machine=processor(),
        )
        theirs = [_answer(other, sample) for sample in samples.values()]
        reference_seconds = _cpu_seconds(other, samples, theirs)
    taken = [
        Pair(name, ours, answer)
        for name, ours, answer in zip(samples, answers, theirs, strict=True)
        if not isinstance(answer, str)  # made-up values that the model does not take prove nothing
    ]
    if not taken:
        reason = f"the reference takes no made-up values ({theirs[0]}); name shapes with warm_up"
        return replace(proof, verdict=Verdict.NOT_COMPARED, reason=reason)
    proof = replace(proof, num_samples=len(taken), num_recorded=len(job.recorded))
    proof = _judged(job, proof, samples, taken)
    if seconds and reference_seconds:
        proof = replace(proof, figures={**proof.figures, "speed_up": reference_seconds / seconds})
    return proof


def _samples(job: Job, model: LoadedModel) -> dict[str, Sample]:
    needed = {alias: model.signature.inputs[alias] for alias in sorted(model.signature.required_inputs)}
    samples = {f"call {index}": read_sample(path) for index, path in enumerate(job.recorded, start=1)}
    made_up_ones = {f"made-up {seed}": made_up(needed, job.shapes, seed) for seed in range(NUM_MADE_UP)}
    return samples | made_up_ones


def _judged(job: Job, proof: Proof, samples: Mapping[str, Sample], pairs: list[Pair]) -> Proof:
    if job.precision != "fp32":
        criterion = Criterion.of(kind_of(pairs[0].theirs))
        return proof.judged(criterion, judge(criterion, pairs))
    criterion = Criterion()
    proof = proof.judged(criterion, judge(criterion, pairs))
    if proof.verdict is Verdict.DIFFERS and _is_within_spread(job, samples, pairs):
        return replace(proof, verdict=Verdict.WITHIN_SPREAD)
    return proof


def _is_within_spread(job: Job, samples: Mapping[str, Sample], pairs: list[Pair]) -> bool:
    """Whether the reference itself gives answers as far apart, when only its order of adding is another.

    Detectors do where two scores are nearly equal: then the order of their boxes is nobody's.
    """
    tolerance = Criterion().tolerance
    with tempfile.TemporaryDirectory(prefix="elastic-inference-") as folder:
        for pair in pairs:
            if isinstance(pair.ours, str):
                return False
            _, deviations = compare(pair.ours, pair.theirs, tolerance)
            if not deviations:
                continue
            if any(deviation.worst == float("inf") for deviation in deviations):
                return False
            again = _other_order(job, samples[pair.sample], Path(folder))
            if again is None:
                return False
            spread, spreads = compare(again, pair.theirs, tolerance)
            spread_of = {deviation.alias: deviation.worst for deviation in spreads}
            if any(d.worst > MAX_SPREADS * spread_of.get(d.alias, min(spread, 1e-4)) for d in deviations):
                return False
    return True


def _other_order(job: Job, sample: Sample, folder: Path) -> Sample | None:
    """Return the reference's answer with floats moved by their rounding and, in TensorFlow, its other kernels."""
    inputs, outputs = folder / "inputs.npz", folder / "outputs.npz"
    outputs.unlink(missing_ok=True)
    write_sample(inputs, {alias: _moved(array) for alias, array in sample.items()})
    described = {**vars(job), "recorded": [str(inputs)], "outputs": str(outputs)}
    subprocess.run(
        interpreter.sibling_command("elastic_inference.engines.proving"),
        input=json.dumps(described), text=True, stdout=subprocess.DEVNULL, check=False,
        env=settings.with_variables(TF_ENABLE_ONEDNN_OPTS="0"),
    )  # fmt: skip
    return read_sample(outputs) if outputs.exists() else None


def _moved(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    if array.dtype.kind != "f":
        return array
    signs = np.random.default_rng(0).choice([-1.0, 1.0], array.shape)
    return (array * (1.0 + _ROUNDING * signs)).astype(array.dtype)


def _cpu_seconds(
    model: LoadedModel, samples: Mapping[str, Sample], answers: Sequence[Sample | str]
) -> float | None:
    """Return the processor time of one prediction on the first sample that was answered, where that is cheap.

    Not the time on the clock: this process gives way to others, and is held while requests run.
    """
    sample = next((s for s, a in zip(samples.values(), answers, strict=True) if not isinstance(a, str)), None)
    if sample is None:
        return None
    seconds = []
    for _ in range(NUM_TIMED):
        start = time.process_time()
        if isinstance(_answer(model, sample), str):
            return None
        seconds.append(time.process_time() - start)
        if seconds[-1] > CHEAP_SECONDS:
            break
    return min(seconds)


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
    with contextlib.closing(job.load(job.reference, "fp32")) as model:
        answer = _answer(model, read_sample(job.recorded[0]))
    if not isinstance(answer, str):
        write_sample(Path(outputs), answer)


if __name__ == "__main__":
    main()
