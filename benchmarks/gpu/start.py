"""How long it takes until an accelerator serves and a model is loaded."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator

import numpy as np

from benchmarks.common import Row
from benchmarks.gpu import models
from benchmarks.gpu.setting import Setting, Type, attached, gpu_host
from elastic_inference import EIPredictor

KIND = Type(0.25)


def rows(setting: Setting) -> Iterator[Row]:
    """Host, attach, first and second load of the detector."""
    path = models.detector(setting)
    started = time.monotonic()
    with gpu_host(setting, KIND) as host:
        host_seconds = time.monotonic() - started
        yield Row(
            "host start until it answers",
            f"{host_seconds:.2f} s",
            str(host.status.get("users")),
            None,
            detail={"status": host.status},
        )
        times = []
        for _ in range(3):
            began = time.monotonic()
            with attached(host, KIND):
                times.append(time.monotonic() - began)
        yield Row(
            "attach on a warm host, accelerator serves",
            f"{statistics.median(times):.2f} s",
            f"3 times, {min(times):.2f}-{max(times):.2f} s",
            None,
            detail={"seconds": times},
        )
        with attached(host, KIND) as (attachment,):
            for what in (
                "first load of the detector (imports, device's context)",
                "second load, fp32 after tf32",
            ):
                precision = "fp32" if what.startswith("second") or setting.is_small else "tf32"
                yield _load(what, setting, str(path), attachment, precision)


def _load(what: str, setting: Setting, path: str, attachment: object, precision: str) -> Row:
    began = time.monotonic()
    with EIPredictor(
        path,
        input_specs=models.detector_specs(setting),
        output_names=models.DETECTOR_OUTPUTS,
        address=attachment.usable_endpoints()[0],  # type: ignore[attr-defined]
        token=attachment.token,  # type: ignore[attr-defined]
        precision=precision,
    ) as predictor:
        seconds = time.monotonic() - began
        began = time.monotonic()
        predictor({"image": np.zeros(models.frame_shape(setting), np.uint8)})
        first_seconds = time.monotonic() - began
        report = predictor.report
    return Row(
        what,
        f"{seconds:.2f} s, its first call then {first_seconds:.2f} s",
        f"load {report.load_seconds:.2f} s, warm-up {report.warm_up_seconds:.2f} s; {report.device}",
        None,
        detail=report.to_json(),
    )
