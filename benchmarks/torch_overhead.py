"""What an accelerator adds to PyTorch on the CPU: ResNet-50 through it against the bare module, on equal threads.

`python -m benchmarks.torch_overhead [--threads N] [--rounds N] [--compile] [--json FILE]`, in the environment of `make
test-torch`.
The bare module runs in this process in inference mode; through the accelerator go a .pt2 of the same module and float32
images, one call at a time. Both take turns of a few calls, and the answers are compared. The second row is the
processor time of both processes together, which others on the machine disturb less. `--compile` adds what
torch.compile, which accelerators do not use, makes of the exported program.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import psutil
import torch
import torchvision

from benchmarks.common import (
    Bystanders,
    Ratio,
    Row,
    describe_machine,
    flat,
    interleave,
    milliseconds,
    table,
    write_json,
)
from elastic_inference import EIPredictor

WARM_UP_CALLS = 3
CALLS_A_TURN = 4
MUST, AIM = 1.03, 1.01
TOLERANCE = 1e-5


def main() -> None:
    """Measure and print the row."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=1, help="of both")
    parser.add_argument("--rounds", type=int, default=20, help="turns of each")
    parser.add_argument("--model", default="resnet50", help="of torchvision.models")
    parser.add_argument(
        "--compile", action="store_true", help="torch.compile beside them; takes a minute, and g++"
    )
    parser.add_argument("--batch", type=int, default=1, help="images of 224 x 224 a call")
    parser.add_argument("--json", help="write row and machine to this file")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    module = torchvision.models.get_model(options.model, weights=None).eval()
    image = torch.rand(options.batch, 3, 224, 224)
    bystanders = Bystanders()
    with TemporaryDirectory() as folder:
        path = Path(folder, "model.pt2")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            exported = torch.export.export(module, (image,))
            torch.export.save(exported, path)
        with EIPredictor(path, num_threads=options.threads) as predictor:
            rows = _measure(module, predictor, image, options)
        if options.compile:
            rows.append(_compiled(module, exported.module(), image, options))
    print(table(rows))
    print(f"others used {bystanders.share():.0%} of the machine meanwhile")
    if options.json:
        write_json(options.json, rows, describe_machine(["torch", "torchvision"]))


def _measure(module: Any, predictor: EIPredictor, image: Any, options: argparse.Namespace) -> list[Row]:
    array, rounds = image.numpy(), options.rounds

    def bare() -> Any:
        with torch.inference_mode():
            return module(torch.from_numpy(array)).numpy()

    def ours() -> Any:
        return predictor({"x": array})["out"]

    np.testing.assert_allclose(ours(), bare(), rtol=TOLERANCE, atol=TOLERANCE)
    difference = float(np.abs(ours() - bare()).max())
    processor: dict[str, list[float]] = {"bare": [], "ours": []}
    taken = interleave(
        {"bare": _turn(bare, processor["bare"]), "ours": _turn(ours, processor["ours"])}, rounds
    )
    ratio = Ratio.of(taken["ours"], taken["bare"])
    what = f"{options.model} .pt2, batch {len(array)}, {options.threads} threads : bare torch {torch.__version__}"
    used = {name: sum(seconds) / (rounds * CALLS_A_TURN) for name, seconds in processor.items()}
    return [
        Row(
            f"{what} (answers differ by at most {difference:.1g})",
            milliseconds(flat(taken["ours"])),
            milliseconds(flat(taken["bare"])),
            ratio.median,
            MUST,
            AIM,
            spread=(ratio.lowest_round, ratio.highest_round),
        ),
        Row(
            "the same, processor time of a call",
            f"{used['ours'] * 1e3:.1f} ms",
            f"{used['bare'] * 1e3:.1f} ms",
            used["ours"] / used["bare"],
        ),
    ]


def _compiled(module: Any, program: Any, image: Any, options: argparse.Namespace) -> Row:
    def run(what: Any) -> Callable[[], Any]:
        def call() -> Any:
            with torch.inference_mode():
                return what(image)

        return call

    started = time.perf_counter()
    compiled = run(torch.compile(program))
    difference = float((compiled() - run(module)()).abs().max())
    first_seconds = time.perf_counter() - started
    taken = interleave({"bare": _turn(run(module), []), "compiled": _turn(compiled, [])}, options.rounds)
    ratio = Ratio.of(taken["compiled"], taken["bare"])
    return Row(
        f"torch.compile of the same program : bare torch (answers differ by at most {difference:.1g})",
        f"{milliseconds(flat(taken['compiled']))}, first call {first_seconds:.0f} s",
        milliseconds(flat(taken["bare"])),
        ratio.median,
        spread=(ratio.lowest_round, ratio.highest_round),
    )


def _turn(call: Callable[[], Any], processor: list[float]) -> Callable[[], list[float]]:
    """Nanoseconds of some calls, after one that is not counted; their processor time goes to `processor`."""

    def turn() -> list[float]:
        call()
        samples = []
        before = _processor_seconds()
        for _ in range(CALLS_A_TURN):
            start = time.perf_counter_ns()
            call()
            samples.append(float(time.perf_counter_ns() - start))
        processor.append(_processor_seconds() - before)
        return samples

    for _ in range(WARM_UP_CALLS):
        call()
    return turn


def _processor_seconds() -> float:
    """Of this process and of the accelerator that it started."""
    process = psutil.Process()
    return sum(sum(one.cpu_times()[:2]) for one in (process, *process.children()))


if __name__ == "__main__":
    main()
