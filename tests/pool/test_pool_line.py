"""Those that wait for room at a pool: all served in order, through the death of what serves them."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from typing import Any

import pytest

from elastic_inference.client.host_session import HostSession
from elastic_inference.client.waiting import MAX_PRIORITY, Place
from elastic_inference.errors import (
    AcceleratorBusy,
    AcceleratorNotFound,
    CapacityExceeded,
    ComputeQuotaExceeded,
    Fenced,
    TenantQuotaExceeded,
    TransportError,
)
from tests.host.support import wait_for_host
from tests.host.tenants import take_in
from tests.pool.cluster import PoolCluster
from tests.waiting import read_line

pytestmark = pytest.mark.timeout(400)
NUM_WAITING = 10


@pytest.fixture(autouse=True)
def empty(cluster: PoolCluster) -> Any:
    yield
    cluster.empty()


def waiting(session: HostSession) -> list[dict[str, Any]]:
    return list(session.request("GET", "/v1/board")["waiting"])


def full(cluster: PoolCluster) -> list[str]:
    """Accelerators that leave no room on any host."""
    return [cluster.session.attach("all", lease_seconds=None).accelerator_id for _ in cluster.hosts()]


def is_detached(session: HostSession, accelerator_id: str) -> bool:
    """Try; False while the pool service is away."""
    try:
        session.detach(accelerator_id, drain_seconds=0)
    except AcceleratorNotFound:
        return True
    except (TransportError, AcceleratorBusy, ComputeQuotaExceeded, Fenced):
        return False
    return True


def test_all_are_served_in_order_through_the_death_of_the_pool_service(cluster: PoolCluster) -> None:
    session, holders = cluster.session, full(cluster)
    served: list[int] = []
    failed: list[BaseException] = []

    def wait_and_use(number: int) -> None:
        try:
            attached = session.attach(
                "all",
                name=f"n{number}",
                wait_seconds=600.0,
                priority=MAX_PRIORITY if number == 0 else 0,
                lease_seconds=None,
            )
            served.append(number)
            wait_for_host(lambda: is_detached(session, attached.accelerator_id), "it to be detached")
        except BaseException as error:
            failed.append(error)

    for number in reversed(range(NUM_WAITING)):  # the last that comes has priority
        threading.Thread(target=wait_and_use, args=(number,), daemon=True).start()
        wanted = NUM_WAITING - number
        wait_for_host(lambda num=wanted: failed or len(waiting(session)) == num, "the next to wait")  # type: ignore[misc]
    assert failed == []
    assert [row["place"] for row in waiting(session)] == list(range(1, NUM_WAITING + 1))
    assert [row["priority"] for row in waiting(session)] == [MAX_PRIORITY] + [0] * (NUM_WAITING - 1)
    with pytest.raises(CapacityExceeded):  # whoever does not wait gets nothing meanwhile
        session.attach("small")
    cluster.kill_service()
    wait_for_host(lambda: failed or len(waiting(session)) == NUM_WAITING, "the line as it was")
    session.detach(holders.pop(), drain_seconds=0)  # one host for all of them, one after another
    wait_for_host(lambda: failed or len(served) >= NUM_WAITING // 2, "half of them", 300.0)
    cluster.kill_service()  # in the middle of serving them
    wait_for_host(lambda: failed or len(served) == NUM_WAITING, "the other half", 300.0)
    assert failed == []
    in_order = [0, *reversed(range(1, NUM_WAITING))]
    # Who was being attached when the service died may be told later than the next one.
    moved = [number for number, wanted in zip(served, in_order, strict=True) if number != wanted]
    assert len(moved) <= 2, served
    wait_for_host(lambda: waiting(session) == [], "an empty line")


def test_tenants_wait_with_the_priority_that_they_may_have_and_are_told_where(cluster: PoolCluster) -> None:
    session, holders = cluster.session, full(cluster)
    limited = HostSession(cluster.url, take_in(session, "limited", quota={"max_accelerators": 1}))
    free = HostSession(cluster.url, take_in(session, "free", quota={"max_priority": 2}))
    with pytest.raises(TenantQuotaExceeded, match="priority 0 at most"):
        limited.attach("all", wait_seconds=1.0, priority=1)
    told: list[Place] = []
    with pytest.raises(CapacityExceeded, match=r"no room for 'all' within 0.1 s; at last place 1 of 1"):
        limited.attach("all", wait_seconds=0.1, tell=told.append)
    assert told == [Place(1, 1)]
    wait_for_host(lambda: waiting(session) == [], "its place to be free")
    asked = {"type": "all", "wait": True}
    first = limited.request("POST", "/v1/accelerators", asked)
    with pytest.raises(TenantQuotaExceeded):  # those that wait count
        limited.request("POST", "/v1/accelerators", asked)
    second = free.request("POST", "/v1/accelerators", asked | {"priority": 1})
    assert (first["place"], second["place"]) == (1, 1)  # a step is a minute
    wait_for_host(lambda: [row["tenant"] for row in waiting(limited)] == ["limited"], "its own place alone")
    session.detach(holders.pop(), drain_seconds=0)
    assert limited.request("POST", "/v1/accelerators", asked | {"ticket": first["ticket"]})["place"] == 2
    attached = free.request("POST", "/v1/accelerators", asked | {"ticket": second["ticket"]})
    assert attached["tenant"] == "free"
    with pytest.raises(Exception, match="nobody waits here"):
        free.request("DELETE", f"/v1/accelerators/waiting/{first['ticket']}")
    limited.request("DELETE", f"/v1/accelerators/waiting/{first['ticket']}")
    wait_for_host(lambda: waiting(session) == [], "an empty line")


def test_interrupting_the_command_leaves_the_line(cluster: PoolCluster) -> None:
    full(cluster)
    environment = {**os.environ, "EI_HOST": cluster.url, "EI_TOKEN": cluster.token}
    command = [sys.executable, "-m", "elastic_inference", "attach", "--type", "small", "--wait", "10min"]
    ei = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
    )
    with contextlib.ExitStack() as stack:
        stack.callback(ei.kill)
        assert read_line(ei) == "waiting for small: place 1 of 1"
        ei.send_signal(signal.SIGINT)
        assert "interrupted" in ei.communicate(timeout=120)[0]
        assert ei.returncode == 130
    wait_for_host(lambda: waiting(cluster.session) == [], "an empty line")
