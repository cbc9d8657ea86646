"""The rows on the predictor's own Python: what a call costs beyond the wire, and that it copies no frame.

Two cuts are shown. "Beyond the wire" is the predictor's own work: checks, casts, dictionaries; everything that
speaks the protocol is the wire. "Beyond the sockets" also counts the protocol's Python on the client's side, and so
everything but the kernel.
"""

from __future__ import annotations

import statistics
import tempfile
import time
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import Row, Summary
from benchmarks.dataplane.loopback import Effort
from benchmarks.dataplane.payloads import PAYLOADS, SHAPES
from elastic_inference import EIPredictor
from elastic_inference.client.remote import RemoteModel
from elastic_inference.protocol.stream import Stream
from elastic_inference.testing import start_accelerator, write_model

_COUNTS = {"small": 4_000, "frame": 600}


class _TimeIn:
    """Adds up the time in some methods of a class, while it is installed."""

    def __init__(self, cls: type, *names: str) -> None:
        self.ns = 0
        self._cls = cls
        self._originals = {name: getattr(cls, name) for name in names}

    def __enter__(self) -> _TimeIn:
        for name, original in self._originals.items():
            setattr(self._cls, name, self._timed(original))
        return self

    def __exit__(self, *_: object) -> None:
        for name, original in self._originals.items():
            setattr(self._cls, name, original)

    def _timed(self, original: Any) -> Any:
        def call(*arguments: Any) -> Any:
            start = time.perf_counter_ns()
            try:
                return original(*arguments)
            finally:
                self.ns += time.perf_counter_ns() - start

        return call


def overhead_rows(effort: Effort) -> list[Row]:
    """Microseconds of Python per call, and the largest allocation of a call with a frame."""
    rows = []
    with tempfile.TemporaryDirectory() as folder, start_accelerator(use_shared_memory=False) as accelerator:
        for case in ("small", "frame"):
            inputs_spec = {"image": ("uint8", tuple(None for _ in SHAPES[case]))}
            model = write_model(Path(folder) / f"{case}.testing", inputs_spec, {"answer": ("float32", (1,))})
            inputs = {"image": np.frombuffer(PAYLOADS[case], np.uint8).reshape(SHAPES[case])}
            with EIPredictor(
                str(model), address=accelerator.address, token=accelerator.token, warm_up=False
            ) as predictor:
                count = effort.count(_COUNTS[case])
                wire = _TimeIn(RemoteModel, "predict")
                rows.append(_time_row(case, "wire", wire, predictor, inputs, count))
                sockets = _TimeIn(Stream, "send", "_receive")
                rows.append(_time_row(case, "sockets", sockets, predictor, inputs, count))
                if case == "frame":
                    rows.append(_copy_row(predictor, inputs))
    return rows


def _time_row(
    case: str, beyond_what: str, part: _TimeIn, predictor: EIPredictor, inputs: dict[str, Any], count: int
) -> Row:
    beyond, whole = [], []
    with part:
        for index in range(count + 50):
            part.ns = 0
            start = time.perf_counter_ns()
            predictor(inputs)
            elapsed = time.perf_counter_ns() - start
            if index >= 50:
                beyond.append((elapsed - part.ns) / 1e3)
                whole.append(elapsed / 1e3)
    summary = Summary.of(beyond)
    return Row(
        f"Python of a call beyond the {beyond_what}, {'1 KB' if case == 'small' else 'frame'}, in microseconds",
        f"{summary.median:.1f} us ({summary.p10:.1f}-{summary.p90:.1f})",
        f"whole call {statistics.median(whole):.0f} us",
        summary.median,
        30.0 if beyond_what == "wire" else None,
        detail={"beyond_us": summary},
    )


def _copy_row(predictor: EIPredictor, inputs: dict[str, Any]) -> Row:
    predictor(inputs)
    tracemalloc.start()
    predictor(inputs)  # what tracing itself needs at first
    tracemalloc.reset_peak()
    before = tracemalloc.get_traced_memory()[0]
    predictor(inputs)
    peak = tracemalloc.get_traced_memory()[1] - before
    tracemalloc.stop()
    size = inputs["image"].nbytes
    return Row(
        "memory that a call with a frame allocates at its peak : the frame (no copy)",
        f"{peak:,} bytes",
        f"{size:,} bytes",
        peak / size,
        0.01,
    )
