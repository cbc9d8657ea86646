"""How far bf16 and int8 are from fp32 on real photos and clips, and how fast beside TensorFlow.

`python -m benchmarks.engines.precision [--models NAME ...] [--rounds N] [--json FILE]`; needs EI_SHARED. Each engine in
each precision is a process of its own, as for `ei compile`; all answer the same held-out pictures and take turns.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import psutil

from benchmarks.common import (
    Bystanders,
    Ratio,
    Row,
    describe_machine,
    flat,
    interleave,
    milliseconds,
    shared_asset,
    table,
    write_json,
)
from elastic_inference.engines.candidate import CandidateProcess, Order, write_sample
from elastic_inference.engines.choosing import Sample
from elastic_inference.errors import ElasticInferenceError
from elastic_inference.limits.processor import processor
from elastic_inference.models.package import ModelPackage
from elastic_inference.models.signature import SignatureRequest
from elastic_inference.proof.agreement import Criterion, Pair, judge, kind_of
from elastic_inference.proof.proof import Proof, Verdict
from elastic_inference.video.photos import SampleSource, Scale
from elastic_inference.zoo import DETECTION_INPUT_NAMES, DETECTION_OUTPUT_NAMES

THREADS = 2
CANDIDATES = (("tensorflow", "fp32"), ("openvino", "fp32"), ("openvino", "bf16"), ("openvino", "int8"))


@dataclass(frozen=True)
class Subject:
    """One model.

    Attributes:
        sources: Folders and clips of the shared assets, and how many samples of each.
        must, aim: How many times as fast as TensorFlow, by precision.
        is_random: Whether its weights are chance, so that only its speed means anything.
    """

    name: str
    file: str
    sources: tuple[tuple[str, int], ...]
    inputs: dict[str, str]
    outputs: dict[str, str]
    scale: Scale | None = None
    must: dict[str, tuple[float, float]] | None = None
    is_random: bool = False


_DETECTOR = (dict(DETECTION_INPUT_NAMES), dict(DETECTION_OUTPUT_NAMES))
_PICTURES = (("assets/photos", 5), ("assets/video/dog_720p.mp4", 16), ("assets/video/highway_720p.mp4", 12))
SUBJECTS = {
    "ssd_mobilenet_v2": Subject(
        "ssd_mobilenet_v2, photos and 720p clips", "ssd_mobilenet_v2_coco_2018_03_29.pb", _PICTURES, *_DETECTOR,
        must={"fp32": (1.2, 2)},
    ),
    "ssdlite": Subject(
        "ssdlite, photos and 720p clips", "ssdlite_mobilenet_v2_coco_tfjs.pb", _PICTURES, *_DETECTOR
    ),
    "efficientnet_lite0": Subject(
        "efficientnet_lite0, photos and pictures of clips", "efficientnet_lite0_imagenet.pb", _PICTURES,
        {"images": "images:0"}, {"probs": "probs:0"}, Scale.IMAGENET,
    ),
    "faster_rcnn": Subject(
        "Faster R-CNN, 1080p", "faster_rcnn_resnet50_random.pb", (("assets/video/dog_1080p.mp4", 6),), *_DETECTOR,
        must={"fp32": (1.05, 1.1), "bf16": (1.9, 2.1), "int8": (3.2, 3.6)}, is_random=True,
    ),
}  # fmt: skip


def measured(
    subject: Subject, rounds: int, folder: Path, stack: ExitStack, is_realtime: bool
) -> Iterator[Row]:
    """The rows of one model."""
    path = shared_asset(f"assets/models/{subject.file}")
    if path is None:
        return
    package = ModelPackage.read(path)
    request = SignatureRequest(input_names=subject.inputs, output_names=subject.outputs)
    processes: dict[str, CandidateProcess] = {}
    calibration: list[Path] = []
    held_out: list[tuple[Sample, Path]] = []
    for engine, precision in CANDIDATES:
        name = f"{engine} {precision}"
        order = Order(
            package.to_json(),
            request.to_json(),
            engine,
            {"engine": engine, "precision": precision, "num_threads": THREADS},
            str(folder / name.replace(" ", "-")),
            tuple(map(str, calibration)) if precision == "int8" else (),
        )
        process = CandidateProcess(order)
        stack.callback(process.close)
        print(f"{subject.name}: {name}", file=sys.stderr, flush=True)
        try:
            process.load()
        except ElasticInferenceError as error:
            yield Row(f"{subject.name}: {name}", "not computed", str(error)[:90], None)
            continue
        processes[name] = process
        if not held_out:
            calibration, held_out = _samples(subject, process, folder)
    yield from _rows(subject, processes, held_out, rounds, folder, is_realtime)


def _samples(
    subject: Subject, process: CandidateProcess, folder: Path
) -> tuple[list[Path], list[tuple[Sample, Path]]]:
    calibration: list[Path] = []
    held_out: list[tuple[Sample, Path]] = []
    for relative, most in subject.sources:
        source = shared_asset(relative)
        if source is None:
            continue
        samples = SampleSource(source, {}, subject.scale, most=most).read(process.told.signature)
        for sample in (*samples.calibration, *samples.held_out):
            path = folder / f"{len(calibration) + len(held_out)}.npz"
            write_sample(path, sample.arrays)
            if sample in samples.calibration:
                calibration.append(path)
            else:
                held_out.append((sample, path))
    return calibration, held_out


def _rows(
    subject: Subject,
    processes: dict[str, CandidateProcess],
    held_out: Sequence[tuple[Sample, Path]],
    rounds: int,
    folder: Path,
    is_realtime: bool,
) -> Iterator[Row]:
    answers = {
        name: [process.answer(path, folder / "answer.npz") for _, path in held_out]
        for name, process in processes.items()
    }
    timed = held_out[-1][1]
    for process in processes.values():
        process.seconds(timed)  # engines prepare for a shape when they first see it
        if is_realtime:
            _give_priority(process.pid)
    taken = interleave(
        {name: partial(_turn, process, timed) for name, process in processes.items()},
        rounds,
        lambda line: print(line, file=sys.stderr, flush=True),
    )
    reference = next(iter(taken))
    for name, nanoseconds in taken.items():
        ratio = Ratio.of(taken[reference], nanoseconds)
        must, aim = (
            (subject.must or {}).get(name.split()[1], (None, None)) if name != reference else (None, None)
        )
        proof = _proof(name, reference, answers, held_out)
        yield Row(
            f"{subject.name}: {name}, times as fast as {reference}",
            milliseconds(flat(nanoseconds)),
            milliseconds(flat(taken[reference])),
            ratio.median,
            must,
            aim,
            is_upper=False,
            spread=(ratio.lowest_round, ratio.highest_round),
            detail={"proof": proof.to_json()},
        )
        if name != reference:
            meaning = "random weights, which mean nothing: " if subject.is_random else ""
            yield Row(f"{subject.name}: {name} against {reference}", meaning + proof.summary(), "", None)


def _give_priority(pid: int) -> None:
    """Let all threads of a process run before everybody else's: on a busy machine it is the engine that is measured."""
    for thread in psutil.Process(pid).threads():
        os.sched_setscheduler(thread.id, os.SCHED_FIFO, os.sched_param(5))


