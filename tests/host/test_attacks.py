"""Attacks on the control API without a token, and accelerators that hang: nobody else is locked out."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import stat
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from elastic_inference.client.host_session import Attachment
from elastic_inference.errors import ComputeQuotaExceeded, ElasticInferenceError, PermissionDenied
from elastic_inference.host.accounts.state import StateStore
from elastic_inference.protocol.endpoint import Endpoint
from elastic_inference.protocol.requests import request_json
from elastic_inference.protocol.tls import Tls
from tests.host import attacks
from tests.host.conftest import HostProcess
from tests.host.support import wait_until

StartHost = Callable[..., HostProcess]
MIB = 1024**2


def memory_bytes(pid: int) -> int:
    """The most that a process has had in memory."""
    match = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert match is not None
    return int(match[1]) * 1024


def pid_of(host: HostProcess, attached: Attachment) -> int:
    store = StateStore.at_path(host.state_dir / "state.db")
    try:
        record = store.get(attached.accelerator_id)
    finally:
        store.close()
    assert record is not None
    assert record.process is not None
    return record.process.pid


def is_served(attached: Attachment, token: str) -> bool:
    try:
        request_json(Endpoint.parse(attached.endpoints[0]), "GET", "/v2/accelerator", token=token)
    except ElasticInferenceError:
        return False
    return True


def check_all_works(host: HostProcess, attached: Attachment) -> None:
    """Health, heartbeats, questions, healing, attach and detach."""
    tenant, operator = host.session(attached.token), host.session()
    assert operator.request("GET", "/v1/health")["status"] == "ok"
    assert tenant.heartbeat(attached.accelerator_id) == attached.lease_seconds
    assert len(tenant.request("GET", "/v1/usage")) == 1
    os.kill(pid_of(host, attached), signal.SIGKILL)

    def is_back() -> bool:
        shown = operator.request("GET", f"/v1/accelerators/{attached.accelerator_id}")
        return bool(shown["num_restarts"] == 1 and shown["state"] == "ready")

    wait_until(is_back, "the accelerator that was killed")
    another = operator.attach("cpu.quarter")
    operator.detach(another.accelerator_id)
    assert operator.request("GET", "/v1/host")["num_accelerators"] == 1


def test_headers_without_end_cost_the_host_next_to_nothing(start_host: StartHost) -> None:
    host = start_host()
    before = memory_bytes(host.process.pid)
    with attacks.running("endless_heads", host.url, 2.0) as num_sent:
        assert int(num_sent) > 20 * MIB
    assert memory_bytes(host.process.pid) - before < 48 * MIB
    assert host.session().request("GET", "/v1/health")["status"] == "ok"
    assert host.log_path.stat().st_size < MIB


@pytest.mark.parametrize("attack", ["idle", "half_heads"])
def test_idle_connections_lock_nobody_out_where_descriptors_are_few(
    start_host: StartHost, attack: str
) -> None:
    host = start_host(num_descriptors=256)
    attached = host.session().attach("cpu.quarter")
    with attacks.running(attack, host.url, 1100) as num_open:
        assert int(num_open) > 500
        check_all_works(host, attached)


def test_half_a_request_is_not_waited_for(start_host: StartHost) -> None:
    host = start_host()
    with Endpoint.parse(host.url).connect(5.0) as half, Endpoint.parse(host.url).connect(5.0) as body:
        half.send(b"GET /v1/health HTTP/1.1\r\nHost:")
        body.send(b"POST /v1/accelerators HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n{")
        for sock in (half, body):
            sock.settimeout(60.0)
            with contextlib.suppress(ConnectionResetError):
                assert sock.recv(100) == b""


def test_a_tls_handshake_is_not_waited_for_and_locks_nobody_out(
    start_host: StartHost, state_dir: Path
) -> None:
    host = start_host("--tls", num_descriptors=256)
    ca = str(state_dir / "tls" / "ca.pem")
    plain = host.url.replace("https:", "http:")
    with attacks.running("idle", plain, 300), Endpoint.parse(plain).connect(5.0) as mute:
        assert host.session(tls=Tls(ca=ca)).request("GET", "/v1/health")["status"] == "ok"
        mute.settimeout(60.0)
        assert mute.recv(1) == b""


def test_wrong_tokens_are_slowed_down_and_known_ones_beside_them_are_not(start_host: StartHost) -> None:
    host = start_host()
    attached = host.session().attach("cpu.quarter")
    guesser, tenant = host.session("guess"), host.session(attached.token)
    refusals = set()
    for _ in range(400):
        with pytest.raises(ElasticInferenceError) as caught:
            guesser.request("GET", "/v1/types")
        refusals.add(type(caught.value))
    assert refusals == {PermissionDenied, ComputeQuotaExceeded}
    assert tenant.heartbeat(attached.accelerator_id) == attached.lease_seconds
    assert host.session().request("GET", "/v1/host")["num_accelerators"] == 1


def test_one_tenant_cannot_take_the_host_for_itself(start_host: StartHost) -> None:
    host = start_host()
    greedy, other = host.session().attach("cpu.quarter"), host.session().attach("cpu.quarter")
    stop, refused = threading.Event(), []

    def ask() -> None:
        while not stop.is_set():
            try:
                host.session(greedy.token).request("GET", "/v1/usage")
            except ComputeQuotaExceeded as error:
                refused.append(str(error))

    with ThreadPoolExecutor(4) as pool:
        for _ in range(4):
            pool.submit(ask)
        try:
            wait_until(lambda: bool(refused), "the greedy one to be refused")
            assert host.session(other.token).heartbeat(other.accelerator_id) == other.lease_seconds
            assert host.session().request("GET", "/v1/health")["status"] == "ok"
        finally:
            stop.set()
    assert "asks too often; try again in" in refused[0]


def test_an_accelerator_that_hangs_holds_up_nobodys_question(start_host: StartHost) -> None:
    host = start_host()
    hanging, other = host.session().attach("cpu.quarter"), host.session().attach("cpu.quarter")
    pid = pid_of(host, hanging)
    os.kill(pid, signal.SIGSTOP)
    try:
        with ThreadPoolExecutor(60) as pool:
            asked = [pool.submit(host.session(hanging.token).request, "GET", "/v1/usage") for _ in range(60)]
            # Ten seconds for each is far from the 40 that it took, and far from none on a machine that is busy.
            quick = {"timeout_seconds": 10.0}
            for _ in range(3):
                assert host.session(**quick).request("GET", "/v1/health")["status"] == "ok"
                (row,) = host.session(other.token, **quick).request("GET", "/v1/usage")
                assert row["accelerator_id"] == other.accelerator_id
                assert len(host.session(**quick).request("GET", "/v1/usage")) == 2
                assert host.session(**quick).request("GET", "/v1/host")["num_unhealthy"] == 1
                text = host.session(**quick).request("GET", "/metrics")
            assert all(len(one.result(30)) == 1 for one in asked)
        up = {m[1]: m[2] for m in re.finditer(r'_accelerator_up{accelerator_id="(.*?)".*?} (\S+)', text)}
        assert up == {hanging.accelerator_id: "0.0", other.accelerator_id: "1.0"}
    finally:
        os.kill(pid, signal.SIGCONT)


def test_a_token_change_that_fails_half_way_leaves_the_old_token(start_host: StartHost) -> None:
    host = start_host()
    attached = host.session().attach("cpu.quarter", lease_seconds=None)
    tenant = host.session(attached.token, timeout_seconds=60.0)
    pid = pid_of(host, attached)
    os.kill(pid, signal.SIGSTOP)
    try:
        with pytest.raises(ElasticInferenceError) as caught:
            tenant.request("POST", f"/v1/accelerators/{attached.accelerator_id}/token")
        assert str(host.state_dir) not in str(caught.value)  # where the socket lies is the host's business
    finally:
        os.kill(pid, signal.SIGCONT)  # now it finds the request in its socket
    wait_until(lambda: is_served(attached, attached.token), "the old token to count again")
    assert tenant.describe(attached.accelerator_id).accelerator_id == attached.accelerator_id
    new = tenant.request("POST", f"/v1/accelerators/{attached.accelerator_id}/token")["token"]
    assert is_served(attached, new)
    assert not is_served(attached, attached.token)


def test_a_client_that_left_before_it_was_told_its_token_leaves_no_accelerator(start_host: StartHost) -> None:
    host = start_host("--spares", "0")
    body = b'{"type": "cpu.quarter"}'
    with Endpoint.parse(host.url).connect(5.0) as sock:
        head = (
            f"POST /v1/accelerators HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n"
            f"Content-Type: application/json\r\nAuthorization: Bearer {host.operator_token}\r\n\r\n"
        )
        sock.sendall(head.encode() + body)
        wait_until(
            lambda: any((host.state_dir / "homes").iterdir()), "the process, which imports for a while"
        )
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    wait_until(lambda: "502" in host.log_path.read_text(), "the host to notice")
    assert host.session().request("GET", "/v1/accelerators") == []
    assert list((host.state_dir / "homes").iterdir()) == []


def test_nobody_else_can_hold_the_lock(start_host: StartHost, state_dir: Path) -> None:
    state_dir.mkdir()
    (state_dir / "lock").touch(mode=0o644)
    start_host()
    assert stat.S_IMODE((state_dir / "lock").stat().st_mode) == 0o600
