"""Two real accelerators of one device that only one may use at a time: the lease around each of their requests."""

from __future__ import annotations

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest

from elastic_inference import EIPredictor
from elastic_inference.errors import ModelError
from elastic_inference.protocol.endpoint import Endpoint
from elastic_inference.protocol.requests import request_json
from elastic_inference.testing import start_accelerator
from elastic_inference.testing.accelerator import RunningAccelerator
from elastic_inference.testing.engine import write_model
from tests.limits.lease.tenants import DEVICE, keeper, new_id
from tests.waiting import wait_until

FRAME = {"inputs": np.zeros((1, 2, 2, 3), np.uint8)}
WAIT_SECONDS = 60.0


def model(folder: Path, name: str, seconds: float, piece_seconds: float | None) -> Path:
    device = {"path": str(folder / "device"), "seconds": seconds, "piece_seconds": piece_seconds}
    return write_model(folder / f"{name}.testing", device=device)


@pytest.fixture
def pair() -> Iterator[list[RunningAccelerator]]:
    """Two accelerators that share a device half and half."""
    with keeper() as leases, ExitStack() as stack:
        yield [
            stack.enter_context(
                start_accelerator(accelerator_id=name, lease=leases.admit(name, DEVICE, 0.5, may_burst=True))
            )
            for name in (new_id(), new_id())
        ]


def predictor(accelerator: RunningAccelerator, path: Path) -> EIPredictor:
    return EIPredictor(
        str(path), address=accelerator.address, token=accelerator.token, timeout_seconds=WAIT_SECONDS
    )


def figure(accelerator: RunningAccelerator, name: str) -> float:
    """One figure of its metrics."""
    endpoint = Endpoint.parse(accelerator.address)
    text = str(request_json(endpoint, "GET", "/metrics", token=accelerator.token))
    match = re.search(rf"^elastic_inference_{name} (\S+)$", text, re.MULTILINE)
    assert match is not None, name
    return float(match[1])


def test_no_two_requests_are_on_the_device_at_once(pair: list[RunningAccelerator], tmp_path: Path) -> None:
    """The device makes a request fail that finds another process on it."""
    models = [model(tmp_path, "short", 0.002, None), model(tmp_path, "long", 0.02, 0.002)]
    with ExitStack() as stack, ThreadPoolExecutor(6) as threads:
        clients = [stack.enter_context(predictor(one, path)) for one, path in zip(pair, models, strict=True)]
        answers = [threads.submit(client, FRAME) for _ in range(40) for client in clients]
        assert all(answer.result(WAIT_SECONDS)["outputs"].tolist() == [0.0] for answer in answers)
    for one in pair:
        assert figure(one, "leases_total") >= 40
        assert figure(one, "lease_device_seconds_total") > 0


def test_without_the_lease_they_would_be(tmp_path: Path) -> None:
    path = model(tmp_path, "long", 0.2, None)
    with ExitStack() as stack, ThreadPoolExecutor(2) as threads:
        clients = [
            stack.enter_context(predictor(stack.enter_context(start_accelerator()), path)) for _ in range(2)
        ]
        answers = [threads.submit(client, FRAME) for client in clients * 2]
        errors = [answer.exception(WAIT_SECONDS) for answer in answers]
    assert any(isinstance(error, ModelError) and "another process uses" in str(error) for error in errors)


def test_a_long_request_is_interrupted_for_one_that_is_owed_the_device(
    pair: list[RunningAccelerator], tmp_path: Path
) -> None:
    paths = [model(tmp_path, "long", 5.0, 0.002), model(tmp_path, "short", 0.002, None)]
    with (
        predictor(pair[0], paths[0]) as long,
        predictor(pair[1], paths[1]) as short,
        ThreadPoolExecutor(1) as threads,
    ):
        running = threads.submit(long, FRAME)
        wait_until(lambda: figure(pair[0], "running_requests") == 1, "the long request to run")
        assert short(FRAME)["outputs"].tolist() == [0.0]
        assert not running.done()
        assert running.result(WAIT_SECONDS)["outputs"].tolist() == [0.0]
    assert figure(pair[0], "lease_cuts_total") >= 1
