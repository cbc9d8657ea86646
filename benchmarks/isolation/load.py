"""A client process that loads one accelerator as it is told, and says what came back.

It reads one JSON line (`LoadSpec`), says `ready`, then for each line `run SECONDS` loads the accelerator for so long
and answers one JSON line. Open-loop latencies count from the intended start of a request, so that no stall is left out.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from elastic_inference import EIPredictor
from elastic_inference.errors import ElasticInferenceError


@dataclass(frozen=True)
class LoadSpec:
    """What to load.

    Attributes:
        model: Path.
        inputs: alias -> tensor name, and the same for outputs; empty for a model with signatures.
        dtype, shape: Of the one input.
        specs: alias -> dtype and sizes, for a model of TorchScript.
        threads: Requests at once.
        rate: Requests a second over all threads, from an even schedule; None: as many as will go.
        is_remote: The process stands for one on another machine, which would not wait here for a core: it runs before
            all others (nice -20, root only).
    """

    address: str
    token: str
    model: str
    inputs: dict[str, str]
    outputs: dict[str, str]
    dtype: str
    shape: tuple[int, ...]
    threads: int = 1
    rate: float | None = None
    is_remote: bool = False
    timeout_seconds: float = 60.0
    specs: dict[str, str] | None = None


class LoadProcess:
    """The client process as the benchmark holds it."""

    def __init__(self, spec: LoadSpec) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.isolation.load"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._write(json.dumps(asdict(spec)))
        self._read()

    def begin(self, seconds: float) -> None:
        """Start a run; `end` waits for it."""
        self._write(f"run {seconds}")

    def end(self) -> dict[str, Any]:
        """What the run gave: `latencies_seconds`, `inside_seconds` (queue and service), `num_failed` and so on."""
        return json.loads(self._read())

    def run(self, seconds: float) -> dict[str, Any]:
        """Start a run and wait for it."""
        self.begin(seconds)
        return self.end()

    def kill(self) -> None:
        """Break off whatever runs."""
        self._process.kill()
        self._process.wait()

    def close(self) -> None:
        """End the process; closing twice is fine."""
        if self._process.poll() is None:
            self._process.stdin.close()
            self._process.wait(60)
            self._process.stdout.close()

    def _write(self, line: str) -> None:
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()

    def _read(self) -> str:
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the load process ended with status {self._process.wait()}")
        return line


class _Load:
    def __init__(self, spec: LoadSpec, predictor: EIPredictor) -> None:
        self._spec = spec
        self._predictor = predictor
        alias = next(iter(predictor.feed_tensors))
        values = np.random.default_rng(1).random(spec.shape) * (255 if spec.dtype == "uint8" else 1)
        self._inputs = {alias: values.astype(spec.dtype)}
        self._expected = predictor(self._inputs)
        self._lock = threading.Lock()

    def run(self, seconds: float) -> dict[str, Any]:
        self._latencies: list[float] = []
        self._inside: list[float] = []
        self._errors: list[str] = []
        self._num_wrong = self._next = 0
        self._start = time.monotonic()
        self._end = self._start + seconds
        threads = [threading.Thread(target=self._work) for _ in range(self._spec.threads)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return {
            "latencies_seconds": self._latencies,
            "inside_seconds": self._inside,
            "num_failed": len(self._errors),
            "num_wrong": self._num_wrong,
            "errors": sorted(set(self._errors))[:5],
        }

    def _work(self) -> None:
        while (start := self._next_start()) < self._end:
            try:
                outputs, timing = self._predictor.predict_timed(self._inputs)
            except ElasticInferenceError as error:
                with self._lock:
                    self._errors.append(f"{type(error).__name__}: {error}")
                continue
            latency = time.monotonic() - start
            is_right = all(np.allclose(outputs[k], v, atol=1e-4) for k, v in self._expected.items())
            with self._lock:
                self._latencies.append(latency)
                self._inside.append(timing.queue_seconds + timing.service_seconds)
                self._num_wrong += not is_right

    def _next_start(self) -> float:
        if self._spec.rate is None:
            return time.monotonic()
        with self._lock:
            start = self._start + self._next / self._spec.rate
            self._next += 1
        time.sleep(max(0.0, min(start, self._end) - time.monotonic()))
        return start


def _run_first() -> None:
    os.setsid()  # a session of its own, whose priority counts where the kernel groups processes by session
    os.setpriority(os.PRIO_PROCESS, 0, -20)
    with contextlib.suppress(OSError):
        Path("/proc/self/autogroup").write_text("-20")


def main() -> None:
    """Serve one LoadProcess."""
    spec = LoadSpec(**json.loads(sys.stdin.readline()))
    if spec.is_remote:
        _run_first()
    with EIPredictor(
        spec.model,
        input_names=spec.inputs or None,
        output_names=spec.outputs or None,
        address=spec.address,
        token=spec.token,
        timeout_seconds=spec.timeout_seconds,
        input_specs=spec.specs,
    ) as predictor:
        load = _Load(spec, predictor)
        print("ready", flush=True)
        for line in sys.stdin:
            print(json.dumps(load.run(float(line.split()[1]))), flush=True)


if __name__ == "__main__":
    main()
