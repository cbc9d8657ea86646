"""What becomes of a tenant whose neighbour asks for too much memory, or is killed."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator

import numpy as np

from benchmarks.common import Row
from benchmarks.gpu import models
from benchmarks.gpu.setting import Setting, Type, attached, clients, gpu_host
from benchmarks.gpu.shares import BATCHES, SMALL_BATCHES, THREADS
from benchmarks.isolation.hosts import process_number
from benchmarks.isolation.load import LoadProcess
from elastic_inference import EIPredictor
from elastic_inference.client.host_session import Attachment
from elastic_inference.errors import MemoryQuotaExceeded

OWN, NEIGHBOUR = Type(0.5, device_memory="8GiB"), Type(0.25, device_memory="4GiB")
TOO_MUCH_MEBIBYTES = 8 << 10


def rows(setting: Setting) -> Iterator[Row]:
    """Out of memory, then killed."""
    small, large = SMALL_BATCHES if setting.is_small else BATCHES
    light, heavy = models.classifier(setting, small), models.classifier(setting, large)
    with (
        gpu_host(setting, OWN, NEIGHBOUR) as host,
        attached(host, OWN, NEIGHBOUR) as (own, neighbour),
        clients((own, light, {"threads": 1}), (neighbour, heavy, {"threads": THREADS})) as (client, busy),
    ):
        client.run(1)
        yield _out_of_memory(setting, neighbour, client)
        yield _killed(setting, neighbour, client, busy)


def _out_of_memory(setting: Setting, neighbour: Attachment, client: LoadProcess) -> Row:
    pid = process_number(neighbour)
    with EIPredictor(
        models.hungry(setting),
        input_specs={"x": "int64:1"},
        address=neighbour.usable_endpoints()[0],
        token=neighbour.token,
    ) as predictor:
        client.begin(4)
        said = "NO ERROR"
        try:
            predictor({"x": np.array([TOO_MUCH_MEBIBYTES])})
        except MemoryQuotaExceeded as error:
            said = f"asked {error.requested_bytes / 2**30:.2f}, limit {error.limit_bytes / 2**30:.2f} GiB"
        answer = float(predictor({"x": np.array([64])})["out"])
        result = client.end()
    lives = process_number(neighbour) == pid and answer == 64
    bad = result["num_failed"] + result["num_wrong"]
    return Row(
        "neighbour asks for 8 GiB: wrong or lost answers of the other",
        f"{bad} of {len(result['latencies_seconds'])}, slowest {max(result['latencies_seconds']) * 1e3:.1f} ms",
        f"{said}; the same process answers on: {'yes' if lives else 'NO'}",
        float("inf") if not lives or said == "NO ERROR" else bad,
        0,
        0,
    )


def _killed(setting: Setting, neighbour: Attachment, client: LoadProcess, busy: LoadProcess) -> Row:
    pid = process_number(neighbour)
    busy.begin(3600)
    before = client.run(3)
    client.begin(6)
    time.sleep(1)
    os.kill(pid, signal.SIGKILL)
    result = client.end()
    busy.kill()
    back_seconds = _wait_answer(setting, neighbour)
    bad = result["num_failed"] + result["num_wrong"]
    slowest = max(result["latencies_seconds"])
    return Row(
        "saturating neighbour killed (-9): longest answer of the other, s",
        f"{slowest:.3f} s, {bad} of {len(result['latencies_seconds'])} wrong or lost",
        f"before: {max(before['latencies_seconds']):.3f} s; process {pid} became {process_number(neighbour)}, which "
        f"answered {back_seconds:.1f} s after it was asked",
        float("inf") if bad else slowest,
        1.0,
        0.1,
    )


def _wait_answer(setting: Setting, neighbour: Attachment) -> float:
    """Seconds until the accelerator that was started again has loaded a model and answered."""
    began = time.monotonic()
    with EIPredictor(
        models.hungry(setting),
        input_specs={"x": "int64:1"},
        address=neighbour.usable_endpoints()[0],
        token=neighbour.token,
    ) as predictor:
        predictor({"x": np.array([1])})
    return time.monotonic() - began
