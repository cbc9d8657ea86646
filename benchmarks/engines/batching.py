"""Requests that wait together: 8 clients and 1 client, with batching and without, beside the bare engine's batches.

`python -m benchmarks.engines.batching [--quick] [--lone] [--real-time] [--json FILE]`. One accelerator has each model
twice, batched and not; both take turns with the bare engine in this process, which shows what a batch can save at all.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

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
    take_the_machine,
    write_json,
)
from benchmarks.engines import onnx_models
from elastic_inference import Accelerator, EIPredictor, LoadOptions
from elastic_inference.engines import select
from elastic_inference.engines.base import EngineOptions
from elastic_inference.models.package import ModelPackage
from elastic_inference.models.signature import SignatureRequest
from elastic_inference.percentiles import percentile

NUM_CLIENTS = 8
THREADS = 2
MODES = {
    "auto": LoadOptions(batching="auto"),
    "off": LoadOptions(batching="off"),
    "no delay": LoadOptions(batching="auto", max_batch_delay_seconds=0),
}
BATCHES = (1, NUM_CLIENTS)
TRIAL_SECONDS = 120.0
LONE_SECONDS, LONE_TURNS = (
    0.2,
    5,
)  # of a client alone: short turns and many, because p99 is what the machine's moods make


@dataclass(frozen=True)
class Subject:
    """One model: its file, the shape of one row, and the names of tensors that a frozen graph asks for."""

    name: str
    path: Path
    row: tuple[int, ...]
    names: dict[str, Any] = field(default_factory=dict)

    def rows(self, num_rows: int, seed: int = 0) -> npt.NDArray[Any]:
        """Made-up values of the input."""
        return np.random.default_rng(seed).random((num_rows, *self.row), np.float32)

    @property
    def alias(self) -> str:
        """Of the input."""
        return next(iter(self.names["input_names"])) if self.names else "x"


def subjects(folder: Path) -> Iterator[Subject]:
    """The models, those of the shared assets only where they are there."""
    yield Subject("dense layers (67 MB of weights)", onnx_models.dense(folder / "dense.onnx"), (2048,))
    efficientnet = shared_asset("assets/models/efficientnet_lite0_imagenet.pb")
    if efficientnet is not None:
        names = {"input_names": {"images": "images:0"}, "output_names": {"probs": "probs:0"}}
        yield Subject("efficientnet_lite0", efficientnet, (224, 224, 3), names)
    yield Subject("ResNet-50", onnx_models.resnet50(folder / "resnet50.onnx"), (3, 224, 224))


def rows(is_quick: bool, *, is_real_time: bool = False, is_lone: bool = False) -> list[Row]:
    """Four rows for each model, or that of the lone client alone."""
    found: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        for subject in subjects(Path(folder)):
            found += _rows_of(subject, *(2, 1.0) if is_quick else (8, 3.0), is_real_time, is_lone)
            print(table(found), file=sys.stderr, flush=True)
    return found


def _rows_of(
    subject: Subject, num_rounds: int, seconds: float, is_real_time: bool, is_lone: bool
) -> list[Row]:
    with ExitStack() as stack:
        predictors = {}
        place = Accelerator.embedded(threads=THREADS)
        for mode, load in MODES.items():
            load = replace(load, proof="off", warm_up={subject.alias: (1, *subject.row)})
            predictor = EIPredictor(subject.path, accelerator=place, load=load, **subject.names)
            predictors[mode] = stack.enter_context(predictor)
        said = {mode: _tried(predictors[mode], subject) for mode in MODES if mode != "off"}
        if is_real_time:
            take_the_machine()
        lone = {mode: partial(_latencies, predictors[mode], subject) for mode in MODES}
        alone = interleave(lone, num_rounds * LONE_TURNS)
        if is_lone:
            return [_alone(subject, alone)]
        crowds = {mode: partial(_throughput, predictors[mode], subject, seconds) for mode in MODES}
        many = interleave(crowds, num_rounds)
    bare = interleave({str(size): _bare(subject, size) for size in BATCHES}, num_rounds)
    limit = _limit(subject, bare)
    return [
        _many(subject, many, "auto", said, limit),
        _many(subject, many, "no delay", said, limit),
        _alone(subject, alone),
        limit,
    ]


def _tried(predictor: EIPredictor, subject: Subject) -> str:
    """Let the accelerator find out what a batch is worth; what it then says."""
    deadline = time.monotonic() + TRIAL_SECONDS
    while time.monotonic() < deadline:
        _throughput(predictor, subject, 0.5)
        said = predictor.report_now().batching
        if "yet" not in said and "being tried" not in said:
            return said
    raise TimeoutError(f"no trial of {subject.name} ended in {TRIAL_SECONDS:.0f} s")


def _throughput(predictor: EIPredictor, subject: Subject, seconds: float) -> list[float]:
    """Predictions a second of all clients, each of which calls again when it has its answer."""
    end = threading.Event()

    def client(seed: int) -> int:
        inputs, num_calls = {subject.alias: subject.rows(1, seed)}, 0
        while not end.is_set():
            predictor(inputs)
            num_calls += 1
        return num_calls

    began = time.monotonic()
    with ThreadPoolExecutor(NUM_CLIENTS) as threads:
        clients = [threads.submit(client, seed) for seed in range(NUM_CLIENTS)]
        end.wait(seconds)
        end.set()
    return [sum(one.result() for one in clients) / (time.monotonic() - began)]


def _latencies(predictor: EIPredictor, subject: Subject) -> list[float]:
    """Nanoseconds of a few calls that meet nobody else's."""
    inputs, taken = {subject.alias: subject.rows(1)}, []
    end = time.monotonic() + LONE_SECONDS
    predictor(inputs)
    while not taken or time.monotonic() < end:
        began = time.perf_counter_ns()
        predictor(inputs)
        taken.append(float(time.perf_counter_ns() - began))
    return taken


