"""Machines' networks on one machine: a network namespace for each, joined by a bridge that can cut one of them off."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path


def why_not() -> str | None:
    """Say why there can be no namespaces here; None where there can."""
    if os.geteuid() != 0:
        return "needs root, for network namespaces"
    if not all(map(shutil.which, ("ip", "nsenter", "unshare"))):
        return "needs ip (iproute2), nsenter and unshare (util-linux)"
    name = f"ei{os.getpid()}t"
    tried = subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True, timeout=20)
    if tried.returncode == 0:
        veth = ["ip", "link", "add", f"{name}a", "netns", name, "type", "veth", "peer", "name", f"{name}b"]
        tried = subprocess.run([*veth, "netns", name], capture_output=True, text=True, timeout=20)
        subprocess.run(["ip", "netns", "del", name], check=False, timeout=20)
    return None if tried.returncode == 0 else f"no network namespaces here: {tried.stderr.strip()}"


class Network:
    """So many machines; this program's own network is joined to theirs.

    Cutting one off takes its port from the bridge: its link stays up, and what it sends goes nowhere.
    """

    def __init__(self, num_machines: int) -> None:
        self._prefix = f"ei{os.getpid()}"
        self._net = f"10.{64 + os.getpid() // 250 % 60}.{os.getpid() % 250}"
        self._switch = f"{self._prefix}s"
        self._made: list[str] = []
        self.num_machines = num_machines
        try:
            self._make()
        except BaseException:
            self.close()
            raise

    def _make(self) -> None:
        for name in (self._switch, *map(self.namespace, range(self.num_machines))):
            _ip("netns", "add", name)
            self._made.append(name)
            _ip("-n", name, "link", "set", "lo", "up")
        _ip("-n", self._switch, "link", "add", "name", "br0", "type", "bridge")
        _ip("-n", self._switch, "link", "set", "br0", "up")
        for number in range(self.num_machines):
            self._plug(f"p{number}", "eth0", self.namespace(number), self.address(number))
        self._plug("own", f"{self._prefix}o", None, f"{self._net}.254")

    def _plug(self, port: str, name: str, namespace: str | None, address: str) -> None:
        inside = ["-n", namespace] if namespace else []
        at = ["netns", namespace] if namespace else []
        peer = ["type", "veth", "peer", "name", port, "netns", self._switch]
        _ip("link", "add", "name", name, *at, *peer)
        _ip(*inside, "address", "add", f"{address}/24", "dev", name)
        _ip(*inside, "link", "set", name, "up")
        _ip("-n", self._switch, "link", "set", port, "master", "br0", "up")

    def namespace(self, number: int) -> str:
        """The name of a machine's namespace."""
        return f"{self._prefix}n{number}"

    def address(self, number: int) -> str:
        """The address of a machine."""
        return f"{self._net}.{number + 1}"

    def inside(self, number: int) -> list[str]:
        """What a command begins with that runs on a machine; its files are this machine's."""
        return ["nsenter", f"--net=/run/netns/{self.namespace(number)}"]

    def apart(self, number: int, hidden: Path) -> list[str]:
        """What a command begins with that runs on a machine and does not see a folder: a socket there is a way too."""
        hide = 'mount -t tmpfs none "$0" && exec "$@"'
        return [*self.inside(number), "unshare", "--mount", "sh", "-c", hide, str(hidden)]

    def cut(self, number: int) -> None:
        """Cut a machine off from all others."""
        _ip("-n", self._switch, "link", "set", f"p{number}", "nomaster")

    def heal(self, number: int) -> None:
        """Join it again."""
        _ip("-n", self._switch, "link", "set", f"p{number}", "master", "br0")

    def close(self) -> None:
        """Take everything away; what runs inside must have ended."""
        subprocess.run(
            ["ip", "link", "del", f"{self._prefix}o"], check=False, capture_output=True, timeout=20
        )
        for name in self._made:
            subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True, timeout=20)


def _ip(*arguments: str) -> None:
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True, timeout=20)
    assert done.returncode == 0, f"ip {' '.join(arguments)}: {done.stderr}"
