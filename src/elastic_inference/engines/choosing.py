"""Choosing engine and precision for a model by measuring: each candidate loads, answers the same samples and is timed.

A candidate is taken where its answers agree with the reference's and it is faster than what is more exact than it. Each
runs in a process of its own (`engines.candidate`), so that one that breaks breaks nothing else, and by turns, so that
what else the machine does meets all of them.
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy.typing as npt

from elastic_inference.engines import choices, registry
from elastic_inference.engines.base import EngineOptions
from elastic_inference.engines.candidate import Arrays, CandidateProcess, Order, Told, write_sample
from elastic_inference.engines.registry import Engine
from elastic_inference.errors import (
    ElasticInferenceError,
    EngineNotAvailable,
    InvalidInput,
    UnsupportedModel,
)
from elastic_inference.limits.processor import Bystanders, processor
from elastic_inference.models.artifacts.store import Artifact, ArtifactStore
from elastic_inference.models.package import ModelPackage
from elastic_inference.models.signature import Signature, SignatureRequest
from elastic_inference.proof.agreement import (
    SAME_PRECISION_TOLERANCE,
    Criterion,
    Kind,
    Pair,
    judge,
    kind_of,
)
from elastic_inference.proof.choice import Choice
from elastic_inference.proof.proof import Proof, Verdict
from elastic_inference.proof.trials import EXACT, Decision, Trial, decide

LOWER_PRECISIONS = ("bf16", "int8")  # the more exact one first
_PLACES = {precision: place for place, precision in enumerate((EXACT, *LOWER_PRECISIONS, "tf32", "fp16"))}
TIMED_SECONDS = 20.0  # for all rounds together
FEWEST_ROUNDS, MOST_ROUNDS = 5, 25


@dataclass(frozen=True)
class Sample:
    """Inputs of one call, and what they are called in messages, such as a photo's name."""

    name: str
    arrays: Mapping[str, npt.NDArray[Any]]


@dataclass(frozen=True)
class Samples:
    """What to measure with.

    Attributes:
        calibration: For int8; none of them is held out.
        held_out: By which answers are judged. The first one is what predictions are timed on.
        are_made_up: Whether they are no real inputs; lower precisions are then not judged.
        are_recorded: Whether they are inputs of requests that an accelerator recorded.
    """

    calibration: tuple[Sample, ...]
    held_out: tuple[Sample, ...]
    are_made_up: bool = False
    are_recorded: bool = False

    @classmethod
    def of(cls, samples: Sequence[Sample], are_recorded: bool = False) -> Samples:
        """Hold one of three out; the others are to calibrate on."""
        calibration = tuple(each for i, each in enumerate(samples) if i % 3)
        return cls(calibration, tuple(samples[0::3]), are_recorded=are_recorded)


@dataclass(frozen=True)
class Task:
    """What to choose for.

    Attributes:
        options: What is asked for, "auto" among it; a choice is kept in its `store`.
        samples: Called with the model's signature.
        kind: By what answers are judged; None finds out from them.
        tolerance: Of a lower precision; None takes the kind's own.
        scratch: Where samples and what candidates make lie meanwhile; None: where temporary files do.
        memory_limit_bytes: What all candidates together may take; None: no limit.
        tell: Called with a sentence for each step.
        on_progress: Called with steps done and in all.
    """

    package: ModelPackage
    request: SignatureRequest
    options: EngineOptions
    samples: Callable[[Signature], Samples]
    kind: Kind | None = None
    tolerance: float | None = None
    scratch: Path | None = None
    memory_limit_bytes: int | None = None
    tell: Callable[[str], None] = lambda _: None
    on_progress: Callable[[int, int | None], None] = lambda _, __: None