def _bare(subject: Subject, size: int) -> Callable[[], list[float]]:
    """A turn of the engine by itself: nanoseconds a row in batches of this size."""
    request = SignatureRequest(**subject.names)
    model = select.load(
        ModelPackage.read(subject.path), request, EngineOptions("openvino", num_threads=THREADS)
    )
    inputs = {subject.alias: subject.rows(size)}

    def turn() -> list[float]:
        taken = []
        model.predict(inputs)
        for _ in range(4 * NUM_CLIENTS // size):
            began = time.perf_counter_ns()
            model.predict(inputs)
            taken.append((time.perf_counter_ns() - began) / size)
        return taken

    return turn


def _many(
    subject: Subject, many: dict[str, list[list[float]]], mode: str, said: dict[str, str], limit: Row
) -> Row:
    ratio = Ratio.of(many[mode], many["off"])
    is_shown = mode != "auto"
    waiting = " (none waiting for others)" if is_shown else ""
    return Row(
        f"{subject.name}, {NUM_CLIENTS} clients: predictions/s with batching{waiting} : without "
        f"(the engine's own gain in a batch: {limit.ratio:.2f})",
        f"{np.median(flat(many[mode])):.1f}/s",
        f"{np.median(flat(many['off'])):.1f}/s",
        ratio.median,
        None if is_shown else 1.2,
        None if is_shown else 1.5,
        is_upper=False,
        spread=(ratio.lowest_round, ratio.highest_round),
        detail={"batching": said[mode]},
    )


def _alone(subject: Subject, alone: dict[str, list[list[float]]]) -> Row:
    high = {mode: percentile(flat(alone[mode]), 0.99) for mode in MODES}
    texts = [f"{high[mode] / 1e6:.3g} ms, median {milliseconds(flat(alone[mode]))}" for mode in MODES]
    return Row(
        f"{subject.name}, 1 client: p99 with batching : without",
        texts[0],
        texts[1],
        high["auto"] / high["off"],
        1.05,
        1.0,
        detail={"calls": len(flat(alone["auto"])), "high": high},
    )


def _limit(subject: Subject, bare: dict[str, list[list[float]]]) -> Row:
    alone, together = (bare[str(size)] for size in BATCHES)
    ratio = Ratio.of(alone, together)
    return Row(
        f"{subject.name}, bare OpenVINO: a row alone : a row in a batch of {NUM_CLIENTS} (the limit of the first)",
        milliseconds(flat(alone)),
        milliseconds(flat(together)),
        ratio.median,
        spread=(ratio.lowest_round, ratio.highest_round),
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="short runs, to see that all works")
    parser.add_argument(
        "--lone", action="store_true", help="only the client alone, for a machine that is quiet"
    )
    parser.add_argument("--json", help="write rows and machine to this file")
    parser.add_argument(
        "--real-time", action="store_true", help="go before all other processes while measuring (root)"
    )
    options = parser.parse_args()
    bystanders = Bystanders()
    found = rows(options.quick, is_real_time=options.real_time, is_lone=options.lone)
    print(table(found))
    for row in found:
        if "batching" in row.detail:
            print(f"- {row.measure.split(',')[0]}: {row.detail['batching']}")
    print(f"Other processes used {bystanders.share():.0%} of the cores meanwhile.")
    if options.json:
        write_json(options.json, found, describe_machine(["openvino"]), bystanders_share=bystanders.share())


if __name__ == "__main__":
    main()
