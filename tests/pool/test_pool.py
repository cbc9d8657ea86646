"""A pool of real hosts on real Ray nodes: the same words as at a host, and what happens when parts of it die."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import psutil
import pytest

from elastic_inference import Accelerator, EIPredictor
from elastic_inference.client.host_session import Attachment, HostSession
from elastic_inference.client.remote import RemoteModel
from elastic_inference.deadline import Deadline
from elastic_inference.errors import (
    AcceleratorNotFound,
    CapacityExceeded,
    ElasticInferenceError,
    InvalidInput,
    ModelNotFound,
    NameTaken,
    PermissionDenied,
)
from elastic_inference.pool.supervision import is_held
from tests.pool.cluster import PoolCluster
from tests.pool.load import Client
from tests.waiting import wait_until

pytestmark = pytest.mark.timeout(400)


@contextlib.contextmanager
def calling(pool: PoolCluster, model: Path, number: int = 2) -> Iterator[list[Client]]:
    clients: list[Client] = []
    try:
        clients += [Client(pool, model) for _ in range(number)]
        for client in clients:
            client.wait_for_answers()
        yield clients
    finally:
        for client in clients:
            client.close()


def test_a_pool_takes_the_words_of_a_host(cluster: PoolCluster, model: Path) -> None:
    attached = cluster.session.attach("tiny", name="camera", lease_seconds=None)
    try:
        assert attached.placement == 1
        assert attached.limits["memory"]
        with pytest.raises(NameTaken):
            cluster.session.attach("tiny", name="camera")
        with EIPredictor(
            str(model),
            input_names={"x": "x:0"},
            output_names={"y": "y:0"},
            accelerator=Accelerator.of_id("camera", host=cluster.url, token=attached.token),
        ) as predictor:
            assert predictor({"x": np.float32([1, 2])})["y"].tolist() == [2, 4]
        changed = cluster.session.request(
            "PATCH", f"/v1/accelerators/{attached.accelerator_id}", {"type": "cpu.quarter"}
        )
        assert changed["type"] == "cpu.quarter"
        token = cluster.session.request("POST", f"/v1/accelerators/{attached.accelerator_id}/token", {})[
            "token"
        ]
        with pytest.raises(PermissionDenied):
            cluster.session.describe(attached.accelerator_id, token=attached.token)
        assert cluster.session.describe(attached.accelerator_id, token=token).name == "camera"
        listed = cluster.session.request("GET", "/v1/accelerators")
        assert [each["name"] for each in listed] == ["camera"]
        (row,) = [
            row
            for row in cluster.session.request("GET", "/v1/usage")
            if row["accelerator_id"] == attached.accelerator_id
        ]
        assert row["inferences"] >= 1
    finally:
        cluster.session.detach(attached.accelerator_id)
    with pytest.raises(AcceleratorNotFound):
        cluster.session.describe(attached.accelerator_id)
    wait_until(lambda: not any(host["accelerator_ids"] for host in cluster.hosts()), "nothing left over")


def test_what_no_host_can_give_is_said(cluster: PoolCluster) -> None:
    with pytest.raises(InvalidInput, match=r"'gpu\.huge' is not one of"):
        cluster.session.attach("gpu.huge")
    held = []
    try:
        for _ in cluster.hosts():
            held.append(cluster.session.attach("cpu.whole", lease_seconds=None).accelerator_id)
        with pytest.raises(CapacityExceeded, match=r"cpu\.whole"):
            cluster.session.attach("cpu.whole", lease_seconds=None)
        assert len(held) == len(cluster.hosts())  # each went to a host of its own
    finally:
        for accelerator_id in held:
            cluster.session.detach(accelerator_id)
    host = cluster.hosts()[0]
    (token,) = [
        path.read_text().strip()
        for path in (cluster.folder / "p" / "hosts").glob("*/operator.token")
        if path.with_name("host.id").read_text().strip() == host["host_id"]
    ]
    with pytest.raises(InvalidInput, match="attach at the pool's address"):
        HostSession(host["url"], token).attach("tiny")
    with pytest.raises(InvalidInput, match="is not of this pool"):
        cluster.session.request("POST", "/v1/pool/hosts/nobody/drain", {"is_draining": True})


def test_the_page_metrics_and_commands_show_all_hosts(cluster: PoolCluster) -> None:
    status = json.loads(
        cluster.ei("pool", "status", "--json", "--host", cluster.url, "--token", cluster.token)
    )
    assert status["num_hosts"]["ready"] == 3
    shown = cluster.ei("pool", "hosts", "--host", cluster.url, "--token", cluster.token)
    assert all(host["host_id"] in shown for host in cluster.hosts())
    assert "cpu.half" in cluster.ei("types", "--host", cluster.url, "--token", cluster.token)
    board = cluster.session.request("GET", "/v1/board")
    assert len(board["devices"]) == 3
    metrics = cluster.session.request("GET", "/metrics")
    assert metrics.count("elastic_inference_host_device_left_share{") == 3


def test_a_strangers_host_does_not_join(cluster: PoolCluster) -> None:
    body = {"host_id": "0" * 16, "node_id": "", "url": "http://127.0.0.1:1", "token": "x", "offer": {}}
    with pytest.raises(PermissionDenied, match="by which hosts join"):
        cluster.session.request("POST", "/v1/pool/hosts", body)
    join_token = (cluster.folder / "p" / "join.token").read_text().strip()
    with pytest.raises(InvalidInput, match="install the same version"):
        cluster.session.request("POST", "/v1/pool/hosts", body, token=join_token)
    said = cluster.ei("pool", "status", "--host", cluster.url, "--token", cluster.token)
    assert f"host {'0' * 16} (http://127.0.0.1:1) is not taken" in said


def test_clients_go_on_when_the_pool_service_dies(cluster: PoolCluster, model: Path) -> None:
    with calling(cluster, model) as clients:
        before = cluster.pool_pid()
        epoch = cluster.session.request("GET", "/v1/pool")["pool_epoch"]
        os.kill(before, signal.SIGKILL)
        for client in clients:
            client.wait_for_answers()

        def is_taken_over() -> bool:
            with contextlib.suppress(ElasticInferenceError):
                return cluster.pool_pid() != before
            return False

        wait_until(is_taken_over, "a successor")
        assert cluster.session.request("GET", "/v1/pool")["pool_epoch"] > epoch
        listed = {each["accelerator_id"] for each in cluster.session.request("GET", "/v1/accelerators")}
        assert listed == {client.accelerator_id for client in clients}
        assert {cluster.session.describe(each).placement for each in listed} == {1}  # none was moved for it
        with calling(cluster, model, 1):
            pass
        for client in clients:
            client.wait_for_answers()


def test_no_attach_fails_while_the_pool_service_restarts(cluster: PoolCluster) -> None:
    before, killed = cluster.pool_pid(), threading.Event()

    def attach(number: int) -> Attachment:
        if number == 2:
            os.kill(before, signal.SIGKILL)
            killed.set()
        elif number > 2:
            killed.wait(60)
        return cluster.session.attach("tiny", name=f"again-{number}", lease_seconds=None)

    attached: list[Attachment] = []
    try:
        with ThreadPoolExecutor(5) as pool:
            attached += pool.map(attach, range(5))
        assert cluster.pool_pid() != before
        listed = cluster.session.request("GET", "/v1/accelerators")
        assert {each["accelerator_id"] for each in listed} == {each.accelerator_id for each in attached}
        for each in attached:
            assert cluster.session.describe(each.accelerator_id, token=each.token).name == each.name
    finally:
        for each in attached:
            cluster.session.detach(each.accelerator_id)
    wait_until(lambda: not any(host["accelerator_ids"] for host in cluster.hosts()), "nothing left over")


def test_what_an_actor_started_outlives_it(cluster: PoolCluster) -> None:
    def actors() -> set[int]:
        found = set()
        for process in cluster.nodes[0].tree():
            with contextlib.suppress(psutil.Error):
                if "ray::PoolActor" in " ".join(process.cmdline()):
                    found.add(process.pid)
        return found

    (before,) = actors()
    serves = cluster.pool_pid()
    os.kill(before, signal.SIGKILL)
    wait_until(lambda: actors() - {before}, "the actor that Ray starts again")
    lock = cluster.folder / "p" / "supervisor.lock"
    wait_until(lambda: is_held(lock), "its hold of what runs")
    assert cluster.pool_pid() == serves
    assert len(cluster.hosts()) == 3


def test_a_drained_host_is_empty_and_no_call_fails(
    cluster: PoolCluster, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loads: list[int] = []
    load_again = RemoteModel._load_again

    def counted(self: RemoteModel, deadline: Deadline, num_loads: int, error: ModelNotFound) -> None:
        loads.append(num_loads)
        load_again(self, deadline, num_loads, error)

    monkeypatch.setattr(RemoteModel, "_load_again", counted)
    with calling(cluster, model) as clients:
        before = cluster.holder(clients[0].accelerator_id)
        try:
            text = cluster.ei(
                "pool", "drain", before["host_id"][:6], "--host", cluster.url, "--token", cluster.token
            )
            assert "is empty" in text
            audited = cluster.ei("audit", "--host", cluster.url, "--token", cluster.token, "--json")
            assert "/drain" in audited
            assert "/report" not in audited  # what hosts tell several times a second
            for client in clients:
                client.wait_for_answers()
                assert cluster.holder(client.accelerator_id)["host_id"] != before["host_id"]
            assert loads == []  # its models were there before its clients
        finally:
            cluster.ei(
                "pool", "drain", before["host_id"], "--off", "--host", cluster.url, "--token", cluster.token
            )


def test_a_dead_nodes_accelerators_come_back_elsewhere(cluster: PoolCluster, model: Path) -> None:
    with calling(cluster, model) as clients:
        victim = cluster.holder(clients[0].accelerator_id)
        cluster.node_of(victim)
        if cluster.node_of(victim) is cluster.nodes[0]:  # the head, with which Ray itself would end
            cluster.ei("pool", "drain", victim["host_id"], "--host", cluster.url, "--token", cluster.token)
            cluster.ei(
                "pool", "drain", victim["host_id"], "--off", "--host", cluster.url, "--token", cluster.token
            )
            victim = cluster.holder(clients[0].accelerator_id)
        mine = [client for client in clients if client.accelerator_id in victim["accelerator_ids"]]
        ids = {client.accelerator_id for client in mine}
        node = cluster.node_of(victim)
        node.kill()
        for client in clients:
            client.wait_for_answers()
        assert {client.accelerator_id for client in mine} == ids
        for client in mine:
            assert cluster.holder(client.accelerator_id)["host_id"] != victim["host_id"]
        assert any(f"host {victim['host_id']}" in text and "is lost" in text for text in cluster.events())
    cluster.nodes.remove(node)
    cluster.add_node()
    cluster.wait_ready(3)


def test_a_host_that_froze_and_comes_back_ends_what_is_elsewhere(cluster: PoolCluster, model: Path) -> None:
    attached = cluster.session.attach("tiny", lease_seconds=None)
    accelerator_id = attached.accelerator_id
    (endpoint,) = [text for text in attached.endpoints if text.startswith("unix:")]
    victim = cluster.holder(accelerator_id)
    host_processes = [
        process
        for process in cluster.node_of(victim).tree()
        if process.name().startswith("python") and _is_of_host(process.cmdline())
    ]
    assert host_processes

    def predictor(address: str) -> EIPredictor:
        return EIPredictor(
            str(model),
            input_names={"x": "x:0"},
            output_names={"y": "y:0"},
            address=address,
            token=attached.token,
            timeout_seconds=20.0,
        )

    with predictor(endpoint) as old:
        assert old({"x": np.float32([1])})["y"].tolist() == [2]
        for process in host_processes:
            process.suspend()
        try:
            wait_until(
                lambda: (
                    (found := cluster.session.describe(accelerator_id)).placement == 2 and found.endpoints
                ),
                "another place",
            )
        finally:
            for process in host_processes:
                process.resume()
        with pytest.raises(
            ElasticInferenceError
        ):  # whatever its clients believe, the old one says nothing more
            old({"x": np.float32([2])})
    elsewhere = cluster.session.describe(accelerator_id).usable_endpoints()[0]
    with predictor(elsewhere) as new:
        assert new({"x": np.float32([3])})["y"].tolist() == [6]
    wait_until(
        lambda: any(each["host_id"] == victim["host_id"] and each["epoch"] > 1 for each in cluster.hosts()),
        "the host's return",
    )
    assert cluster.holder(accelerator_id)["host_id"] != victim["host_id"]
    cluster.session.detach(accelerator_id)


def _is_of_host(arguments: list[str]) -> bool:
    return "run-host" in arguments or "elastic_inference.accelerator" in arguments
