"""Which Ray cluster is meant, and whether one answers there; and where a pool's state directory says that it runs.

Ray's own search takes any cluster of the machine, and its connect waits for most of a minute where nothing listens, or
where the machine is no node.
"""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from elastic_inference.errors import ConnectError, DeadlineExceeded, InvalidInput
from elastic_inference.limits.processes import list_processes, process_uid
from elastic_inference.protocol.endpoint import Endpoint
from elastic_inference.settings import with_variables

AUTO = "auto"
ANSWER_SECONDS = 5.0
_STATE = "cluster.json"
_HELLO = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\x00\x00\x00\x04\x00\x00\x00\x00\x00"
_SETTINGS = 4  # the frame that a server of HTTP/2, and so of gRPC, begins with


@dataclass(frozen=True)
class LocalCluster:
    """A Ray cluster that has a node on this machine.

    Attributes:
        address: Of its head, `HOST:PORT`.
        uid: The user that runs the node.
    """

    address: str
    uid: int

    def __str__(self) -> str:
        try:
            return f"{self.address} (of user {pwd.getpwuid(self.uid).pw_name})"
        except KeyError:
            return f"{self.address} (of user {self.uid})"


def local_clusters() -> list[LocalCluster]:
    """Return the clusters that have nodes on this machine, by address."""
    found = set()
    for pid in list_processes():
        with contextlib.suppress(OSError):
            words = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
            uid = process_uid(pid)
            if os.path.basename(words[0]) != "raylet" or uid is None:
                continue
            found |= {
                LocalCluster(word.removeprefix("--gcs-address="), uid)
                for word in words
                if word.startswith("--gcs-address=")
            }
    return sorted(found, key=lambda each: (each.address, each.uid))


def choose_cluster(wanted: str, known: Iterable[LocalCluster] | None = None) -> str:
    """Return the address that `--ray` means.

    Args:
        wanted: `HOST:PORT`; or `auto`, which is RAY_ADDRESS where it is set, else this user's cluster of this machine.
        known: The machine's clusters; None: looked for.

    Raises:
        InvalidInput: It is no address, or `auto` may mean several, or only other users' clusters.
        ConnectError: `auto`, and no cluster runs here.
    """
    if wanted == AUTO:
        wanted = with_variables().get("RAY_ADDRESS") or AUTO
    if wanted != AUTO:
        endpoint = Endpoint.parse(wanted) if "://" not in wanted else None
        if endpoint is None or endpoint.kind != "tcp" or not endpoint.port:
            raise InvalidInput(f"--ray {wanted!r:.120} must be HOST:PORT of a cluster's head, or auto")
        return wanted
    all_known = local_clusters() if known is None else list(known)
    mine = [each for each in all_known if each.uid == os.geteuid()]
    if len(mine) == 1:
        return mine[0].address
    if not all_known:
        raise ConnectError(
            "no Ray cluster runs on this machine; start one with `ray start --head`, or join one with "
            "`ray start --address HEAD:6379`"
        )
    shown = ", ".join(map(str, mine or all_known))
    if mine:
        raise InvalidInput(
            f"{len(mine)} Ray clusters run on this machine: {shown}; say which with --ray HOST:PORT"
        )
    raise InvalidInput(
        f"the Ray clusters of this machine are other users': {shown}; use one with --ray HOST:PORT"
    )


def check_is_node(address: str, known: Iterable[LocalCluster] | None = None) -> None:
    """See that a node of a cluster runs on this machine: by that alone Ray lets anybody in.

    Args:
        address: Of its head, by whatever name; so the port says which cluster it is.
        known: The machine's clusters; None: looked for.

    Raises:
        ConnectError: None does.
    """
    all_known = local_clusters() if known is None else list(known)
    if all(_port(each.address) != _port(address) for each in all_known):
        others = "" if not all_known else f" (but of {', '.join(map(str, all_known))})"
        raise ConnectError(
            f"this machine is no node of the Ray cluster {address}{others}; run this on one, such as its head, or "
            f"join the cluster first with `ray start --address {address}`"
        )


def _port(address: str) -> str:
    return address.rpartition(":")[2]


def check_answers(address: str, timeout_seconds: float = ANSWER_SECONDS) -> None:
    """See that something which may be Ray's control store answers, in twice `timeout_seconds` at most.

    Raises:
        ConnectError: Nothing listens there, or what does is something else.
    """
    advice = "start a cluster with `ray start --head`, or give --ray the address that this printed"
    try:
        with Endpoint.parse(address).connect(timeout_seconds) as sock:
            sock.settimeout(timeout_seconds)
            sock.sendall(_HELLO)
            head = _read(sock, 9)
    except (ConnectError, DeadlineExceeded) as error:
        raise ConnectError(f"no Ray cluster answers at {address}: {error}; {advice}") from error
    except OSError as error:
        raise ConnectError(f"what listens at {address} is no Ray cluster: {error}; {advice}") from error
    if len(head) < 9 or head[3] != _SETTINGS:
        raise ConnectError(f"what listens at {address} is no Ray cluster: it does not speak gRPC; {advice}")


def _read(sock: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size and (more := sock.recv(size - len(data))):
        data += more
    return data


def remember_cluster(state_dir: Path, address: str) -> None:
    """Write into a pool's state directory on which cluster it runs."""
    partial = state_dir / f"{_STATE}.partial"
    partial.write_text(json.dumps({"ray_address": address}) + "\n")
    os.replace(partial, state_dir / _STATE)


def remembered_cluster(state_dir: Path) -> str | None:
    """Return on which cluster the pool of a state directory runs; None where it runs on none."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        return str(json.loads((state_dir / _STATE).read_text())["ray_address"])
    return None


def forget_cluster(state_dir: Path) -> None:
    """Note that a pool has ended."""
    with contextlib.suppress(OSError):
        (state_dir / _STATE).unlink()
