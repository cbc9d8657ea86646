"""A client process that calls one accelerator with other numbers each time and checks every answer.

It reads one JSON line (`ClientSpec`), says `ready`, calls until its standard input ends, and answers one JSON line.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from elastic_inference import EIPredictor
from elastic_inference.errors import ElasticInferenceError
from elastic_inference.models import graph_pb2

SLACK_SECONDS = 1.0
"""How much later than its deadline a call may return on a machine whose cores are all busy."""
_PAUSE_SECONDS = 0.01
_INT32 = 3  # in TensorFlow's DataType


def write_model(path: Path) -> Path:
    """Write a frozen graph that gives y = x + x for int32 of any length."""
    x = graph_pb2.NodeDef(name="x", op="Placeholder")
    x.attr["dtype"].type = _INT32
    x.attr["shape"].shape.dim.extend([graph_pb2.TensorShapeProto.Dim(size=-1)])
    y = graph_pb2.NodeDef(name="y", op="AddV2", input=["x", "x"])
    y.attr["T"].type = _INT32
    graph = graph_pb2.GraphDef(node=[x, y])
    graph.versions.producer = 1087
    path.write_bytes(graph.SerializeToString())
    return path


@dataclass(frozen=True)
class ClientSpec:
    """Whom to call, and with what.

    Attributes:
        timeout_seconds: Within which each call must be answered.
        use_shared_memory: See EIPredictor.
        max_values: Of a call, int32; its number is by chance.
    """

    address: str
    token: str
    model: str
    timeout_seconds: float
    use_shared_memory: bool
    max_values: int
    seed: int


@dataclass(frozen=True)
class Outcome:
    """What became of a client's calls.

    Attributes:
        latencies_seconds: Of those that were answered right.
        num_wrong: Answered, and wrong.
        num_late: Returned later than their deadline, whatever they said.
        errors: Texts of those that failed, with how often.
    """

    latencies_seconds: list[float]
    num_wrong: int
    num_late: int
    errors: dict[str, int]


class ClientProcess:
    """The client as the storm holds it."""

    def __init__(self, spec: ClientSpec) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.storm.client"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(asdict(spec)) + "\n")
        self._process.stdin.flush()
        self._read()

    @property
    def pid(self) -> int:
        """Its process."""
        return self._process.pid

    def end(self) -> Outcome:
        """End the calls; what became of them."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        outcome = Outcome(**json.loads(self._read()))
        self._process.wait(60)
        return outcome

    def kill(self) -> None:
        """End it at once; twice is fine."""
        self._process.kill()
        self._process.wait()

    def _read(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"a client ended with status {self._process.wait()}")
        return line


def call_until(ended: threading.Event, predictor: Any, spec: ClientSpec) -> Outcome:
    """Call and check until `ended`."""
    dice = np.random.default_rng(spec.seed)
    latencies: list[float] = []
    num_wrong = num_late = 0
    errors: Counter[str] = Counter()
    while not ended.wait(_PAUSE_SECONDS):
        x = dice.integers(-(1 << 30), 1 << 30, dice.integers(1, spec.max_values), dtype=np.int32)
        started_at = time.monotonic()
        try:
            y = predictor({"x": x})["y"]
        except ElasticInferenceError as error:
            errors[f"{type(error).__name__}: {error}"[:300]] += 1
        else:
            is_right = np.array_equal(y, 2 * x)
            num_wrong += not is_right
            if is_right:
                latencies.append(time.monotonic() - started_at)
        num_late += time.monotonic() - started_at > spec.timeout_seconds + SLACK_SECONDS
    return Outcome(latencies, num_wrong, num_late, dict(errors))


def main() -> None:
    """Serve one ClientProcess."""
    spec = ClientSpec(**json.loads(sys.stdin.readline()))
    with EIPredictor(
        spec.model,
        input_names={"x": "x:0"},
        output_names={"y": "y:0"},
        address=spec.address,
        token=spec.token,
        timeout_seconds=spec.timeout_seconds,
        use_shared_memory=spec.use_shared_memory,
    ) as predictor:
        ended = threading.Event()

        def wait() -> None:
            sys.stdin.read()
            ended.set()

        threading.Thread(target=wait, daemon=True).start()
        print("ready", flush=True)
        print(json.dumps(asdict(call_until(ended, predictor, spec))), flush=True)


if __name__ == "__main__":
    main()
