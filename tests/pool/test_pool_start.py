"""`ei pool start` and `ei pool stop` on a real Ray node: what they refuse, at once and by name, and what they reuse."""

from __future__ import annotations

import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.pool.cluster import RAY, PoolCluster, running_pool
from tests.waiting import wait_until

pytestmark = [
    pytest.mark.timeout(400),
    pytest.mark.skipif(not RAY.exists(), reason="needs ray (pip install 'elastic-inference[pool]')"),
]


@pytest.fixture(scope="module")
def own() -> Iterator[PoolCluster]:
    """A pool of one node, which tests stop and start."""
    with running_pool(1) as pool:
        yield pool


def test_a_second_start_says_that_a_pool_runs_and_what_differs(own: PoolCluster) -> None:
    assert "ran already with these options" in own.ei("pool", "start", *own.start_options)
    pid = own.pool_pid()
    said = own.refused("pool", "start", *own.start_options, "--listen", "127.0.0.1:1")
    assert f"at {own.url}, with other options: listen '127.0.0.1:1', there '127.0.0.1:{own.port}'" in said
    said = own.refused("pool", "start", *own.start_options, "--database", "postgresql://u:geheim@db/pool")
    assert "database_url differs" in said
    assert "geheim" not in said
    assert own.pool_pid() == pid


def test_stop_leaves_other_pools_alone(own: PoolCluster, tmp_path: Path) -> None:
    folder = own.folder / "p"
    other = tmp_path / "other"
    other.mkdir()
    shutil.copy(folder / "cluster.json", other)  # an address that is another's by now
    said = own.refused("pool", "stop", "--state-dir", str(other))
    assert f"keeps its state in {folder}" in said
    assert len(own.hosts()) == 1


def test_start_says_at_once_what_is_in_its_way(own: PoolCluster) -> None:
    said = own.ei("pool", "stop", "--state-dir", str(own.folder / "p"))  # which knows its cluster
    assert f"the pool {own.url} on the Ray cluster" in said
    assert not (own.folder / "p" / "cluster.json").exists()
    with socket.create_server(("127.0.0.1", own.port)):
        said = own.refused("pool", "start", *own.start_options)
    assert f"--listen 127.0.0.1:{own.port}" in said
    assert "in use" in said
    said = own.refused("pool", "start", *own.start_options, "--database", "sqlite:////proc/none/x.db")
    assert "cannot run: database" in said
    assert "runs no pool" in own.refused("pool", "stop", "--ray", own.ray)  # nothing of it is left
    own.ei("pool", "start", *own.start_options)
    own.wait_ready(1)


def test_a_node_that_is_started_again_uses_its_hosts_folder(own: PoolCluster) -> None:
    (folder,) = (path.parent for path in (own.folder / "p" / "hosts").glob("*/host.id"))
    before = own.hosts()[0]
    own.nodes.pop().kill()
    own.add_node()
    own.ei("pool", "start", *own.start_options)
    # As the pool's database has it, the host of before is there until its lease has ended.
    wait_until(
        lambda: any(host["node_id"] != before["node_id"] for host in own.hosts()), "the new node's host", 120
    )
    (after,) = own.hosts()
    assert after["host_id"] == before["host_id"]
    assert after["epoch"] > before["epoch"]
    assert [path.parent for path in (own.folder / "p" / "hosts").glob("*/host.id")] == [folder]
