"""One frame through a detector: the client's CPU, bare PyTorch on the device, the accelerator by both transports.

What an accelerator adds is taken apart: the engine without a process of its own, and of each call the wire, the turn
and the service; and two frames in flight, where the wire of one hides behind the other.
"""

from __future__ import annotations

import contextlib
import os
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.common import Ratio, Row, flat, interleave, milliseconds
from benchmarks.gpu import models
from benchmarks.gpu.setting import Setting, Type, attached, gpu_host
from elastic_inference import EIPredictor
from elastic_inference.client.host_session import Attachment
from elastic_inference.engines import select
from elastic_inference.engines.base import EngineOptions, LoadedModel
from elastic_inference.models.package import ModelPackage
from elastic_inference.models.signature import SignatureRequest

ROUNDS, CALLS_A_TURN = 4, 5
BARE, ENGINE = "bare torch", "its engine in this process"
Call = Callable[[], dict[str, Any]]
Turn = Callable[[], list[float]]


def rows(setting: Setting) -> Iterator[Row]:
    """Each precision through both transports beside bare torch; then the CPU."""
    path = models.detector(setting)
    import torchvision  # noqa: F401  # its operations are the detector's

    frame = np.random.default_rng(0).integers(0, 255, models.frame_shape(setting), np.uint8)
    cpu = _bare(torch.jit.load(str(path)).eval(), frame, "cpu", "fp32")
    for _ in range(3):
        reference = cpu()
    fastest: dict[str, float] = {}
    module = torch.jit.load(str(path), map_location=setting.torch_device).eval()
    kind = Type(1.0, cpu_share=0.9)
    with gpu_host(setting, kind) as host, attached(host, kind) as (one,):
        for precision in ("fp32",) if setting.is_small else ("fp32", "tf32", "bf16"):
            bare = _bare(module, frame, setting.torch_device, precision)
            with contextlib.ExitStack() as stack:
                engine = stack.enter_context(contextlib.closing(_engine(setting, path, precision)))
                calls: dict[str, Call] = {
                    BARE: bare,
                    ENGINE: lambda model=engine: model.predict({"image": frame}),
                }
                predictors = {
                    name: stack.enter_context(_predictor(setting, str(path), one, endpoint, precision))
                    for name, endpoint in _endpoints(one).items()
                }
                for name, predictor in predictors.items():
                    calls[name] = lambda predictor=predictor: predictor({"image": frame})
                yield from _compare(setting, precision, calls, reference, fastest)
                for name, predictor in predictors.items():
                    yield _apart(f"detector, {precision}, {name}", predictor, frame)
    yield from _cpu_rows(cpu, fastest)


def _endpoints(attachment: Attachment) -> dict[str, str]:
    return {
        "shared memory": next(e for e in attachment.endpoints if e.startswith("unix:")),
        "TCP": next(e for e in attachment.endpoints if e.startswith("tcp:")),
    }


def _engine(setting: Setting, path: Path, precision: str) -> LoadedModel:
    """What an accelerator computes with, as it loads it."""
    request = SignatureRequest(
        input_specs=models.detector_specs(setting), output_aliases=tuple(models.DETECTOR_OUTPUTS)
    )
    options = EngineOptions(device=setting.device, precision=precision)
    return select.load(ModelPackage.read(path), request, options)


def _apart(what: str, predictor: EIPredictor, frame: np.ndarray) -> Row:
    """Where the time of a call goes, and what a frame takes with two in flight."""
    timings = [predictor.predict_timed({"image": frame})[1] for _ in range(2 * CALLS_A_TURN)]
    queue, service = (
        statistics.median(getattr(each, name) for each in timings) * 1e3
        for name in ("queue_seconds", "service_seconds")
    )
    wire = statistics.median(each.latency_seconds for each in timings) * 1e3 - queue - service
    num_frames = 4 * CALLS_A_TURN
    frames = ({"image": frame} for _ in range(num_frames))
    started = time.perf_counter()
    for _ in predictor.map(frames, in_flight=2):
        pass
    return Row(
        f"{what}: wire, turn and service of a call",
        f"{wire:.2f} + {queue:.2f} + {service:.2f} ms",
        f"two in flight: {(time.perf_counter() - started) / num_frames * 1e3:.2f} ms a frame",
        None,
    )


