"""Coordinated omission: what a stall of 1 s every 20 s does to the p99 reported by an open and by a closed loop.

Run: python -m benchmarks.explorer.omission [--seconds 240] [-o omission.json]

A real accelerator process serves a model that takes 20 ms and stalls for 1 s once in 20 s. The explorer's open
loop sends evenly, at half of what it serves; a closed loop sends the next request when the last is answered. The
true p99 comes from the same arrivals through an exact single-server queue of that service time and those stalls,
over a hundred periods, so that it does not depend on where this run began.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

import numpy as np

from elastic_inference.client.predictor import EIPredictor
from elastic_inference.explorer.measuring.arrivals import constant_offsets, run_open_loop
from elastic_inference.percentiles import percentile
from elastic_inference.testing import start_accelerator, write_model
from elastic_inference.testing.engine import register

SERVICE_SECONDS, STALL_SECONDS, EVERY_SECONDS = 0.02, 1.0, 20.0
RATE_PER_SECOND = 25.0
P99_LIMIT = 0.10


def true_latencies(service_seconds: float, periods: int = 100) -> list[float]:
    """Latencies of evenly spaced arrivals at one server that stalls as the testing engine does."""
    latencies, free_at, next_stall = [], 0.0, EVERY_SECONDS
    for arrival in constant_offsets(RATE_PER_SECOND):
        if arrival > periods * (EVERY_SECONDS + STALL_SECONDS):
            return latencies
        end = max(arrival, free_at) + service_seconds
        if end >= next_stall:  # the engine looks at the clock after its work, then stalls
            end += STALL_SECONDS
            next_stall = end + EVERY_SECONDS
        free_at = end
        latencies.append(end - arrival)
    raise AssertionError("arrivals do not end")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--seconds", type=float, default=240.0, help="of the open loop, and as long for the closed"
    )
    parser.add_argument("-o", "--output", type=Path)
    arguments = parser.parse_args()
    register()
    with tempfile.TemporaryDirectory() as folder, start_accelerator() as accelerator:
        model = write_model(
            Path(folder) / "stalling.testing",
            inputs={"inputs": ("float32", (None,))},
            wait_seconds=SERVICE_SECONDS,
            stall_seconds=STALL_SECONDS,
            stall_every_seconds=EVERY_SECONDS,
        )
        inputs = {"inputs": np.zeros(1, np.float32)}
        with EIPredictor(
            model, address=accelerator.address, token=accelerator.token, engine="testing"
        ) as predictor:
            quick = [predictor.predict_timed(inputs)[1].latency_seconds for _ in range(50)]
            service_seconds = percentile(quick, 0.5)
            count = int(arguments.seconds * RATE_PER_SECOND)
            run = run_open_loop(
                lambda: predictor(inputs), constant_offsets(RATE_PER_SECOND), lambda seen: len(seen) >= count
            )
            closed, end = [], time.perf_counter() + arguments.seconds
            while time.perf_counter() < end:
                closed.append(predictor.predict_timed(inputs)[1].latency_seconds)
    true = percentile(true_latencies(service_seconds), 0.99)
    opened, shut = percentile(run.latencies_seconds, 0.99), percentile(closed, 0.99)
    error = opened / true - 1
    rows = {
        "requests": len(run.latencies_seconds),
        "service_ms": service_seconds * 1e3,
        "true_p99_ms": true * 1e3,
        "open_loop_p99_ms": opened * 1e3,
        "open_loop_error_share": error,
        "closed_loop_p99_ms": shut * 1e3,
        "closed_loop_times_too_low": true / shut,
        "schedule_delay_p99_ms": percentile(run.delays_seconds, 0.99) * 1e3,
        "holds": abs(error) <= P99_LIMIT,
    }
    for name, value in rows.items():
        print(f"{name:28} {value if isinstance(value, bool | int) else f'{value:.4g}'}")
    if arguments.output is not None:
        arguments.output.write_text(json.dumps(rows, indent=1) + "\n")
    return 0 if rows["holds"] else 1


if __name__ == "__main__":
    raise SystemExit(main())
