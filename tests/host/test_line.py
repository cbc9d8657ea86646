"""Twenty that wait for capacity on a real host, through its death: all served, in order. And clients that give up."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from elastic_inference import Accelerator, EIPredictor
from elastic_inference.client.host_session import HostSession
from elastic_inference.client.waiting import MAX_PRIORITY, Place
from elastic_inference.errors import CapacityExceeded, InvalidInput, TenantQuotaExceeded, TransportError
from tests.host.conftest import RUN_EI, HostProcess
from tests.host.support import wait_for_host, wait_until
from tests.waiting import read_line

NUM_WAITING = 20
LEASE_SECONDS = 5.0  # of what is attached at the moment in which the host dies, whose token nobody gets


@pytest.fixture
def start(state_dir: Path, start_host: Callable[..., HostProcess]) -> Callable[[], HostProcess]:
    types = state_dir.parent / "types.toml"
    types.write_text(
        '["whole"]\nmemory = "256MiB"\ndevice_share = 1.0\n["half"]\nmemory = "256MiB"\ndevice_share = 0.5\n'
    )
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    return lambda: start_host("--types", str(types), "--listen", f"127.0.0.1:{port}")


def waiting(session: HostSession) -> list[dict[str, Any]]:
    return list(session.request("GET", "/v1/board")["waiting"])


def test_twenty_wait_through_the_hosts_death_and_all_are_served_in_order(
    start: Callable[[], HostProcess],
) -> None:
    host = start()
    session = host.session()
    first = session.attach("whole", name="first", lease_seconds=None)
    served: list[int] = []
    failed: list[BaseException] = []

    def wait_and_use(number: int) -> None:
        priority = MAX_PRIORITY if number == 0 else 0
        try:
            attached = session.attach(
                "whole", name=f"n{number}", wait_seconds=600.0, priority=priority, lease_seconds=LEASE_SECONDS
            )
            served.append(number)
            with contextlib.suppress(TransportError):  # the host dies; then its lease gives it back
                session.detach(attached.accelerator_id, drain_seconds=0)
        except BaseException as error:
            failed.append(error)

    for number in reversed(range(NUM_WAITING)):  # the last that comes has priority
        threading.Thread(target=wait_and_use, args=(number,), daemon=True).start()
        num_waiting = NUM_WAITING - number
        wait_for_host(lambda num=num_waiting: failed or len(waiting(session)) == num, "the next to wait")
    assert failed == []
    places = waiting(session)
    assert [row["place"] for row in places] == list(range(1, NUM_WAITING + 1))
    assert [row["priority"] for row in places] == [MAX_PRIORITY] + [0] * (NUM_WAITING - 1)
    host.kill()
    host = start()
    session.detach(first.accelerator_id, drain_seconds=0)
    wait_until(lambda: failed or len(served) >= NUM_WAITING // 2, "half of them", 300.0)
    host.kill()  # in the middle of serving them
    host = start()
    wait_until(lambda: failed or len(served) == NUM_WAITING, "the other half", 300.0)
    assert failed == []
    in_order = [0, *reversed(range(1, NUM_WAITING))]
    # The one that was being attached as the host died may have come back behind the next one.
    moved = [number for number, wanted in zip(served, in_order, strict=True) if number != wanted]
    assert len(moved) <= 2, served
    wait_for_host(lambda: waiting(session) == [], "an empty line")
    wait_for_host(lambda: session.request("GET", "/v1/accelerators") == [], "all to be detached")


def test_a_client_says_where_it_waits_and_gives_its_place_up(start: Callable[[], HostProcess]) -> None:
    host = start()
    session = host.session()
    holder = session.attach("whole", lease_seconds=None)
    with pytest.raises(CapacityExceeded, match=r"has .* left"):
        session.attach("half")
    told: list[Place] = []
    with pytest.raises(CapacityExceeded, match=r"no room for 'half' within 0.1 s; at last place 1 of 1"):
        session.attach("half", wait_seconds=0.1, tell=told.append)
    assert told == [Place(1, 1)]
    session.detach(holder.accelerator_id, drain_seconds=0)
    with pytest.raises(InvalidInput, match="type 'no' is not one of"):
        session.attach("no", wait_seconds=5.0)


def test_interrupting_the_command_leaves_the_line(start: Callable[[], HostProcess]) -> None:
    host = start()
    session = host.session()
    holder = session.attach("whole", lease_seconds=None)
    environment = {**os.environ, "EI_HOST": host.url, "EI_TOKEN": host.operator_token}
    command = [sys.executable, "-c", RUN_EI, "attach", "--type", "half", "--wait", "10min"]
    ei = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment, cwd="/"
    )
    assert read_line(ei) == "waiting for half: place 1 of 1"
    ei.send_signal(signal.SIGINT)
    assert "interrupted" in ei.communicate(timeout=60)[0]
    assert ei.returncode == 130
    wait_for_host(lambda: host.session().request("GET", "/v1/board")["waiting"] == [], "an empty line")
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment, cwd="/") as waits:
        wait_for_host(lambda: len(waiting(session)) == 1, "the command to wait")
        session.detach(holder.accelerator_id, drain_seconds=0)
        assert read_line(waits).startswith("attached eia-")
        waits.communicate(timeout=60)


def test_a_predictor_waits_for_its_accelerator(
    start: Callable[[], HostProcess], model: Path, caplog: pytest.LogCaptureFixture
) -> None:
    host = start()
    session = host.session()
    holder = session.attach("whole", lease_seconds=None)
    accelerator = Accelerator.attach("half", host=host.url, token=host.operator_token, wait_seconds=300.0)
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(
            EIPredictor,
            str(model),
            input_names={"x": "x:0"},
            output_names={"y": "y:0"},
            accelerator=accelerator,
        )
        wait_for_host(lambda: len(waiting(session)) == 1, "the predictor to wait")
        session.detach(holder.accelerator_id, drain_seconds=0)
        with future.result(120.0) as predictor:
            assert predictor({"x": [2.0]})["y"][0] == 4.0
    assert f"waiting for half at {host.url}: place 1 of 1" in caplog.text


def test_priority_and_places_are_within_the_quota(start: Callable[[], HostProcess]) -> None:
    host = start()
    session = host.session()
    holder = session.attach("whole", lease_seconds=None)
    quota = {"max_accelerators": 1, "max_priority": 2}
    session.request("POST", "/v1/tenants", {"name": "vision", "quota": quota})
    token = session.request("POST", "/v1/tenants/vision/tokens", {})["token"]
    vision = HostSession(host.url, token)
    asked = {"type": "half", "wait": True, "priority": 2}
    place = vision.request("POST", "/v1/accelerators", asked)
    again = vision.request("POST", "/v1/accelerators", {**asked, "ticket": place["ticket"]})
    assert (again["ticket"], again["place"]) == (place["ticket"], 1)
    with pytest.raises(TenantQuotaExceeded, match="would have 2 accelerators"):
        vision.request("POST", "/v1/accelerators", asked)
    with pytest.raises(TenantQuotaExceeded, match="with priority 2 at most, not 3"):
        vision.request("POST", "/v1/accelerators", {**asked, "priority": 3})
    # Who does not wait is not let in before those that do.
    session.detach(holder.accelerator_id, drain_seconds=0)
    session.attach("half", lease_seconds=None)
    with pytest.raises(CapacityExceeded, match="1 wait in front of it for what is left"):
        session.attach("half")
    attached = vision.request("POST", "/v1/accelerators", {**asked, "ticket": place["ticket"]})
    assert attached["tenant"] == "vision"
    entries = vision.request("GET", "/v1/audit")
    attaches = [entry for entry in entries if entry["path"] == "/v1/accelerators"]
    assert [entry["status"] for entry in attaches] == [409, 409, 201]  # asking again is no change