def choose(task: Task) -> Choice:
    """Measure what can run the model, keep what is fastest of what agrees, and say why.

    A precision that was named and does not agree is not kept: the choice then says float32 and why.

    Raises:
        UnsupportedModel: No engine computes the model in float32.
        InvalidInput: The samples do not fit the model.
        EngineNotAvailable: The engine, or every one, is not installed.
    """
    with tempfile.TemporaryDirectory(prefix="elastic-inference-", dir=task.scratch) as folder:
        run = _Run(task, Path(folder))
        try:
            return run.choice()
        finally:
            run.close()


class _Run:
    def __init__(self, task: Task, folder: Path) -> None:
        self._task = task
        self._folder = folder
        self._trials = [Trial(engine.name, precision) for engine, precision in _candidates(task)]
        self._processes: dict[str, CandidateProcess] = {}  # by the trial's name
        limit = task.memory_limit_bytes  # all stay until they are timed
        self._memory_limit_bytes = None if limit is None else max(1, limit // len(self._trials))
        self._num_steps = 2 * len(self._trials) + 1
        self._num_done = 0
        self._files: list[Path] = []
        self._others_share = 0.0
        self._told: Told

    def choice(self) -> Choice:
        truth = self._first_loaded()
        samples = self._task.samples(self._told.signature)
        if not samples.held_out:
            raise InvalidInput("there are no samples to judge answers by")
        for index, sample in enumerate(samples.held_out):
            self._files.append(self._folder / f"held-out-{index}.npz")
            write_sample(self._files[-1], sample.arrays)
        theirs = self._answers_of_reference(truth, samples)
        for trial in self._trials:
            if trial is not truth and not trial.refusal:
                trial.refusal = self._compare(trial, truth, samples, theirs)
                if trial.refusal:
                    self._end(trial)
        self._time([trial for trial in self._trials if not trial.refusal])
        return self._decided(samples)

    def close(self) -> None:
        for process in self._processes.values():
            process.close()

    def _first_loaded(self) -> Trial:
        """Load the first that computes in float32: its answers are what others are compared with."""
        for trial in self._trials:
            if trial.precision == EXACT:
                trial.refusal = self._load(trial, ())
                if not trial.refusal:
                    return trial
                self._end(trial)
        raise _none_loads(self._trials)

    def _load(self, trial: Trial, calibration: Sequence[Path]) -> str:
        """Load a candidate; return why it is out, "" where it is not."""
        self._task.tell(f"{trial.name()}: {'calibrating and ' if calibration else ''}loading")
        options = self._task.options
        folder = self._folder_of(trial)
        order = Order(
            self._task.package.to_json(),
            self._task.request.to_json(),
            trial.engine,
            {
                "engine": options.engine,
                "device": options.device,
                "precision": trial.precision,
                "num_threads": options.num_threads,
                "allow_unsafe_operations": options.allow_unsafe_operations,
            },
            str(folder),
            tuple(map(str, calibration)),
            self._memory_limit_bytes,
        )
        process = self._processes[trial.name()] = CandidateProcess(order)
        try:
            process.load()
        except ElasticInferenceError as error:
            return str(error)
        finally:
            self._step()
        self._told, trial.subject = process.told, process.told.subject
        computed = self._told.precision
        return "" if computed == trial.precision else f"it computes in {computed} on this processor"

    def _folder_of(self, trial: Trial) -> Path:
        """Where a candidate keeps what its next load takes: its own, until it is taken."""
        return self._folder / f"{trial.engine}-{trial.precision}"

    def _end(self, trial: Trial) -> None:
        process = self._processes.pop(trial.name(), None)
        if process is not None:
            process.close()

    def _answers_of_reference(self, truth: Trial, samples: Samples) -> list[Arrays]:
        answers: list[Arrays] = []
        for sample, answer in zip(samples.held_out, self._answers(truth), strict=True):
            if isinstance(answer, str):
                raise InvalidInput(f"the model does not take sample {sample.name}: {answer}")
            answers.append(answer)
        return answers

    def _answers(self, trial: Trial) -> list[Arrays | str]:
        self._task.tell(f"{trial.name()}: answering {len(self._files)} samples")
        answers: list[Arrays | str] = []
        for path in self._files:
            try:
                answers.append(self._processes[trial.name()].answer(path, self._folder / "answer.npz"))
            except ElasticInferenceError as error:
                answers.append(str(error))
        self._step()
        return answers

    def _compare(self, trial: Trial, truth: Trial, samples: Samples, theirs: Sequence[Arrays]) -> str:
        """Load a candidate and compare its answers; return why it is out, "" where it is not."""
        why_not = "" if trial.precision == EXACT else _why_not(trial.precision, samples)
        if why_not:
            return why_not
        why_not = self._load(trial, self._calibration(samples) if trial.precision == "int8" else ())
        if why_not:
            return why_not
        names = [sample.name for sample in samples.held_out]
        pairs = [Pair(*each) for each in zip(names, self._answers(trial), theirs, strict=True)]
        criterion = self._criterion(trial, theirs)
        judgement = judge(criterion, pairs)
        if samples.are_made_up and judgement.agrees is None:  # a detector finds nothing in noise
            criterion = Criterion(Kind.NUMBERS, SAME_PRECISION_TOLERANCE)
            judgement = judge(criterion, pairs)
        trial.proof = Proof(
            trial.subject, Verdict.NOT_COMPARED, truth.subject, len(pairs),
            0 if samples.are_made_up else len(pairs),
            compared_unix_seconds=int(time.time()), machine=processor(),
        ).judged(criterion, judgement)  # fmt: skip
        if trial.proof.is_passed:
            return ""
        at = f", on {trial.proof.worst_sample}" if trial.proof.worst_sample else ""
        return f"it does not agree: {trial.proof.reason}{at}"

    def _criterion(self, trial: Trial, theirs: Sequence[Arrays]) -> Criterion:
        criterion = Criterion.of(self._task.kind or kind_of(theirs[0]), self._task.tolerance)
        if trial.precision != EXACT:
            return criterion
        return replace(criterion, tolerance=min(criterion.tolerance, SAME_PRECISION_TOLERANCE))

    def _calibration(self, samples: Samples) -> list[Path]:
        paths = []
        for index, sample in enumerate(samples.calibration):
            paths.append(self._folder / f"calibration-{index}.npz")
            write_sample(paths[-1], sample.arrays)
        return paths

    def _time(self, trials: Sequence[Trial]) -> None:
        """Time one prediction of each by turns, after two that do not count: engines prepare for a shape."""
        self._task.tell(f"timing {len(trials)} candidates by turns")
        for _ in range(2):
            seconds = sum(self._seconds(trial) for trial in trials)
        rounds = max(FEWEST_ROUNDS, min(MOST_ROUNDS, int(TIMED_SECONDS / max(seconds, 1e-6))))
        bystanders = Bystanders([process.pid for process in self._processes.values()])
        for _ in range(rounds):
            for trial in trials:
                trial.seconds.append(self._seconds(trial))
        self._others_share = bystanders.share()
        self._step()

    def _seconds(self, trial: Trial) -> float:
        return self._processes[trial.name()].seconds(self._files[0])

    def _decided(self, samples: Samples) -> Choice:
        options = self._task.options
        order = [engine.name for engine in registry.engines()]
        trials = sorted(self._trials, key=lambda trial: (_PLACES[trial.precision], order.index(trial.engine)))
        decision = decide(trials, options.engine, options.precision, self._others_share)
        choice = self._described(decision, samples, options.precision)
        self._keep(choice, decision.taken, options)
        if options.precision == "auto":  # what was proved is there for whoever asks for it by name
            for precision in LOWER_PRECISIONS:
                if any(trial.precision == precision and trial.seconds for trial in trials):
                    named = decide(trials, options.engine, precision, self._others_share)
                    self._keep(
                        self._described(named, samples, precision),
                        named.taken,
                        replace(options, precision=precision),
                    )
        return choice

    def _described(self, decision: Decision, samples: Samples, wanted: str) -> Choice:
        return Choice(
            engine=decision.taken.engine,
            precision=decision.taken.precision,
            wanted_engine=self._task.options.engine,
            wanted_precision=wanted,
            reason=decision.reason,
            candidates=decision.candidates,
            num_calibration=len(samples.calibration),
            num_held_out=0 if samples.are_made_up else len(samples.held_out),
            num_recorded=len(samples.calibration) + len(samples.held_out) if samples.are_recorded else 0,
            shapes={alias: array.shape for alias, array in samples.held_out[0].arrays.items()},
            num_threads=self._told.num_threads,
            machine=processor(),
            others_share=self._others_share,
            chosen_unix_seconds=int(time.time()),
        )

    def _keep(self, choice: Choice, taken: Trial, options: EngineOptions) -> None:
        """Put what the candidate left for its next load where loads look for it, then the choice."""
        if options.store is None or not choice.is_as_wanted:
            return
        with contextlib.closing(ArtifactStore.at(self._folder_of(taken))) as made:
            for artifact in made.artifacts():
                why_not = _copied(made, artifact, options.store)
                if why_not:
                    self._task.tell(f"{artifact.kind.value} not kept: {why_not}")
        why_not = choices.keep(self._task.package, self._task.request, options, choice)
        if why_not:
            self._task.tell(f"the choice is not kept: {why_not}")

    def _step(self) -> None:
        self._num_done += 1
        self._task.on_progress(self._num_done, self._num_steps)


def _candidates(task: Task) -> list[tuple[Engine, str]]:
    """All that is to be tried: in float32 the reference first, then the others; then lower precisions."""
    options = task.options
    if options.engine != "auto":
        engines = [registry.engine_named(options.engine)]
        engines[0].check_format(task.package)
        engines[0].check_device(options.device)
    else:
        reference = registry.reference_of(task.package.format)
        engines = [
            engine
            for engine in registry.engines()
            if engine.considers(task.package.format, options.device) and engine.loader is None
        ]
        engines.sort(key=lambda engine: engine is not reference)
    installed = [engine for engine in engines if engine.is_installed()]
    if not installed:
        raise EngineNotAvailable(
            f"no engine that reads {task.package.format.value} is installed here: "
            + ", ".join(f"{engine.name} is in elastic-inference[{engine.extra}]" for engine in engines)
        )
    wanted = LOWER_PRECISIONS if options.precision == "auto" else (options.precision,)
    lower = [(engine, p) for p in wanted for engine in installed if p != EXACT and p in engine.precisions]
    if not lower and options.precision not in ("auto", EXACT):
        installed[0].check_precision(options.precision)
    return [*((engine, EXACT) for engine in installed), *lower]


def _copied(made: ArtifactStore, artifact: Artifact, store: ArtifactStore) -> str:
    """Put an artifact of one store into another; return why that cannot be, "" where it was done."""
    found = made.get(artifact.kind, artifact.key)
    if found is None:
        return "it is damaged"
    if found.path is None:
        return store.put(found.kind, found.key, found.about)
    with open(found.path, "rb") as content:
        return store.put(found.kind, found.key, found.about, lambda file: shutil.copyfileobj(content, file))


def _why_not(precision: str, samples: Samples) -> str:
    if samples.are_made_up:
        return "no samples were given, and made-up values cannot judge a lower precision"
    if precision == "int8" and not samples.calibration:
        return "no samples were left to calibrate on"
    return ""


def _none_loads(tried: Sequence[Trial]) -> ElasticInferenceError:
    return UnsupportedModel(
        "no engine computes the model in fp32: "
        + "; ".join(f"engine {each.engine}: {each.refusal}" for each in tried if each.precision == EXACT)
    )
