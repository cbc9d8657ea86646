"""`ei pool upgrade`: a pool of real hosts gets another version under load, one after another, and no call fails."""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import elastic_inference
from elastic_inference.pool.versions import PROTOCOL
from tests.pool.cluster import RAY, PoolCluster
from tests.pool.load import Client
from tests.waiting import wait_until

pytestmark = [
    pytest.mark.timeout(600),
    pytest.mark.skipif(not RAY.exists(), reason="needs ray (pip install 'elastic-inference[pool]')"),
]
NOW = importlib.metadata.version("elastic-inference")
LATER = "99.0.1"


class Installation:
    """A copy of the package, before the one that is tested, with a version of its own; its files can be changed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._package = folder / "elastic_inference"
        shutil.copytree(
            Path(elastic_inference.__file__).parent,
            self._package,
            ignore=shutil.ignore_patterns("__pycache__"),
        )
        self.set_version(NOW)

    def set_version(self, version: str) -> None:
        """Be of this version from now on."""
        for old in self.folder.glob("*.dist-info"):
            shutil.rmtree(old)
        told = self.folder / f"elastic_inference-{version}.dist-info"
        told.mkdir()
        (told / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: elastic-inference\nVersion: {version}\n"
        )

    @contextlib.contextmanager
    def changed(self, name: str, old: str, new: str) -> Iterator[None]:
        """Have another text in a file meanwhile."""
        path = self._package / name
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new, 1))
        try:
            yield
        finally:
            path.write_text(text)


@pytest.fixture(scope="module")
def installation() -> Iterator[Installation]:
    folder = Path(tempfile.mkdtemp(prefix="eii-", dir="/tmp"))
    folder.chmod(0o755)  # accelerators run as users of their own
    yield Installation(folder)
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def own(installation: Installation) -> Iterator[PoolCluster]:
    folder = Path(tempfile.mkdtemp(prefix="eip-", dir="/tmp"))
    folder.chmod(0o711)
    pool = PoolCluster(folder, 2, installed=installation.folder)
    try:
        yield pool
    finally:
        pool.close()
        shutil.rmtree(folder, ignore_errors=True)


def access(pool: PoolCluster) -> list[str]:
    return ["--host", pool.url, "--token", pool.token]


def epochs(pool: PoolCluster) -> dict[str, int]:
    return {host["host_id"]: host["epoch"] for host in pool.hosts()}


def test_what_cannot_live_together_is_refused_before_anything_is_touched(
    own: PoolCluster, installation: Installation
) -> None:
    before, pid = epochs(own), own.pool_pid()
    with installation.changed("pool/versions.py", f"PROTOCOL = {PROTOCOL}\n", f"PROTOCOL = {PROTOCOL + 1}\n"):
        said = own.refused("pool", "upgrade", *access(own))
    assert "nothing was touched" in said
    assert f"another protocol ({PROTOCOL + 1}) than this pool ({PROTOCOL})" in said
    with installation.changed("host/host.py", "import", "imp ort"):
        said = own.refused("pool", "upgrade", *access(own))
    assert "nothing was touched" in said
    assert "cannot run a host" in said
    assert "SyntaxError" in said
    assert (epochs(own), own.pool_pid()) == (before, pid)
    assert len(before) == 2


def test_it_stops_at_a_host_that_does_not_come_back_and_no_call_fails(
    own: PoolCluster, installation: Installation, model: Path
) -> None:
    client = Client(own, model)
    try:
        client.wait_for_answers()
        first, second = sorted(
            own.hosts(), key=lambda host: client.accelerator_id not in host["accelerator_ids"]
        )
        names = [first["host_id"], second["host_id"]]
        with installation.changed(
            "cli/_pool_host.py",
            "    told = json.loads(sys.stdin.readline())\n",
            "    raise SystemExit('broken')\n",
        ):
            said = own.refused("pool", "upgrade", *names, "--timeout", "60", *access(own))
            assert f"in vain for host {names[0]}" in said
            assert f"stopped at {names[0]}; not touched: {names[1]}" in said
            client.wait_for_answers()
            assert epochs(own) == {names[1]: second["epoch"]}
            assert own.holder(client.accelerator_id)["host_id"] == names[1]
        own.wait_ready(2)  # mended, it comes back by itself
        client.wait_for_answers()
        client.check()
    finally:
        client.close()


def test_an_interrupted_upgrade_leaves_hosts_as_they_were(own: PoolCluster) -> None:
    held = [own.session.attach("cpu.whole", lease_seconds=None) for _ in range(2)]  # none can move
    try:
        before = epochs(own)
        victim = next(iter(before))
        command = [sys.executable, "-m", "elastic_inference", "pool", "upgrade", victim, *access(own)]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
            wait_until(lambda: own.hosts("draining") or process.poll() is not None, "a host that drains", 180)
            process.send_signal(signal.SIGINT)
            _, said = process.communicate(timeout=120)
        assert process.returncode == 130
        assert f"stopped at {victim}; not touched: none" in said
        assert epochs(own) == before
    finally:
        for each in held:
            own.session.detach(each.accelerator_id)


def test_a_pool_gets_another_version_under_load_and_no_call_fails(
    own: PoolCluster, installation: Installation, model: Path
) -> None:
    clients: list[Client] = []
    try:
        clients += [Client(own, model) for _ in range(3)]
        for client in clients:
            client.wait_for_answers()
        before, ids = epochs(own), {client.accelerator_id for client in clients}
        installation.set_version(LATER)
        told = json.loads(own.ei("pool", "upgrade", "--json", *access(own)))
        assert (told["earlier_version"], told["version"]) == (NOW, LATER)
        assert {host["host_id"] for host in told["hosts"]} == set(before)
        assert told["lost"] == []
        assert {host["version"] for host in told["hosts"]} == {LATER}
        assert sum(host["num_moved"] for host in told["hosts"]) >= len(clients)
        after = own.hosts()
        assert [host["version"] for host in after] == [LATER, LATER]
        assert all(host["epoch"] > before[host["host_id"]] for host in after)
        assert own.session.request("GET", "/v1/pool")["version"] == LATER
        for client in clients:
            client.wait_for_answers()
        assert {client.accelerator_id for client in clients} == ids
    finally:
        for client in clients:
            client.close()
