"""Accelerators whose process dies or hangs, and their clients; with real processes."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy.exc import OperationalError

from elastic_inference import EIPredictor
from elastic_inference.host.accounts.records import State
from elastic_inference.host.host import Host
from elastic_inference.host.processes.orphans import _working_below
from elastic_inference.host.service import HostService
from tests.host.support import predictor, wait_until

MODES = (None, "rlimit and duty cycle")
OpenHost = Callable[..., Host]


def signal_process(service: HostService, accelerator_id: str, number: signal.Signals) -> None:
    process = service.get(accelerator_id).process
    assert process is not None
    os.kill(process.pid, number)


def wait_restarted(service: HostService, accelerator_id: str, num_restarts: int) -> None:
    def is_back() -> bool:
        record = service.get(accelerator_id)
        return record.num_restarts == num_restarts and record.state is State.READY

    wait_until(is_back, f"restart {num_restarts}")


@pytest.mark.parametrize("mode", MODES)
def test_a_killed_accelerator_comes_back_and_calls_under_way_return(
    open_host: OpenHost, model: Path, mode: str
) -> None:
    service = open_host(limits_mode=mode).service
    record, token = service.attach("cpu.quarter")
    stop, wrong = threading.Event(), []
    with (
        predictor(record.endpoints[0], token, model) as by_unix,
        predictor(record.endpoints[1], token, model) as by_tcp,
    ):

        def call(predict: EIPredictor) -> int:
            count = 0
            while not stop.is_set():
                if predict({"x": np.array([count], np.int32)})["y"].tolist() != [2 * count]:
                    wrong.append(count)
                count += 1
            return count

        with ThreadPoolExecutor(2) as pool:
            calls = [pool.submit(call, p) for p in (by_unix, by_tcp)]
            try:
                for kills in range(1, 4):
                    signal_process(service, record.accelerator_id, signal.SIGKILL)
                    wait_restarted(service, record.accelerator_id, kills)
            finally:
                stop.set()
            assert all(c.result(60) > 0 for c in calls)
    assert wrong == []
    after = service.get(record.accelerator_id)
    assert after.endpoints == record.endpoints
    assert after.last_exit.startswith("killed by SIGKILL")


@pytest.mark.parametrize("mode", MODES)
def test_an_accelerator_that_hangs_is_started_again_and_the_call_under_way_returns(
    open_host: OpenHost, model: Path, mode: str
) -> None:
    service = open_host(limits_mode=mode, hang_seconds=5.0).service
    record, token = service.attach("cpu.quarter")
    with predictor(record.endpoints[0], token, model) as predict, ThreadPoolExecutor(1) as pool:
        signal_process(service, record.accelerator_id, signal.SIGSTOP)
        answer = pool.submit(predict, {"x": np.array([4], np.int32)})
        wait_restarted(service, record.accelerator_id, 1)
        assert answer.result(60)["y"].tolist() == [8]
    assert service.get(record.accelerator_id).last_exit == "did not answer for 5 s, so the host ended it"


def test_a_host_that_ends_does_not_wait_for_an_accelerator_that_hangs(open_host: OpenHost) -> None:
    host = open_host(drain_seconds=0.0)
    record, _ = host.service.attach("cpu.quarter")
    assert record.process is not None
    signal_process(host.service, record.accelerator_id, signal.SIGSTOP)
    host.close()
    assert not record.process.is_alive()


def test_whatever_cannot_be_written_down_a_dead_accelerator_serves_again_and_is_counted_once(
    open_host: OpenHost,
) -> None:
    """Its keeper's first, second, ... transaction after a death fails, as where the database is away for a moment."""
    host = open_host()
    record, _ = host.service.attach("cpu.quarter")
    keeper = f"keep {record.accelerator_id[:12]}"
    num_left: list[int] = []  # transactions that still succeed

    def fail_once() -> None:
        if num_left and threading.current_thread().name == keeper:
            num_left[0] -= 1
            if num_left[0] < 0:
                num_left.clear()
                raise OperationalError("BEGIN", None, OSError("the database is away"))

    host.store.before_each_transaction(fail_once)
    num_deaths = 0
    has_failed = True
    while has_failed:
        num_left[:] = [num_deaths]
        num_deaths += 1
        signal_process(host.service, record.accelerator_id, signal.SIGKILL)
        wait_restarted(host.service, record.accelerator_id, num_deaths)
        has_failed = not num_left
        num_left.clear()
        after = host.service.get(record.accelerator_id)
        assert after.last_exit == "killed by SIGKILL"
        assert after.process is not None
        assert list(_working_below(host.folder.homes)) == [after.process.pid]
    assert num_deaths > 5
