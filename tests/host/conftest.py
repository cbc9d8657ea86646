"""Real parts for the tests of the host: hosts in this process and in processes of their own."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from elastic_inference.client.host_session import HostSession
from elastic_inference.host.devices import Device, cache_key
from elastic_inference.host.host import Host
from elastic_inference.host.settings import HostSettings
from elastic_inference.limits.machine import usable_cores
from tests.host.support import wait_until
from tests.integration.tiny_model import write_doubling_graph
from tests.waiting import read_line

GIB = 1024**3
DEVICE = Device("cpu:0", "cpu", "a CPU", 2.0, 4 * GIB, {"fp32": 0.2}, "given by the test")
RUN_EI = "import sys; from elastic_inference.cli import main; sys.exit(main())"
# Hosts of other test runs on this machine look for ports too.
_ports = itertools.count(random.randrange(20000, 32000, 20), 20)


def free_ports() -> range:
    """A range of TCP ports below those of outgoing connections, not given to another host of this run."""
    first = next(_ports)
    return range(first, first + 20)


@contextlib.contextmanager
def new_state_dir() -> Iterator[Path]:
    """A folder that accelerators may enter, who are other users where the tests run as root."""
    parent = Path(tempfile.mkdtemp(prefix="ei-"))
    parent.chmod(0o755)
    try:
        yield parent / "state"
    finally:
        shutil.rmtree(parent)


@pytest.fixture
def state_dir() -> Iterator[Path]:
    """A state directory of this test."""
    with new_state_dir() as directory:
        yield directory


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A graph that doubles `x`."""
    return write_doubling_graph(tmp_path / "doubling.pb")


@pytest.fixture
def open_host(state_dir: Path) -> Iterator[Callable[..., Host]]:
    """Opens hosts in this process; the arguments are fields of HostSettings."""
    with contextlib.ExitStack() as stack:

        def open_one(**changes: Any) -> Host:
            settings = {
                "state_dir": state_dir,
                "devices": (DEVICE,),
                "ports": free_ports(),
                "num_spares": 0,
                **changes,
            }
            return stack.enter_context(Host(HostSettings(**settings)))

        yield open_one


@dataclass
class HostProcess:
    """`ei host start` in a process of its own."""

    process: subprocess.Popen[str]
    url: str
    state_dir: Path
    log_path: Path

    @property
    def operator_token(self) -> str:
        return (self.state_dir / "operator.token").read_text().strip()

    def session(self, token: str | None = None, **options: Any) -> HostSession:
        return HostSession(self.url, token or self.operator_token, **options)

    def end(self) -> int:
        """End it in order; its exit status."""
        self.process.terminate()
        return self.process.wait(60)

    def kill(self) -> None:
        """kill -9."""
        self.process.kill()
        self.process.wait(30)


@pytest.fixture
def start_host(state_dir: Path) -> Iterator[Callable[..., HostProcess]]:
    """Starts `ei host start` with further arguments; all are ended at the end, with their accelerators."""
    with _starter(state_dir) as start:
        yield start


@contextlib.contextmanager
def _starter(state_dir: Path) -> Iterator[Callable[..., HostProcess]]:
    ports = free_ports()
    running: list[HostProcess] = []

    def start(*arguments: str, num_descriptors: int | None = None, within: Sequence[str] = ()) -> HostProcess:
        state_dir.parent.joinpath("cache").mkdir(exist_ok=True)
        environment = {**os.environ, "XDG_CACHE_HOME": _measured_cache(state_dir.parent / "cache")}
        log_path = state_dir.parent / f"host{len(running)}.log"
        command = [
            *within,
            *(() if num_descriptors is None else _within(num_descriptors)),
            *(sys.executable, "-c", RUN_EI, "host", "start", "--json"),
            *("--state-dir", str(state_dir), "--listen", "127.0.0.1:0"),
            *("--ports", f"{ports[0]}-{ports[-1]}", *arguments),
        ]
        with open(log_path, "w") as log:
            process = subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=log, text=True, env=environment, cwd="/"
            )
        assert process.stdout is not None
        with process.stdout:
            line = read_line(process)
        if not line:
            process.wait(30)
            raise RuntimeError(f"the host did not start: {log_path.read_text()[-2000:]}")
        host = HostProcess(process, json.loads(line)["url"], state_dir, log_path)
        running.append(host)
        return host

    try:
        yield start
    finally:
        for host in running:
            if host.process.poll() is None:
                host.end()
        # A host that was killed leaves its accelerators; one more finds them and ends them.
        if running and running[-1].process.returncode != 0:
            start().end()


def _within(num_descriptors: int) -> list[str]:
    """What a command line begins with so that the program may open so many descriptors."""
    return ["/bin/sh", "-c", f'ulimit -n {num_descriptors} && exec "$@"', "within"]


def _measured_cache(directory: Path) -> str:
    """A cache that says the device was measured, so that a host starts at once."""
    entry = {"tflops": {"fp32": 0.2}, "source": "given by the test"}
    path = directory / "elastic-inference" / "devices.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({cache_key(usable_cores()): entry}))
    return str(directory)


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[str]:
    """URL of a PostgreSQL server: EI_TEST_POSTGRESQL, else one started here for this run."""
    given = os.environ.get("EI_TEST_POSTGRESQL")
    if given:
        yield given
        return
    pytest.importorskip("psycopg", reason="needs psycopg")
    programs = [shutil.which(name) for name in ("initdb", "postgres")]
    if None in programs:
        pytest.skip(
            "needs a PostgreSQL server: set EI_TEST_POSTGRESQL to the URL of a database, or install one"
        )
    # PostgreSQL refuses to run as root.
    user = {"user": "nobody", "group": "nogroup", "extra_groups": []} if os.geteuid() == 0 else {}
    with tempfile.TemporaryDirectory(prefix="ei-pg-") as directory:
        data = Path(directory) / "data"
        data.mkdir()
        if user:
            for path in (directory, data):
                shutil.chown(path, "nobody", "nogroup")
        options = {"cwd": directory, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, **user}
        subprocess.run(
            [programs[0], "-D", str(data), "-U", "ei", "-A", "trust", "-N"],
            check=True,
            **options,
            timeout=120,
        )
        arguments = ["-D", str(data), "-k", directory, "-c", "listen_addresses=", "-F"]
        with subprocess.Popen([programs[1], *arguments], **options) as server:
            try:
                wait_until(lambda: Path(directory, ".s.PGSQL.5432").exists(), "PostgreSQL's socket")
                yield f"postgresql+psycopg://ei@/postgres?host={directory}"
            finally:
                server.send_signal(signal.SIGINT)  # which ends it without waiting for connections
                server.wait(30)


@pytest.fixture
def postgresql_url(postgresql_server: str) -> Iterator[str]:
    """A PostgreSQL database without our tables."""
    import sqlalchemy as sa

    from elastic_inference.host.accounts import schema

    engine = sa.create_engine(postgresql_server)

    def can_connect() -> bool:
        try:
            engine.connect().close()
        except sa.exc.OperationalError:
            return False
        return True

    wait_until(can_connect, "PostgreSQL to answer")
    schema.metadata.drop_all(engine)
    yield postgresql_server
    schema.metadata.drop_all(engine)
    engine.dispose()
