"""Times that a host keeps: for draining, for one request, and what it bills while the machine's clock is set."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest

from elastic_inference import EIPredictor
from elastic_inference.errors import ElasticInferenceError, InvalidInput
from elastic_inference.host.accounts.catalogue import AcceleratorType
from elastic_inference.host.accounts.records import State
from elastic_inference.host.host import Host
from elastic_inference.protocol.endpoint import Endpoint
from elastic_inference.protocol.requests import request_json
from tests.host.loop_model import write_loop_model
from tests.host.support import wait_until

OpenHost = Callable[..., Host]
SMALL = AcceleratorType("small", 512 * 1024**2, device_share=0.1, usd_per_hour=Decimal("0.13"))
BURSTY = AcceleratorType("bursty", 512 * 1024**2, device_share=0.25, may_burst=True)
ENDLESS = np.array(10**15, np.int64)


@pytest.fixture
def loop(tmp_path: Path) -> Path:
    return write_loop_model(tmp_path / "loop.onnx")


def looping(loop: Path, endpoint: str, token: str, timeout_seconds: float = 250.0) -> EIPredictor:
    return EIPredictor(
        str(loop), engine="onnxruntime", address=endpoint, token=token, timeout_seconds=timeout_seconds
    )


def test_a_request_that_does_not_end_ends_with_its_process_and_others_are_served(
    open_host: OpenHost, loop: Path
) -> None:
    service = open_host(user_types=(BURSTY,), turn_limit_seconds=2.0, hang_seconds=4.0).service
    record, token = service.attach("bursty")
    endpoint = record.endpoints[0]
    with (
        looping(loop, endpoint, token) as predict,
        looping(loop, endpoint, token, timeout_seconds=10.0) as predict_for_ever,
        ThreadPoolExecutor(1) as pool,
    ):
        assert predict({"count": np.array(3, np.int64)})["sum"] == 3
        endless = pool.submit(predict_for_ever, {"count": ENDLESS})

        def was_restarted() -> bool:
            now = service.get(record.accelerator_id)
            return now.num_restarts > 0 and now.state is State.READY

        wait_until(was_restarted, "the restart")
        with pytest.raises(ElasticInferenceError):
            endless.result(30)
        assert predict({"count": np.array(4, np.int64)})["sum"] == 4
    assert service.get(record.accelerator_id).last_exit.startswith("one request ran for more than 2 s")


def test_a_turn_limit_of_nothing_is_refused(open_host: OpenHost) -> None:
    with pytest.raises(InvalidInput, match="turn limit 0 s is not above 0"):
        open_host(turn_limit_seconds=0)


def test_draining_waits_for_as_long_as_the_operator_said(open_host: OpenHost, loop: Path) -> None:
    """Beyond the 30 s that an accelerator waits by itself."""
    service = open_host(user_types=(SMALL,)).service
    record, token = service.attach("small")
    endpoint = Endpoint.parse(record.endpoints[0])
    with looping(loop, record.endpoints[0], token) as predict, ThreadPoolExecutor(2) as pool:
        steps = 2000
        began = time.monotonic()
        while time.monotonic() - began < 2.0:  # how many steps take two seconds depends on the machine
            began, steps = time.monotonic(), 2 * steps
            predict({"count": np.array(steps, np.int64)})
        count = int(steps * 40.0 / (time.monotonic() - began))
        answer = pool.submit(predict, {"count": np.array(count, np.int64)})

        def num_running() -> int:
            value = request_json(endpoint, "GET", "/v2/accelerator", token=token)
            return int(value["queue"]["num_running"])

        wait_until(lambda: num_running() == 1, "the request to run")
        service.detach(record.accelerator_id, drain_seconds=240.0)
        assert answer.result(30)["sum"] == count
    assert service.list_all() == ()


def test_a_clock_that_is_set_forward_by_six_hours_is_not_billed(
    open_host: OpenHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = open_host(user_types=(SMALL,))
    record, _ = host.service.attach("small")
    true_time = time.time
    monkeypatch.setattr(time, "time", lambda: true_time() + 6 * 3600)
    (row,) = host.service.usage()
    assert row.attached_seconds < 3600
    host.service.detach(record.accelerator_id)
    (row,) = host.service.usage()
    assert row.cost_usd is not None
    assert row.cost_usd < Decimal("0.13")