def _turn(process: CandidateProcess, sample: Path) -> list[float]:
    return [process.seconds(sample) * 1e9 for _ in range(2)]


def _proof(
    name: str, reference: str, answers: dict[str, list[Any]], held_out: Sequence[tuple[Sample, Path]]
) -> Proof:
    theirs = answers[reference]
    pairs = [
        Pair(sample.name, ours, wanted)
        for (sample, _), ours, wanted in zip(held_out, answers[name], theirs, strict=True)
    ]
    criterion = Criterion.of(kind_of(theirs[0]))
    return Proof(name, Verdict.NOT_COMPARED, reference, len(pairs), len(pairs)).judged(
        criterion, judge(criterion, pairs)
    )


def run(names: Sequence[str], rounds: int, is_realtime: bool) -> list[Row]:
    """Measure these models."""
    rows: list[Row] = []
    for name in names:
        with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
            rows += measured(SUBJECTS[name], rounds, Path(folder), stack, is_realtime)
    return rows


def main() -> None:
    """Print the table, and write it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", nargs="+", choices=SUBJECTS, default=list(SUBJECTS))
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--json")
    parser.add_argument("--realtime", action="store_true", help="time with real-time priority (root)")
    given = parser.parse_args()
    bystanders = Bystanders()
    rows = run(given.models, given.rounds, given.realtime)
    print(table(rows))
    machine = describe_machine(("openvino", "nncf", "tensorflow-cpu")) | {"processor": processor()}
    print(f"\n{machine['processor']}, {machine['cores']} cores, commit {machine['commit']}")
    print(f"others used {bystanders.share():.0%} of the machine")
    if given.json:
        write_json(given.json, rows, machine, bystanders_share=bystanders.share())


if __name__ == "__main__":
    main()