def _predictor(setting: Setting, path: str, one: Attachment, address: str, precision: str) -> EIPredictor:
    return EIPredictor(
        path,
        input_specs=models.detector_specs(setting),
        output_names=models.DETECTOR_OUTPUTS,
        address=address,
        token=one.token,
        precision=precision,
    )


def _bare(module: Any, frame: np.ndarray, device: str, precision: str) -> Call:
    """The same module with the same copies, in this process."""

    def call() -> dict[str, Any]:
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = precision == "tf32"
        is_bf16 = precision == "bf16"
        with (
            torch.inference_mode(),
            torch.autocast(device.partition(":")[0], torch.bfloat16, enabled=is_bf16),
        ):
            image = torch.from_numpy(frame)
            if device != "cpu":
                image = image.pin_memory().to(device, non_blocking=True)
            return {
                name: value.cpu().numpy()
                for name, value in zip(models.DETECTOR_OUTPUTS, module(image), strict=True)
            }

    return call


def _turn(call: Call, num_calls: int = CALLS_A_TURN) -> Turn:
    def turn() -> list[float]:
        call()
        taken = []
        for _ in range(num_calls):
            started = time.perf_counter_ns()
            call()
            taken.append(float(time.perf_counter_ns() - started))
        return taken

    return turn


def _compare(
    setting: Setting,
    precision: str,
    calls: dict[str, Call],
    reference: dict[str, Any],
    fastest: dict[str, float],
) -> Iterator[Row]:
    for call in calls.values():
        for _ in range(3):
            call()
    taken = interleave({name: _turn(call) for name, call in calls.items()}, ROUNDS)
    for name, call in calls.items():
        samples = flat(taken[name])
        fastest[f"{name} {precision}"] = statistics.median(samples)
        if name == BARE:
            continue
        ratio = Ratio.of(taken[name], taken[BARE])
        yield Row(
            f"detector, {models.frame_shape(setting)} uint8, {precision}, {name} : bare torch on the device",
            f"{milliseconds(samples)}; {_agreement(call(), reference)}",
            milliseconds(flat(taken[BARE])),
            ratio.median,
            None if name == ENGINE else 1.05,
            None if name == ENGINE else 1.02,
            spread=(ratio.lowest_round, ratio.highest_round),
            detail={"bare_agreement": _agreement(calls[BARE](), reference), "num": len(samples)},
        )


def _cpu_rows(cpu: Call, fastest: dict[str, float]) -> Iterator[Row]:
    """The client's CPU over each way through the accelerator."""
    everything = torch.get_num_threads()
    for num_threads, num_calls in ((everything, 10), (2, 4)):
        torch.set_num_threads(num_threads)
        samples = _turn(cpu, num_calls)()
        for name, median in fastest.items():
            if not name.startswith("TCP"):
                continue
            is_judged = name == "TCP fp32" and num_threads == 2
            yield Row(
                f"detector, CPU fp32 with {num_threads} threads of {os.cpu_count()} cores : {name}",
                f"{median / 1e6:.3g} ms",
                f"{milliseconds(samples)}, {num_calls} calls",
                statistics.median(samples) / median,
                12 if is_judged else None,
                25 if is_judged else None,
                is_upper=False,
            )


def _agreement(found: dict[str, Any], wanted: dict[str, Any]) -> str:
    """How many of the CPU's boxes are found, and how far their scores are off at most."""
    num_found, worst = 0, 0.0
    for box, label, score in zip(wanted["boxes"], wanted["labels"], wanted["scores"], strict=True):
        overlaps = _overlaps(box, found["boxes"]) * (found["labels"] == label)
        if len(overlaps) and overlaps.max() >= 0.9:
            num_found += 1
            worst = max(worst, abs(float(found["scores"][overlaps.argmax()]) - float(score)))
    return f"{num_found} of the CPU's {len(wanted['boxes'])} boxes, scores off by {worst:.1g}"


def _overlaps(box: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Intersection over union of one box with others."""
    low, high = np.maximum(box[:2], boxes[:, :2]), np.minimum(box[2:], boxes[:, 2:])
    inner = np.clip(high - low, 0, None).prod(1)
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(1) + (box[2:] - box[:2]).prod()
    return np.asarray(inner / np.maximum(areas - inner, 1e-9))
