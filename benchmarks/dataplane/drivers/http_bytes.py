"""Exchanges with servers that take a raw body: `http.client` on a kept connection.

That is the standard library's client, and kinder to these peers than requests or httpx, which their own
examples use: those add between 0.3 and 1 ms to each call.
"""

from __future__ import annotations

import http.client
from collections.abc import Callable
from functools import partial

from benchmarks.dataplane.drivers.drive import drive, in_threads
from benchmarks.dataplane.payloads import FRAME, PAYLOADS

_HEADERS = {"Content-Type": "application/octet-stream"}


def _exchange(connection: http.client.HTTPConnection, path: str, payload: bytes) -> bytes:
    try:
        connection.request("POST", path, payload, _HEADERS)
        response = connection.getresponse()
    except ConnectionError:  # uvicorn closes a connection that was idle, or frozen, for five seconds
        connection.close()
        connection.request("POST", path, payload, _HEADERS)
        response = connection.getresponse()
    body = response.read()
    if response.status != 200:
        raise RuntimeError(f"status {response.status}: {body[:200]!r}")
    return body


def exchanger(port: int, path: str, payload: bytes) -> Callable[[], bytes]:
    """One exchange over a connection of its own, which it keeps."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    return partial(_exchange, connection, path, payload)


def is_ready(port: int, path: str) -> None:
    """Make one exchange; raises while the server is not there."""
    exchanger(port, path, PAYLOADS["small"])()


def drive_http(port: int, path: str) -> None:
    """Take turns against a server at this port of loopback."""
    exchanges = {name: exchanger(port, path, payload) for name, payload in PAYLOADS.items()}
    four = [exchanger(port, path, FRAME) for _ in range(4)]
    drive(exchanges, {"in_flight": partial(in_threads, four)})
