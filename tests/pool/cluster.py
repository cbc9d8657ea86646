"""A Ray cluster of several nodes on this machine with a pool on it: real processes, bounded, and none left behind."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil
import pytest

from elastic_inference.client.host_session import HostSession
from elastic_inference.errors import ElasticInferenceError
from elastic_inference.protocol.tls import Tls
from tests.host.support import wait_for_host
from tests.host.tenants import take_all_away
from tests.pool.network import Network
from tests.pool.proxy import CuttingProxy
from tests.waiting import wait_until

OBJECT_STORE_BYTES = 80 << 20
RAY = Path(sys.executable).with_name("ray")
TYPES = """
["tiny"]
memory = "700MiB"
device_share = 0.1
["small"]
memory = "256MiB"
device_share = 0.1
usd_per_hour = "0.13"
["bursty"]
memory = "256MiB"
device_share = 0.1
may_burst = true
["dear"]
memory = "256MiB"
device_share = 0.6
usd_per_hour = "3600"
["all"]
memory = "256MiB"
device_share = 1.0
"""
POOL = """
listen = "{address}:{port}"
state_dir = "{folder}/p"
{times}
[host]
types = "{folder}/types.toml"
spares = {spares}
uids = "63300-63399"
{host}
"""
# Under a load of other tests processes may not run for seconds: a lease that ends then would be right, and no test.
PATIENT = 'lease = "10s"'


class RayNode:
    """One `ray start --block` with all that it starts.

    Args:
        inside: What its command begins with: see `Network.inside`.
    """

    def __init__(
        self, arguments: list[str], log: Path, inside: Sequence[str], environment: Mapping[str, str]
    ) -> None:
        options = ["--num-cpus=1", f"--object-store-memory={OBJECT_STORE_BYTES}", "--disable-usage-stats"]
        with log.open("w") as file:
            self.process = subprocess.Popen(
                [*inside, str(RAY), "start", *arguments, *options, "--block"],
                stdout=file,
                stderr=file,
                env=environment,
                start_new_session=True,
            )
        self._known: set[psutil.Process] = set()
        self.killed_at = 0.0  # on time.monotonic, as soon as all of its processes have the signal

    def tree(self) -> set[psutil.Process]:
        """All processes of the node that live, those that it started and that went on without it too."""
        with contextlib.suppress(psutil.NoSuchProcess):
            me = psutil.Process(self.process.pid)
            self._known |= {me, *me.children(recursive=True)}
        for known in list(self._known):
            with contextlib.suppress(psutil.NoSuchProcess):
                self._known |= set(known.children(recursive=True))
        return {each for each in self._known if each.is_running()}

    def send(self, number: signal.Signals) -> None:
        """Send a signal to all of them, parents first, so that none is started again."""
        for process in sorted(self.tree(), key=lambda each: each.pid):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(number)

    def kill(self) -> None:
        """End all of them at once, as a machine does that loses its power."""
        tree = self.tree()
        while tree:
            for process in tree:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
            self.killed_at = self.killed_at or time.monotonic()
            psutil.wait_procs([each for each in tree if each.pid != self.process.pid], 5)
            self.process.wait(60)
            tree = self.tree()


class PoolCluster:
    """A pool on `num_nodes` Ray nodes, the head among them.

    Args:
        folder: Short, since Unix sockets lie below it.
        times, host: Lines of `pool.toml`: of the pool, and of its hosts.
        proxy: What hosts reach the pool by, where `times` say so.
        network: Each node is a machine of it; None: all are this one.
        installed: A folder whose packages come before those of this Python.
        autoscaling: What Ray's autoscaler is told, but for the cluster's address; None: it starts no nodes.
        tls: A folder with what `ei host init-tls` made; None: nothing is encrypted.
    """

    def __init__(
        self,
        folder: Path,
        num_nodes: int,
        times: str = PATIENT,
        host: str = "",
        spares: int = 1,
        tls: Path | None = None,
        proxy: CuttingProxy | None = None,
        network: Network | None = None,
        installed: Path | None = None,
        autoscaling: dict[str, Any] | None = None,
    ) -> None:
        self._autoscaling = autoscaling
        self.folder = folder
        self._environment = {**os.environ, "RAY_USAGE_STATS_ENABLED": "0"}
        if installed is not None:
            self._environment["PYTHONPATH"] = f"{installed}:{self._environment.get('PYTHONPATH', '')}"
        self._network = network
        self._address = "127.0.0.1" if network is None else network.address(0)
        folder.mkdir(mode=0o711, exist_ok=True)
        self.port, self._ray_port = free_port(), free_port()
        if proxy is not None:
            proxy.target = self.port
        (folder / "types.toml").write_text(TYPES)
        text = POOL.format(
            address=self._address, port=self.port, folder=folder, times=times, host=host, spares=spares
        )
        (folder / "pool.toml").write_text(text)
        self.url = f"{'http' if tls is None else 'https'}://{self._address}:{self.port}"
        self.tls = None if tls is None else Tls(str(tls / "ca.pem"))
        self.nodes: list[RayNode] = []
        self._num_started = 0
        try:
            # Ray keeps one address for all nodes that share a disk: where they have several, a driver comes first.
            for _ in range(num_nodes if network is None else 1):
                self.add_node()
            files: list[str] = []
            for option, name in (
                ("--tls-ca", "ca.pem"),
                ("--tls-cert", "host.pem"),
                ("--tls-key", "host.key"),
            ):
                files += [] if tls is None else [option, str(tls / name)]
            self.start_options = ["--ray", self.ray, "--config", str(folder / "pool.toml"), *files]
            self.ei("pool", "start", *self.start_options)
            while len(self.nodes) < num_nodes:
                self.add_node()
            self.token = (folder / "p" / "operator.token").read_text().strip()
            self.session = HostSession(self.url, self.token, tls=self.tls)
            self.wait_ready(num_nodes)
        except BaseException:
            self.close()
            raise

    @property
    def ray(self) -> str:
        """The cluster's address."""
        return f"{self._address}:{self._ray_port}"

    def add_node(self) -> RayNode:
        """Start a further node; the first is the head."""
        where = (
            [f"--address={self.ray}"]
            if self.nodes
            else [
                "--head",
                f"--port={self._ray_port}",
                "--include-dashboard=false",
                f"--temp-dir={self.folder}/ray",
            ]
        )
        environment: dict[str, str] = {}
        if not self.nodes:
            where += ["--ray-client-server-port", str(free_port())]
            if self._autoscaling is not None:
                provider = {**self._autoscaling["provider"], "gcs_address": self.ray}
                file = self.folder / "scaling.json"
                file.write_text(json.dumps({**self._autoscaling, "provider": provider}))
                where.append(f"--autoscaling-config={file}")
                environment = {"RAY_FAKE_CLUSTER": "1", "AUTOSCALER_UPDATE_INTERVAL_S": "1"}
        log, inside = self.folder / f"node{self._num_started}.log", list[str]()
        if self._network is not None:
            where.append(f"--node-ip-address={self._network.address(self._num_started)}")
            inside = self._network.inside(self._num_started)
        self._num_started += 1
        node = RayNode(where, log, inside, {**self._environment, **environment})
        self.nodes.append(node)
        # One after another: at the same time they may choose the same ports.
        wait_until(lambda: "This command will now block" in log.read_text(), "a Ray node", 120)
        return node

    def ei(self, *arguments: str) -> str:
        """Run the command line; what it prints."""
        done = self._run(*arguments)
        log = self.folder / "p" / "pool.log"
        tail = log.read_text()[-2000:] if log.exists() else ""
        assert done.returncode == 0, f"{arguments}: {done.stderr}\n{tail}"
        return done.stdout

    def refused(self, *arguments: str) -> str:
        """Run the command line, which must fail; what it says."""
        done = self._run(*arguments)
        assert done.returncode != 0, f"{arguments}: {done.stdout}"
        assert "Traceback" not in done.stderr
        return done.stderr

    def _run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        inside = [] if self._network is None else self._network.inside(0)
        return subprocess.run(
            [*inside, sys.executable, "-m", "elastic_inference", *arguments],
            capture_output=True,
            text=True,
            timeout=150,
            env=self._environment,
        )

    # What there is

    def hosts(self, state: str = "ready") -> list[dict[str, Any]]:
        """Hosts in this state; none where the pool does not answer now."""
        with contextlib.suppress(ElasticInferenceError):
            return [each for each in self.session.request("GET", "/v1/pool/hosts") if each["state"] == state]
        return []

    def wait_ready(self, number: int) -> None:
        """Wait until so many hosts take accelerators."""
        wait_until(lambda: len(self.hosts()) >= number, f"{number} hosts", 120)

    def node_of(self, host: dict[str, Any]) -> RayNode:
        """The node that a host runs on."""
        wanted = host["node_id"]
        for node in self.nodes:
            for process in node.tree():
                with contextlib.suppress(psutil.Error):
                    if any(wanted in argument for argument in process.cmdline()):
                        return node
        raise AssertionError(f"no node has the id {wanted}")

    def holder(self, accelerator_id: str) -> dict[str, Any]:
        """The host that has an accelerator."""
        found = [
            host
            for state in ("ready", "draining")
            for host in self.hosts(state)
            if accelerator_id in host["accelerator_ids"]
        ]
        assert len(found) == 1, found
        return found[0]

    def pool_pid(self) -> int:
        """The process that is the pool service."""
        return int(self.session.request("GET", "/v1/pool")["pid"])

    def empty(self) -> None:
        """Take all tenants and accelerators away, and wait until nothing is left of them and nobody waits."""
        take_all_away(self.session)
        wait_for_host(lambda: not any(host["accelerator_ids"] for host in self.hosts()), "nothing left over")
        wait_for_host(lambda: self.session.request("GET", "/v1/board")["waiting"] == [], "nobody to wait")

    def kill_service(self) -> None:
        """Kill the pool service, and wait until its successor answers."""
        before = self.pool_pid()
        os.kill(before, signal.SIGKILL)

        def is_taken_over() -> bool:
            with contextlib.suppress(ElasticInferenceError):
                return self.pool_pid() != before
            return False

        wait_until(is_taken_over, "a successor")

    def events(self) -> list[str]:
        """What happened, oldest first."""
        return [each["text"] for each in self.session.request("GET", "/v1/board")["events"]]

    def close(self) -> None:
        """End everything, in order where that can be, and see that nothing is left."""
        with contextlib.suppress(AssertionError, subprocess.TimeoutExpired):
            if (self.folder / "p" / "operator.token").exists():
                self.ei("pool", "stop", "--ray", self.ray)
        for node in reversed(self.nodes):
            node.kill()
        shutil.rmtree(self.folder, ignore_errors=True)


@contextlib.contextmanager
def running_pool(num_nodes: int, **options: Any) -> Iterator[PoolCluster]:
    """A pool in a folder of its own for the block; skips where there is no Ray. `options`: see `PoolCluster`."""
    if not RAY.exists():
        pytest.skip("needs ray (pip install 'elastic-inference[pool]')")
    folder = Path(tempfile.mkdtemp(prefix="eip-", dir="/tmp"))
    folder.chmod(0o711)
    with contextlib.closing(PoolCluster(folder, num_nodes, **options)) as pool:
        yield pool


def free_port() -> int:
    """A port that nobody has now."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])
