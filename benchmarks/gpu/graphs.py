"""What CUDA graphs make of small requests: the engine with and without them, in this process, by turns."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from benchmarks.common import Ratio, Row, flat, interleave, milliseconds
from benchmarks.gpu import models
from benchmarks.gpu.setting import Setting
from elastic_inference import settings
from elastic_inference.engines import select
from elastic_inference.engines.base import EngineOptions, LoadedModel
from elastic_inference.models.package import ModelPackage
from elastic_inference.models.signature import SignatureRequest

ROUNDS, CALLS_A_TURN = 5, 8


def rows(setting: Setting) -> Iterator[Row]:
    """Batches of 1 and 8, in fp32 and TF32."""
    for batch in (1,) if setting.is_small else (1, 8):
        spec = models.classifier(setting, batch)
        images = np.random.default_rng(0).integers(0, 255, spec["shape"], np.uint8)
        for precision in ("fp32",) if setting.is_small else ("fp32", "tf32"):
            yield _row(setting, Path(spec["model"]), images, precision)


def _row(setting: Setting, path: Path, images: np.ndarray, precision: str) -> Row:
    with contextlib.ExitStack() as stack:
        plain, graphed = (
            stack.enter_context(contextlib.closing(_load(setting, path, precision, wanted)))
            for wanted in ("off", "on")
        )
        for _ in range(CALLS_A_TURN):  # the graph is recorded meanwhile
            off, on = plain.predict({"x": images})["out"], graphed.predict({"x": images})["out"]
        taken = interleave({"off": _turn(plain, images), "on": _turn(graphed, images)}, ROUNDS)
        said = " ".join(graphed.report.notes) or "nothing was tried on this device"
    ratio = Ratio.of(taken["on"], taken["off"])
    return Row(
        f"classifier .pt2, batch {len(images)}, {precision}: engine with CUDA graphs : without",
        f"{milliseconds(flat(taken['on']))}; answers differ by at most {float(np.abs(on - off).max()):.1g}",
        f"{milliseconds(flat(taken['off']))}; {said}",
        ratio.median,
        spread=(ratio.lowest_round, ratio.highest_round),
    )


def _load(setting: Setting, path: Path, precision: str, wanted: str) -> LoadedModel:
    os.environ[settings.CUDA_GRAPHS.name] = wanted  # of this process, which is of this row alone
    options = EngineOptions(device=setting.device, precision=precision)
    return select.load(ModelPackage.read(path), SignatureRequest(), options)


def _turn(model: LoadedModel, images: np.ndarray) -> Callable[[], list[float]]:
    def turn() -> list[float]:
        seconds = []
        for _ in range(CALLS_A_TURN):
            started = time.perf_counter_ns()
            model.predict({"x": images})
            seconds.append(float(time.perf_counter_ns() - started))
        return seconds

    return turn
