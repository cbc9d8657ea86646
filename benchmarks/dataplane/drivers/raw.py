"""The limit: blocking sockets (plain or TLS) with kept buffers on both sides, server in its own process.

The request is eight bytes of length and the payload, the reply four bytes; nothing is parsed.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import socket
import ssl
import struct
import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial

from benchmarks.dataplane.drivers.drive import drive, free_port, in_threads, server
from benchmarks.dataplane.payloads import FRAME, PAYLOADS, REPLY

_LENGTH = struct.Struct("<Q")


def _receive(connection: socket.socket, view: memoryview) -> bool:
    """Fill the view; False where the peer closed before the first byte."""
    at = 0
    while at < len(view):
        got = connection.recv_into(view[at:])
        if got == 0:
            return False
        at += got
    return True


def _serve_connection(connection: socket.socket) -> None:
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    head = bytearray(_LENGTH.size)
    kept = memoryview(bytearray(len(FRAME)))
    with connection:
        while _receive(connection, memoryview(head)):
            if not _receive(connection, kept[: _LENGTH.unpack(head)[0]]):
                return
            connection.sendall(REPLY)


def serve(host: str, port: int, folder: str | None) -> None:
    """Accept connections for ever, a thread for each; TLS where a folder with a certificate is given."""
    context = None
    if folder is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(f"{folder}/cert.pem", f"{folder}/key.pem")
    with socket.create_server((host, port)) as listener:
        while True:
            connection, _ = listener.accept()
            if context is not None:
                connection = context.wrap_socket(connection, server_side=True)
            threading.Thread(target=_serve_connection, args=(connection,), daemon=True).start()


def connect(host: str, port: int, folder: str | None) -> socket.socket:
    """Connect as the client does."""
    connection = socket.create_connection((host, port))
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if folder is None:
        return connection
    context = ssl.create_default_context(cafile=f"{folder}/cert.pem")
    return context.wrap_socket(connection, server_hostname="localhost")


def _exchange(connection: socket.socket, payload: bytes, reply: memoryview) -> None:
    head = _LENGTH.pack(len(payload))
    if isinstance(connection, ssl.SSLSocket):  # it has no sendmsg
        connection.sendall(head + payload if len(payload) < 16384 else head)
        if len(payload) >= 16384:
            connection.sendall(payload)
    else:
        sent = connection.sendmsg((head, payload)) - len(head)
        if sent < len(payload):
            connection.sendall(memoryview(payload)[sent:])
    if not _receive(connection, reply):
        raise ConnectionError("the raw server closed the connection")


def exchanger(connection: socket.socket, payload: bytes) -> Callable[[], None]:
    """One exchange over a kept connection with a kept reply buffer."""
    return partial(_exchange, connection, payload, memoryview(bytearray(len(REPLY))))


@contextlib.contextmanager
def _own_server(folder: str | None) -> Iterator[tuple[str, int]]:
    address = ("127.0.0.1", free_port())
    command = [sys.executable, "-m", __spec__.name, "--serve", "{}:{}".format(*address)]
    command += ["--tls", folder] if folder else []
    with server(command, lambda: connect(*address, folder).close()):
        yield address


def main() -> None:
    """Drive, with a server of our own or against `--connect`; or be the server."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--serve", metavar="HOST:PORT")
    parser.add_argument("--connect", metavar="HOST:PORT")
    parser.add_argument("--tls", metavar="FOLDER", help="with cert.pem and key.pem")
    arguments = parser.parse_args()
    if arguments.serve:
        host, port = arguments.serve.rsplit(":", 1)
        serve(host, int(port), arguments.tls)
    with contextlib.ExitStack() as stack:
        if arguments.connect:
            host, port = arguments.connect.rsplit(":", 1)
            address = (host, int(port))
        else:
            address = stack.enter_context(_own_server(arguments.tls))
        connections = [connect(*address, arguments.tls) for _ in range(4)]
        exchanges = {name: exchanger(connections[0], payload) for name, payload in PAYLOADS.items()}
        four = [exchanger(connection, FRAME) for connection in connections]
        drive(exchanges, {"in_flight": partial(in_threads, four)}, lambda: {"pid": os.getpid()})


if __name__ == "__main__":
    main()
