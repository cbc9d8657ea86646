"""What a model's picture costs: TensorFlow in this process, accelerators in each precision, and bare OpenVINO.

`python -m benchmarks.engines.compute [--quick] [--models NAME,...] [--real-time] [--json FILE]`; all with two threads,
taking turns. Bare OpenVINO runs the same graph as the accelerator, rewritten and with the same properties, beside it
the graph as it was, and the same behind a socket without a protocol, which is the least that another process can cost.
int8 is timed whether or not its answers are accepted; a row beside says whether they are.
ONNX Runtime reads no TensorFlow graphs and has no row here.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.common import (
    Bystanders,
    Ratio,
    Row,
    describe_machine,
    flat,
    interleave,
    milliseconds,
    table,
    take_the_machine,
    write_json,
)
from benchmarks.engines import bare, precision
from benchmarks.engines.subjects import BEST_PROVED, SUBJECTS, Subject
from elastic_inference import Accelerator, EIPredictor, LoadOptions
from elastic_inference.errors import ElasticInferenceError
from elastic_inference.limits.processor import processor
from elastic_inference.proof.proof import Proof

REFERENCE = "TensorFlow"
PRECISIONS = ("fp32", "bf16", "int8")
AS_IT_WAS = "bare as it was fp32"
BEHIND = "bare behind a socket"
Turn = Callable[[], list[float]]


def rows(is_quick: bool, names: str = "", *, is_real_time: bool = False) -> list[Row]:
    """Rows for each model that is there."""
    found: list[Row] = []
    for subject in SUBJECTS:
        if subject.path is None or (names and not any(name in subject.name for name in names.split(","))):
            continue
        found += _rows_of(subject, subject.path, 2 if is_quick else 6, is_real_time)
        print(table(found), file=sys.stderr, flush=True)
    return found


def _rows_of(subject: Subject, path: Path, num_rounds: int, is_real_time: bool) -> list[Row]:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ei-compute-")))
        samples = subject.samples(path)
        if not samples.held_out:
            print(f"without {subject.name}: its pictures are not in EI_SHARED", file=sys.stderr)
            return []
        local = Accelerator.local(threads=bare.THREADS)
        reference = _predictor(subject, path, local, LoadOptions(engine="tensorflow"), stack)
        frame = samples.held_out[-1].arrays
        store = folder / "store"
        try:
            precision.quantize(subject, path, samples.calibration, store, folder, bare.THREADS)
        except ElasticInferenceError as error:
            print(f"{subject.name} in int8: {error}", file=sys.stderr)
        predictors = {REFERENCE: reference}
        place = Accelerator.embedded(threads=bare.THREADS, cache_dir=str(store))
        for name in PRECISIONS:
            load = LoadOptions(engine="openvino", precision=name, proof="off", batching="off")
            try:
                predictors[f"accelerator {name}"] = _predictor(subject, path, place, load, stack)
            except ElasticInferenceError as error:
                print(f"{subject.name} in {name}: {error}", file=sys.stderr)
        proofs = precision.proofs(predictors, REFERENCE, samples.held_out)
        calls: dict[str, Callable[[], Any]] = {
            name: partial(each, frame) for name, each in predictors.items()
        }
        calls |= _bare_calls(subject, path, next(iter(frame.values())), stack)
        turns: dict[str, Turn] = {name: partial(_turn, call, subject.calls) for name, call in calls.items()}
        for turn in turns.values():
            turn()
        if is_real_time:
            take_the_machine()
        taken = interleave(turns, num_rounds, lambda line: print(line, file=sys.stderr))
    return list(_compared(subject, taken, proofs))


def _predictor(
    subject: Subject, path: Path, place: Accelerator, load: LoadOptions, stack: ExitStack
) -> EIPredictor:
    names = {"input_names": dict(subject.inputs), "output_names": dict(subject.outputs)}
    return stack.enter_context(EIPredictor(path, accelerator=place, load=load, **names))


def _compared(
    subject: Subject, taken: Mapping[str, list[list[float]]], proofs: Mapping[str, Proof]
) -> Iterator[Row]:
    detail = {"nanoseconds": taken}
    for name, proof in proofs.items():
        bounds = subject.bounds.get(name.split()[1], (None, None))
        found = _row(f"{subject.name}: {REFERENCE} : {name}", taken, REFERENCE, name, *bounds)
        yield Row(**{**vars(found), "detail": detail})
        yield precision.row(subject, name, proof)
        detail = {}
    if BEST_PROVED in subject.bounds:
        proved = [name for name, proof in proofs.items() if proof.is_passed]
        best = min(proved, key=lambda name: Ratio.of(taken[name], taken[REFERENCE]).median)
        measure = f"{subject.name}: {REFERENCE} : best proved ({best.split()[1]})"
        yield _row(measure, taken, REFERENCE, best, *subject.bounds[BEST_PROVED])
    for name in bare.HINTS:
        if not {f"accelerator {name}", f"bare {name}"} <= taken.keys():
            continue
        measure = f"{subject.name}: accelerator : bare OpenVINO, {name}"
        yield _row(measure, taken, f"accelerator {name}", f"bare {name}", 1.02, 1.005, is_upper=True)
        measure = (
            f"{subject.name}: bare OpenVINO behind a socket and shared memory : bare, {name} (the limit)"
        )
        yield _row(measure, taken, f"{BEHIND} {name}", f"bare {name}", is_upper=True)
    if AS_IT_WAS in taken:
        measure = f"{subject.name}: bare OpenVINO, graph as it was : rewritten, fp32"
        yield _row(measure, taken, AS_IT_WAS, "bare fp32")


def _row(
    measure: str,
    taken: Mapping[str, list[list[float]]],
    above: str,
    below: str,
    must: float | None = None,
    aim: float | None = None,
    is_upper: bool = False,
) -> Row:
    """Return one ratio; a speed-up has lower bounds, an overhead upper ones."""
    ratio = Ratio.of(taken[above], taken[below])
    texts = [f"{name} {milliseconds(flat(taken[name]))}" for name in (below, above)]
    spread = (ratio.lowest_round, ratio.highest_round)
    if is_upper:
        texts.reverse()
    return Row(measure, texts[0], texts[1], ratio.median, must, aim, is_upper=is_upper, spread=spread)


def _turn(call: Callable[[], Any], calls: int) -> list[float]:
    """Nanoseconds of each of some calls."""
    taken = []
    for _ in range(calls):
        began = time.perf_counter_ns()
        call()
        taken.append(float(time.perf_counter_ns() - began))
    return taken


def _bare_calls(subject: Subject, path: Path, picture: Any, stack: ExitStack) -> dict[str, Callable[[], Any]]:
    found: dict[str, Callable[[], Any] | None] = {}
    for name, hint in bare.HINTS.items():
        found[f"bare {name}"] = bare.call_of(subject, path, picture, hint)
        if found[f"bare {name}"] is not None:
            found[f"{BEHIND} {name}"] = stack.enter_context(bare.Behind(subject, picture, hint))
    if subject.bounds:  # a detector, in which there is something to rewrite
        found[AS_IT_WAS] = bare.call_of(subject, path, picture, "f32", is_rewritten=False)
    return {name: call for name, call in found.items() if call is not None}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="short runs, to see that all works")
    parser.add_argument("--models", default="", help="parts of names, of those of SUBJECTS")
    parser.add_argument("--json", help="write rows and machine to this file")
    parser.add_argument(
        "--real-time", action="store_true", help="go before all other processes while measuring (root)"
    )
    options = parser.parse_args()
    bystanders = Bystanders()
    found = rows(options.quick, options.models, is_real_time=options.real_time)
    print(table(found))
    print(f"{processor()}. Other processes used {bystanders.share():.0%} of the cores.")
    if options.json:
        machine = describe_machine(["openvino", "nncf", "tensorflow-cpu"]) | {"processor": processor()}
        write_json(options.json, found, machine, bystanders_share=bystanders.share())


if __name__ == "__main__":
    main()
