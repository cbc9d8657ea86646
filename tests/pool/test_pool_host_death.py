"""A host's process dies and its node lives: nothing is left of what it had, and all of it comes back."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import psutil
import pytest

from elastic_inference import Accelerator
from elastic_inference.client.host_session import Attachment
from tests.pool.cluster import PoolCluster, RayNode
from tests.pool.load import Client
from tests.waiting import wait_until

pytestmark = pytest.mark.timeout(400)


def test_what_a_dead_host_process_had_comes_back_and_no_call_fails(cluster: PoolCluster, model: Path) -> None:
    attached = [cluster.session.attach("tiny", lease_seconds=None) for _ in range(2)]
    clients: list[Client] = []
    try:
        for each in attached:
            accelerator = Accelerator.of_id(each.accelerator_id, host=cluster.url, token=each.token)
            clients.append(Client(cluster, model, accelerator=accelerator))
        for client in clients:
            client.wait_for_answers()
        victim = cluster.holder(attached[0].accelerator_id)
        mine = [each for each in attached if each.accelerator_id in victim["accelerator_ids"]]
        node = cluster.node_of(victim)
        (host,) = _processes(node, "run-host")
        had = _processes(node, "elastic_inference.accelerator")
        os.kill(host.pid, signal.SIGKILL)

        wait_until(lambda: _joined_anew(cluster, victim), "its host, started again on the same node")
        wait_until(lambda: all(_came_back(cluster, each) for each in mine), "its accelerators")
        wait_until(lambda: not any(map(_lives, had)), "the end of what it had")
        for client in clients:
            client.wait_for_answers()  # none was wrong, and no call failed
        assert [client.accelerator_id for client in clients] == [each.accelerator_id for each in attached]
        assert node.process.poll() is None
        assert any(f"host {victim['host_id']}" in text and "is lost" in text for text in cluster.events())
    finally:
        for client in clients:
            client.close()
        for each in attached:
            cluster.session.detach(each.accelerator_id)
    cluster.empty()


def _processes(node: RayNode, word: str) -> list[psutil.Process]:
    return [each for each in node.tree() if word in _arguments(each)]


def _lives(process: psutil.Process) -> bool:
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def _arguments(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []  # it has just ended


def _joined_anew(cluster: PoolCluster, before: dict[str, Any]) -> bool:
    """Whether it is there under a higher epoch; with its own folder, so with its id, and no node was added for it."""
    return any(
        (each["host_id"], each["node_id"]) == (before["host_id"], before["node_id"])
        and each["epoch"] > before["epoch"]
        for each in cluster.hosts()
    )


def _came_back(cluster: PoolCluster, before: Attachment) -> bool:
    """Whether it serves at another place; its token is the one that its client has, else this raises."""
    found = cluster.session.describe(before.accelerator_id, token=before.token)
    assert before.placement is not None
    assert found.placement is not None
    return found.placement > before.placement and bool(found.endpoints)
