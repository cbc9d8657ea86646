"""Two network namespaces joined by a cable that carries 1 Gbit/s and no more; needs root and iproute2.

The rate is held by a token bucket (`tc tbf`) on both ends, which counts whole Ethernet frames (payload and
headers, without preamble and checksum). Of 1,514 counted bytes at most 1,448 are payload: 95.6 % of the nominal rate is
the most that any TCP program can use, and what raw sockets reach on the same cable is printed beside it.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass

BITS_PER_SECOND = 1_000_000_000
_BURST = "256kb"  # holds the largest packet that segmentation offload hands down (64 KB) a few times
_LATENCY = "100ms"  # how long a queue may get before packets are dropped


@dataclass(frozen=True)
class Link:
    """The two ends: command prefixes to run there, and the server's address."""

    client: tuple[str, ...]
    server: tuple[str, ...]
    server_host: str


def why_not() -> str | None:
    """The reason for which no link can be made here, or None."""
    if os.geteuid() != 0:
        return "needs root"
    missing = [name for name in ("ip", "tc") if shutil.which(name) is None]
    return f"needs {' and '.join(missing)} (iproute2)" if missing else None


@contextlib.contextmanager
def gigabit_link() -> Iterator[Link]:
    """Make the namespaces and the cable, and take them away again."""
    tag = secrets.token_hex(3)
    spaces = [f"ei-bench-{tag}-{side}" for side in ("client", "server")]
    devices = [f"eib{tag}{side}" for side in "cs"]
    hosts = ("10.213.7.1", "10.213.7.2")
    with contextlib.ExitStack() as stack:
        for space in spaces:
            _run("ip", "netns", "add", space)
            stack.callback(_run, "ip", "netns", "del", space)
        ends = ("netns", spaces[0], "type", "veth", "peer", "name", devices[1], "netns", spaces[1])
        _run("ip", "link", "add", devices[0], *ends)
        for space, device, host in zip(spaces, devices, hosts, strict=True):
            _run("ip", "-n", space, "addr", "add", f"{host}/24", "dev", device)
            _run("ip", "-n", space, "link", "set", "lo", "up")
            _run("ip", "-n", space, "link", "set", device, "up")
            rate = ("tbf", "rate", f"{BITS_PER_SECOND}bit", "burst", _BURST, "latency", _LATENCY)
            _run("tc", "-n", space, "qdisc", "add", "dev", device, "root", *rate)
        prefixes = [("ip", "netns", "exec", space) for space in spaces]
        yield Link(prefixes[0], prefixes[1], hosts[1])


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()}")
