"""A real host for the benchmark: its process, its types, its tenants."""

from __future__ import annotations

import os
import re
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from elastic_inference.client.host_session import Attachment, HostSession
from elastic_inference.errors import ConnectError, ElasticInferenceError
from elastic_inference.protocol.endpoint import Endpoint
from elastic_inference.protocol.requests import request_json

START_SECONDS = 120.0
MEMORY = "4GiB"


class RunningHost:
    """The process of `ei host start` and a session with its operator's token.

    Args:
        folder: Of its state.
        shares: Types `share-NN` to offer, of so many hundredths of the device.
        limits_mode: See `ei host start --limits`.
        types: The types file's text, instead of what `shares` make.
        arguments: Further ones of `ei host start`.
    """

    def __init__(
        self,
        folder: Path,
        shares: Sequence[float],
        limits_mode: str,
        is_bursting: bool,
        types: str | None = None,
        arguments: Sequence[str] = (),
    ) -> None:
        self._folder = folder
        self._types = folder / "types.toml"
        if types is None:
            types = "".join(_type(share, is_bursting) for share in sorted(set(shares))) + _small_type()
        self._types.write_text(types)
        self._arguments = arguments
        self._limits_mode = limits_mode
        self._address = f"unix:{folder}/host.sock"
        self.start()

    def start(self) -> None:
        """Start the process and wait until it answers."""
        self.spawn()
        self.wait_answers()

    def spawn(self) -> None:
        """Start the process."""
        self.process = subprocess.Popen(
            [
                *(sys.executable, "-m", "elastic_inference", "host", "start"),
                *("--listen", self._address, "--state-dir", str(self._folder / "state")),
                *("--types", str(self._types)),
                *(("--limits", self._limits_mode) if self._limits_mode != "best" else ()),
                *self._arguments,
            ],
            start_new_session=True,  # as a service has one
            stdout=subprocess.DEVNULL,
            stderr=open(self._folder / "host.log", "ab"),  # noqa: SIM115  # the process's own from here on
        )

    def wait_answers(self) -> None:
        """Wait until the process answers."""
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                token = (self._folder / "state" / "operator.token").read_text().strip()
                self.session = HostSession(self._address, token)
                self.status = self.session.request("GET", "/v1/host")
                return
            except (OSError, ElasticInferenceError) as error:
                if time.monotonic() > deadline or self.process.poll() is not None:
                    raise RuntimeError((self._folder / "host.log").read_text()[-2000:]) from error
                time.sleep(0.1)

    def kill(self) -> None:
        """End the process as a crash would."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def close(self) -> None:
        """Detach all accelerators and end the process."""
        for view in self.session.request("GET", "/v1/accelerators"):
            self.session.detach(view["accelerator_id"], drain_seconds=0)
        self.process.terminate()
        self.process.wait(60)

    def attach(self, share: float) -> Attachment:
        """An accelerator of so large a share, without a lease."""
        return self.session.attach(type_name(share), lease_seconds=None)

    def detach(self, attachment: Attachment) -> None:
        """Give it back."""
        self.session.detach(attachment.accelerator_id, drain_seconds=0)


@contextmanager
def running_host(
    shares: Sequence[float], limits_mode: str, is_bursting: bool = False
) -> Iterator[RunningHost]:
    """A host for the block."""
    with tempfile.TemporaryDirectory(prefix="isolation-") as folder:
        os.chmod(folder, 0o755)  # accelerators run as users of their own
        host = RunningHost(Path(folder), shares, limits_mode, is_bursting)
        try:
            yield host
        finally:
            if host.process.poll() is None:
                host.close()


def type_name(share: float) -> str:
    """What the type of a share is called."""
    return f"share-{round(share * 1000):04d}"


def _type(share: float, is_bursting: bool) -> str:
    memory = f"{max(round(20 * share), 1)}GiB"
    return (
        f'["{type_name(share)}"]\ndevice_share = {share}\nmemory = "{memory}"\n'
        f'usd_per_hour = "0.10"\nmay_burst = {str(is_bursting).lower()}\n\n'
    )


def _small_type() -> str:
    return '["small"]\ndevice_share = 0.1\nmemory = "400MiB"\nusd_per_hour = "0.01"\n'


def process_number(attachment: Attachment) -> int:
    """The accelerator's process, by who listens on its Unix socket; waits while it is started again."""
    endpoint = Endpoint.parse(next(e for e in attachment.endpoints if e.startswith("unix:")))
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            sock = endpoint.connect(5)
            break
        except ConnectError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
    with sock:
        size = struct.calcsize("3i")
        return int(struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size))[0])


def memory_group(pid: int) -> Path | None:
    """The directory of the process's memory group where a host made one; None without control groups."""
    for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if "elastic-inference" in path and controllers in ("memory", ""):
            return Path("/sys/fs/cgroup", controllers, path.lstrip("/"))
    return None


def cpu_seconds(attachment: Attachment) -> float:
    """CPU seconds of the accelerator's process so far, by its own metrics."""
    return metric(attachment, "elastic_inference_cpu_seconds_total")


def metric(attachment: Attachment, name: str) -> float:
    """One of the accelerator's own metrics, as it stands now."""
    endpoint = Endpoint.parse(attachment.usable_endpoints()[0])
    text = str(request_json(endpoint, "GET", "/metrics", token=attachment.token))
    match = re.search(rf"^{name} (\S+)$", text, re.MULTILINE)
    assert match is not None, f"the metric {name} is not there"
    return float(match[1])
