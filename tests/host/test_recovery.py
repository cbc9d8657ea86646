"""A host that is killed or ended, and the next one that finds its accelerators; all with processes of their own."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import threading
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from elastic_inference.client.host_session import HostSession
from elastic_inference.errors import ComputeQuotaExceeded
from elastic_inference.host.accounts.catalogue import AcceleratorType
from elastic_inference.host.accounts.records import AcceleratorRecord, State
from elastic_inference.host.accounts.scope import OPERATOR
from elastic_inference.host.accounts.state import StateStore
from elastic_inference.host.host import Host
from elastic_inference.host.priority import HOST_NICE
from elastic_inference.host.processes.folders import HostFolder
from elastic_inference.host.tokens import hash_token, make_token
from elastic_inference.limits.fence import FenceKeeper, boot_seconds
from elastic_inference.limits.processes import ProcessIdentity
from elastic_inference.protocol.endpoint import Endpoint
from elastic_inference.protocol.requests import request_json
from tests.host.conftest import HostProcess
from tests.host.support import predictor, wait_until
from tests.host.tenants import take_in

MODES = ("best", "rlimit and duty cycle")
StartHost = Callable[..., HostProcess]


def arguments(mode: str) -> tuple[str, ...]:
    return () if mode == "best" else ("--limits", mode)


def only_record(state_dir: Path) -> AcceleratorRecord:
    store = StateStore.at_path(state_dir / "state.db")
    try:
        (record,) = store.list_all()
    finally:
        store.close()
    return record


def process_of(state_dir: Path) -> ProcessIdentity:
    process = only_record(state_dir).process
    assert process is not None
    return process


@pytest.mark.parametrize("mode", MODES)
def test_clients_notice_nothing_of_a_host_that_is_killed_and_the_next_adopts(
    start_host: StartHost, state_dir: Path, model: Path, mode: str
) -> None:
    host = start_host(*arguments(mode))
    attached = host.session().attach("cpu.quarter")
    before = process_of(state_dir)
    stop, answers = threading.Event(), []
    with predictor(attached.endpoints[0], attached.token, model) as predict, ThreadPoolExecutor(1) as pool:

        def call() -> None:
            while not stop.is_set():
                answers.append(predict({"x": np.array([3], np.int32)})["y"].tolist())

        calls = pool.submit(call)
        try:
            for _ in range(2):
                host.kill()
                so_far = len(answers)
                wait_until(lambda so_far=so_far: len(answers) > so_far + 10, "answers without a host")
                host = start_host(*arguments(mode))
        finally:
            stop.set()
        calls.result(60)
    assert all(answer == [6] for answer in answers)
    assert process_of(state_dir) == before
    shown = host.session().request("GET", f"/v1/accelerators/{attached.accelerator_id}")
    assert (shown["state"], shown["num_restarts"]) == ("ready", 0)
    assert set(shown["limits"]) == {"compute", "memory", "cores"}
    host.session(attached.token).detach(attached.accelerator_id)
    assert not before.is_alive()


@pytest.mark.parametrize("mode", MODES)
def test_an_adopted_accelerator_that_dies_is_started_again(
    start_host: StartHost, state_dir: Path, mode: str
) -> None:
    host = start_host(*arguments(mode))
    attached = host.session().attach("cpu.quarter")
    host.kill()
    host = start_host(*arguments(mode))
    before = process_of(state_dir)
    os.kill(before.pid, signal.SIGKILL)
    wait_until(lambda: only_record(state_dir).num_restarts == 1, "the host to notice")
    wait_until(lambda: only_record(state_dir).state is State.READY, "the restart")
    again = host.session(attached.token).describe(attached.accelerator_id)
    assert again.endpoints == attached.endpoints


def test_an_accelerator_that_died_while_no_host_was_there_is_started_again(
    start_host: StartHost, state_dir: Path, model: Path
) -> None:
    host = start_host()
    attached = host.session().attach("cpu.quarter")
    with predictor(attached.endpoints[0], attached.token, model) as predict:
        host.kill()
        os.kill(process_of(state_dir).pid, signal.SIGKILL)
        with ThreadPoolExecutor(1) as pool:
            answer = pool.submit(predict, {"x": np.array([3], np.int32)})
            host = start_host()
            assert answer.result(60)["y"].tolist() == [6]
    assert host.session().describe(attached.accelerator_id).endpoints == attached.endpoints
    assert only_record(state_dir).num_restarts == 1
    assert only_record(state_dir).last_exit == "ended while no host kept it"


def test_an_accelerator_that_does_not_answer_the_next_host_is_started_again(
    start_host: StartHost, state_dir: Path
) -> None:
    host = start_host()
    attached = host.session().attach("cpu.quarter")
    host.kill()
    before = process_of(state_dir)
    os.kill(before.pid, signal.SIGSTOP)
    host = start_host()
    wait_until(lambda: only_record(state_dir).num_restarts == 1, "the host to give it up")
    wait_until(lambda: only_record(state_dir).state is State.READY, "the restart")
    assert not before.is_alive()
    assert only_record(state_dir).last_exit.startswith("was not adopted: ")
    again = host.session(attached.token).describe(attached.accelerator_id)
    assert again.endpoints == attached.endpoints


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may run before others")
def test_a_host_runs_before_its_accelerators(start_host: StartHost, state_dir: Path) -> None:
    host = start_host()
    for _ in range(2):  # the second one was not started in advance, or only just
        attached = host.session().attach("cpu.quarter")
        assert os.getpriority(os.PRIO_PROCESS, process_of(state_dir).pid) == 0
        host.session(attached.token).detach(attached.accelerator_id)
    assert os.getpriority(os.PRIO_PROCESS, host.process.pid) == HOST_NICE


def test_an_attach_that_the_hosts_death_cut_off_leaves_nothing(
    start_host: StartHost, state_dir: Path
) -> None:
    host = start_host()
    attached = host.session().attach("cpu.quarter")
    process = process_of(state_dir)
    host.kill()
    store = StateStore.at_path(state_dir / "state.db")
    store.change(attached.accelerator_id, state=State.STARTING)
    store.close()
    host = start_host()
    assert host.session().request("GET", "/v1/accelerators") == []
    assert not process.is_alive()
    assert list((state_dir / "accelerators").iterdir()) == []
    assert all(row["is_attached"] is False for row in host.session().request("GET", "/v1/usage"))


def test_an_ended_host_ends_its_accelerators_and_the_next_starts_them(
    start_host: StartHost, state_dir: Path, model: Path
) -> None:
    host = start_host()
    attached = host.session().attach("cpu.quarter")
    with predictor(attached.endpoints[0], attached.token, model) as predict:
        before = process_of(state_dir)
        assert host.end() == 0
        assert not before.is_alive()
        assert only_record(state_dir).state is State.STOPPED
        start_host()
        assert predict({"x": np.array([3], np.int32)})["y"].tolist() == [6]


def test_a_host_told_to_keep_running_leaves_its_accelerators(start_host: StartHost, state_dir: Path) -> None:
    host = start_host("--keep-running")
    host.session().attach("cpu.quarter")
    before = process_of(state_dir)
    assert host.end() == 0
    assert before.is_alive()
    start_host()
    assert process_of(state_dir) == before


def test_what_an_accelerator_started_is_left_to_it_by_the_next_host(
    start_host: StartHost, state_dir: Path
) -> None:
    host = start_host("--keep-running")
    host.session().attach("cpu.quarter")
    before = process_of(state_dir)
    assert host.end() == 0
    # As the process in which it proves a model, which works where it does.
    with subprocess.Popen(["sleep", "600"], cwd=os.readlink(f"/proc/{before.pid}/cwd")) as helper:
        try:
            host = start_host()
            assert helper.poll() is None
            assert process_of(state_dir) == before
        finally:
            helper.kill()


def test_requests_a_second_of_a_tenant_are_counted_on_while_the_host_is_away(
    start_host: StartHost, state_dir: Path, model: Path
) -> None:
    host = start_host("--keep-running")
    vision = take_in(host.session(), "vision", quota={"requests_per_second": 0.001})
    first = HostSession(host.url, vision).attach("cpu.quarter")
    feed = {"x": np.array([3], np.int32)}
    with predictor(first.endpoints[0], first.token, model) as predict:
        predict(feed)
        before = process_of(state_dir)
        assert host.end() == 0
        host = start_host()
        second = HostSession(host.url, vision).attach("cpu.quarter")
        with predictor(second.endpoints[0], second.token, model) as predict_second:
            refused = []
            for each in (predict_second, predict):
                with contextlib.suppress(ComputeQuotaExceeded):
                    each(feed)
                    continue
                refused.append(each)
            assert before.is_alive()
            assert refused == [predict_second, predict]
            host.session().request("PUT", "/v1/tenants/vision", {})
            assert [each(feed)["y"].tolist() for each in (predict, predict_second)] == [[6], [6]]


def test_a_second_host_with_the_same_state_directory_is_refused(
    start_host: StartHost, state_dir: Path
) -> None:
    start_host()
    with pytest.raises(RuntimeError, match=f"another host runs with state directory {state_dir}"):
        start_host()


def test_the_operators_token_outlives_a_restart_and_an_old_one_does_not(start_host: StartHost) -> None:
    host = start_host()
    old = host.operator_token
    new = host.session().request("POST", "/v1/host/token")["token"]
    assert host.operator_token == new != old
    host.kill()
    host = start_host()
    assert host.session(new).request("GET", "/v1/host")["num_accelerators"] == 0
    with pytest.raises(PermissionError):
        host.session(old).request("GET", "/v1/host")


def test_a_host_remembers_in_postgresql_too(start_host: StartHost, postgresql_url: str) -> None:
    host = start_host("--database", postgresql_url)
    attached = host.session().attach("cpu.quarter")
    assert host.session().request("GET", "/v1/host")["database"] == "postgresql"
    host.kill()
    host = start_host("--database", postgresql_url)
    again = host.session().describe(attached.accelerator_id)
    assert again.endpoints == attached.endpoints
    host.session().detach(attached.accelerator_id)
    assert host.end() == 0


def test_a_port_that_is_taken_is_told_and_nothing_is_begun(start_host: StartHost, state_dir: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(RuntimeError, match=f"cannot listen on tcp:127.0.0.1:{port}"):
            start_host("--listen", f"127.0.0.1:{port}")
    assert not state_dir.exists()


def test_a_host_serves_at_a_unix_socket_alone(start_host: StartHost, state_dir: Path) -> None:
    path = state_dir.parent / "host.sock"
    host = start_host("--listen", f"unix:{path}")
    assert host.url == f"unix:{path}"
    attached = host.session().attach("cpu.quarter")
    assert [e.split(":")[0] for e in attached.endpoints] == ["unix"]
    assert host.end() == 0
    assert not path.exists()


def test_an_ended_host_lets_accelerators_finish_what_is_in_flight(
    start_host: StartHost, state_dir: Path, model: Path
) -> None:
    types = state_dir.parent / "types.toml"
    types.write_text('[slow]\nmemory = "1GiB"\ndevice_share = 0.05\n')
    host = start_host("--types", str(types), "--drain", "60s")
    attached = host.session().attach("slow", lease_seconds=None)
    image = np.arange(2_000_000, dtype=np.int32)
    with contextlib.ExitStack() as stack:
        predictors = [
            stack.enter_context(predictor(attached.endpoints[0], attached.token, model)) for _ in range(5)
        ]
        pool = stack.enter_context(ThreadPoolExecutor(5))
        endpoint = Endpoint.parse(attached.endpoints[0])

        def num_arrived() -> int:
            queue = request_json(endpoint, "GET", "/v2/accelerator", token=attached.token)["queue"]
            return int(queue["num_waiting"] + queue["num_running"] + queue["num_served"])

        before = num_arrived()
        answers = [pool.submit(p, {"x": image}) for p in predictors]
        wait_until(lambda: num_arrived() == before + 5, "the requests")
        host.process.terminate()
        assert all((a.result(60)["y"] == 2 * image).all() for a in answers)
        assert host.process.wait(60) == 0
    assert not process_of(state_dir).is_alive()


def test_a_host_of_a_pool_starts_nothing_of_what_an_earlier_run_had(
    open_host: Callable[..., Host], state_dir: Path
) -> None:
    folder = HostFolder(state_dir)
    folder.make()
    fence = FenceKeeper(folder.fence)
    fence.open_until(boot_seconds() + 3600)
    kinds = (AcceleratorType("small", 256 * 1024**2, device_share=0.1),)
    first, accelerator_id = open_host(user_types=kinds, fence=True), f"eia-{uuid.uuid4().hex}"
    first.service.place(accelerator_id, hash_token(make_token()), "small", None, OPERATOR)
    first.close()
    assert only_record(state_dir).state is State.STOPPED  # another host would start it again
    after = open_host(user_types=kinds, fence=True)
    assert after.service.list_all() == ()
    assert after.service.capacity.held == {}
    assert after.limits.list_existing() == ()
    assert not folder.accelerator(accelerator_id).path.exists()
    again = after.service.place(accelerator_id, hash_token(make_token()), "small", None, OPERATOR)
    assert again.num_restarts == 0
