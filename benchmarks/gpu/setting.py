"""On which device and how long rows run, and the host that they run on."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.isolation.hosts import RunningHost, type_name
from benchmarks.isolation.load import LoadProcess
from benchmarks.isolation.tenants import load
from elastic_inference.client.host_session import Attachment


@dataclass(frozen=True)
class Setting:
    """How a row runs.

    Attributes:
        device: `cuda:0`, or `cpu:0` for a dry run with small models.
        seconds: Of each measured run under load.
        folder: Where models are kept between rows.
        limits: See `ei host start --limits`; "best" for the strongest that works.
    """

    device: str
    seconds: float
    folder: Path
    limits: str = "best"

    @property
    def is_small(self) -> bool:
        """Whether this is the dry run, whose figures say nothing."""
        return self.device.startswith("cpu")

    @property
    def torch_device(self) -> str:
        """PyTorch's own name of the device."""
        return "cpu" if self.is_small else self.device


@dataclass(frozen=True)
class Type:
    """A type to offer.

    Attributes:
        share: Of the device.
        cpu_share: Of the host's cores beside a GPU.
        device_memory: Of a GPU.
    """

    share: float
    may_burst: bool = False
    cpu_share: float = 0.4
    device_memory: str = "16GiB"

    @property
    def name(self) -> str:
        """What it is called."""
        return type_name(self.share) + ("-burst" if self.may_burst else "")

    def text(self, setting: Setting) -> str:
        """Its table in the types file."""
        lines = [
            f'["{self.name}"]',
            f"device_share = {self.share}",
            f"may_burst = {str(self.may_burst).lower()}",
        ]
        if setting.is_small:
            lines += ['memory = "3GiB"']
        else:
            lines += ['device_kind = "cuda"', 'memory = "16GiB"', f'device_memory = "{self.device_memory}"']
            lines += [f"cpu_share = {self.cpu_share}"]
        return "\n".join(lines) + "\n\n"


@contextlib.contextmanager
def gpu_host(setting: Setting, *types: Type) -> Iterator[RunningHost]:
    """A host of the one device, shared by lease, for the block."""
    sharing = "--cpu-sharing" if setting.is_small else "--gpu-sharing"
    arguments = ["--device", setting.device, sharing, "lease", "--data-listen", "127.0.0.1"]
    text = "".join(dict.fromkeys(one.text(setting) for one in types))
    with tempfile.TemporaryDirectory(prefix="gpu-check-") as folder:
        os.chmod(folder, 0o755)  # accelerators run as users of their own
        host = RunningHost(Path(folder), (), setting.limits, False, types=text, arguments=arguments)
        try:
            yield host
        except Exception:
            _print_logs(Path(folder))
            raise
        finally:
            if host.process.poll() is None:
                host.close()


def _print_logs(folder: Path) -> None:
    """What host and accelerators said, into the row's log, before the folder goes."""
    for path in (folder / "host.log", *sorted(folder.glob("state/logs/*.log"))):
        if path.exists() and (text := path.read_text(errors="replace").strip()):
            print(f"--- {path.name}: {text[-3000:]}", file=sys.stderr)


@contextlib.contextmanager
def attached(host: RunningHost, *types: Type) -> Iterator[list[Attachment]]:
    """Accelerators for the block, started at once."""
    with ThreadPoolExecutor(len(types)) as pool:
        attachments = list(pool.map(lambda one: host.session.attach(one.name, lease_seconds=None), types))
    try:
        yield attachments
    finally:
        for one in attachments:
            host.detach(one)


@contextlib.contextmanager
def clients(*wanted: tuple[Attachment, dict[str, Any], dict[str, Any]]) -> Iterator[list[LoadProcess]]:
    """Client processes for the block, each of an accelerator, a model and changes; their models load at once."""
    with ThreadPoolExecutor(len(wanted)) as pool:
        waiting = [pool.submit(load, one, model, **changes) for one, model, changes in wanted]
    try:
        yield [one.result() for one in waiting]
    finally:
        for one in waiting:
            if one.exception() is None:
                one.result().kill()
