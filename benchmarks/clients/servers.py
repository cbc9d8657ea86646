"""Both servers with a model that computes nothing: it gives back `x`, uint8 of any number of rows of any length."""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.error import URLError
from urllib.request import Request, urlopen

from benchmarks.clients import environment
from elastic_inference import EIPredictor
from elastic_inference.testing import start_accelerator, write_model

MODEL = "echo"
_START_SECONDS = 60.0
_CONFIG = """name: "echo"
backend: "python"
max_batch_size: 64
input [ { name: "x" data_type: TYPE_UINT8 dims: [ -1 ] } ]
output [ { name: "x" data_type: TYPE_UINT8 dims: [ -1 ] } ]
instance_group [ { kind: KIND_CPU count: 1 } ]
"""
_MODEL = """import triton_python_backend_utils as triton

class TritonPythonModel:
    def execute(self, requests):
        given = [triton.get_input_tensor_by_name(request, "x").as_numpy() for request in requests]
        return [triton.InferenceResponse([triton.Tensor("x", array)]) for array in given]
"""


@dataclass(frozen=True)
class Served:
    """Where a server answers.

    Attributes:
        http, grpc: `host:port`.
        headers: What each request carries.
    """

    name: str
    http: str
    grpc: str
    headers: tuple[str, ...] = ()


@contextlib.contextmanager
def ours() -> Iterator[Served]:
    """An accelerator with the testing engine; HTTP and gRPC share its port."""
    tensor = {"x": ("uint8", (None, None))}
    with tempfile.TemporaryDirectory() as folder, start_accelerator() as accelerator:
        model = write_model(Path(folder) / "echo.testing", tensor, tensor)
        with EIPredictor(str(model), address=accelerator.address, token=accelerator.token, name=MODEL):
            address = accelerator.address.removeprefix("tcp:")
            served = Served("ours", address, address, (f"authorization: Bearer {accelerator.token}",))
            _check(served)
            yield served


@contextlib.contextmanager
def triton() -> Iterator[Served]:
    """Triton 2.51 with its python backend, whose model is one process; RuntimeError where it does not start."""
    with tempfile.TemporaryDirectory() as folder:
        version = Path(folder) / "models" / MODEL / "1"
        version.mkdir(parents=True)
        (version / "model.py").write_text(_MODEL)
        (version.parent / "config.pbtxt").write_text(_CONFIG)
        http, grpc = _free_port(), _free_port()
        command = [
            environment.TRITON, "--model-repository", version.parents[1], "--backend-directory", environment.BACKENDS,
            "--http-address", "127.0.0.1", "--http-port", str(http),
            "--grpc-address", "127.0.0.1", "--grpc-port", str(grpc), "--allow-metrics", "false",
        ]  # fmt: skip
        log = Path(folder) / "log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                command, stdout=output, stderr=subprocess.STDOUT, env=environment.environ()
            )
        try:
            _wait_until_ready(process, http, log)
            served = Served("triton", f"127.0.0.1:{http}", f"127.0.0.1:{grpc}")
            _check(served)
            yield served
        finally:
            process.terminate()
            process.wait()


def _check(served: Served) -> None:
    """Raise RuntimeError unless the model gives back its input, which perf_analyzer does not look at."""
    given = {"name": "x", "datatype": "UINT8", "shape": [1, 3], "data": [1, 2, 3]}
    headers = dict(header.split(": ", 1) for header in served.headers)
    url = f"http://{served.http}/v2/models/{MODEL}/infer"
    with urlopen(Request(url, json.dumps({"inputs": [given]}).encode(), headers), timeout=30) as answer:
        outputs = json.loads(answer.read())["outputs"]
    if outputs != [given]:
        raise RuntimeError(f"{served.name} answers {outputs}, not {given}")


def _wait_until_ready(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    end = time.monotonic() + _START_SECONDS
    while time.monotonic() < end and process.poll() is None:
        with (
            contextlib.suppress(URLError, ConnectionError),
            urlopen(f"http://127.0.0.1:{port}/v2/health/ready", timeout=5) as answer,
        ):
            if answer.status == 200:
                return
        time.sleep(0.1)
    raise RuntimeError(f"Triton did not start: {log.read_text()[-2000:]}")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
