"""What stands between hosts and their pool, and can cut one of them off: its reports get no answer."""

from __future__ import annotations

import contextlib
import re
import socket
import threading


class CuttingProxy:
    """Forwards TCP connections to a port of this machine.

    Attributes:
        cut: Host ids whose requests are swallowed: the connection stays, and nothing comes back.
    """

    def __init__(self) -> None:
        self.cut: set[str] = set()
        self.target = 0
        self._sock = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._sock.getsockname()[1])
        self._held: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Take no more connections, and end those that are held."""
        self._sock.close()
        for sock in self._held:
            sock.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                sock, _ = self._sock.accept()
                threading.Thread(target=self._serve, args=(sock,), daemon=True).start()

    def _serve(self, sock: socket.socket) -> None:
        with contextlib.suppress(OSError):
            first = _first_request(sock)
            if any(host_id.encode() in first for host_id in self.cut):
                self._held.append(sock)
                return
            with sock, socket.create_connection(("127.0.0.1", self.target)) as pool:
                pool.sendall(first)
                back = threading.Thread(target=_copy, args=(pool, sock), daemon=True)
                back.start()
                _copy(sock, pool)
                back.join(60)


def _first_request(sock: socket.socket) -> bytes:
    """Return a whole request: who reports stands in its path, who joins in its body, which may come later."""
    read = b""
    while b"\r\n\r\n" not in read:
        if not (data := sock.recv(1 << 16)):
            return read
        read += data
    head, _, body = read.partition(b"\r\n\r\n")
    length = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
    while length is not None and len(body) < int(length[1]):
        if not (data := sock.recv(1 << 16)):
            break
        body += data
    return head + b"\r\n\r\n" + body


def _copy(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(1 << 16):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
