"""Programs that attack a host's control API; each runs in a child of its own, bounded in memory, descriptors and time.

`run` takes one by its name: `python -m tests.host.attacks NAME URL ARGUMENT...`. What it writes is the test's to read.
"""

from __future__ import annotations

import contextlib
import resource
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from elastic_inference.protocol.endpoint import Endpoint

_MEMORY_BYTES = 1 << 30
_NUM_DESCRIPTORS = 1500
_SECONDS = 60.0  # an attack that nobody ends, ends


def endless_heads(endpoint: Endpoint, seconds: float) -> None:
    """Send headers without end on 64 connections, each begun anew when it is broken off."""
    chunk = b"X-Filler: " + b"a" * 1000 + b"\r\n"
    deadline = time.monotonic() + seconds
    num_sent = 0
    open_ones: list[socket.socket] = []
    while time.monotonic() < deadline:
        while len(open_ones) < 64:
            sock = endpoint.connect(5.0)
            sock.setblocking(False)
            sock.send(b"GET /v1/health HTTP/1.1\r\n")
            open_ones.append(sock)
        for sock in list(open_ones):
            try:
                num_sent += sock.send(chunk * 64)
            except BlockingIOError:
                continue
            except OSError:
                sock.close()
                open_ones.remove(sock)
    print(num_sent, flush=True)


def idle(endpoint: Endpoint, count: int) -> None:
    """Open many connections, say nothing, and keep them until standard input ends."""
    kept = []
    for _ in range(count):
        with contextlib.suppress(Exception):
            kept.append(endpoint.connect(5.0))
    print(len(kept), flush=True)
    sys.stdin.read()


def half_heads(endpoint: Endpoint, count: int) -> None:
    """The same with the first half of a request on each."""
    kept = []
    for _ in range(count):
        with contextlib.suppress(Exception):
            sock = endpoint.connect(5.0)
            sock.send(b"GET /v1/host HTTP/1.1\r\nHost: x\r\nAuthor")
            kept.append(sock)
    print(len(kept), flush=True)
    sys.stdin.read()


_ATTACKS: dict[str, Callable[..., None]] = {
    "endless_heads": lambda e, seconds: endless_heads(e, float(seconds)),
    "idle": lambda e, count: idle(e, int(count)),
    "half_heads": lambda e, count: half_heads(e, int(count)),
}


@contextlib.contextmanager
def running(name: str, url: str, argument: float) -> Iterator[str]:
    """An attack as it runs; gives the first line that it writes."""
    command = [sys.executable, "-m", "tests.host.attacks", name, url, str(argument)]
    root = Path(__file__).resolve().parents[2]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=root
    ) as child:
        assert child.stdout is not None
        try:
            yield child.stdout.readline()
        finally:
            child.kill()


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_NOFILE, (_NUM_DESCRIPTORS, _NUM_DESCRIPTORS))
    resource.setrlimit(resource.RLIMIT_CPU, (int(_SECONDS), int(_SECONDS)))
    _ATTACKS[sys.argv[1]](Endpoint.parse(sys.argv[2]), *sys.argv[3:])
