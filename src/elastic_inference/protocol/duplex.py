"""The two directions of one socket, for protocols in which one thread receives while another one sends."""

from __future__ import annotations

import select
import socket
import ssl
import threading
from collections.abc import Callable, Sequence

from elastic_inference.errors import ConnectionLost
from elastic_inference.protocol.stream import Stream

TICK_SECONDS = 1.0  # how often a direction that waits looks whether its time is over
_SMALL_BYTES = 1 << 14


class Half(Stream):
    """One direction of a socket; each thread that receives or sends has its own.

    A plain socket blocks, and the kernel ends each wait after a tick: with one time-out for both directions neither
    changes the other's. TLS keeps one state for both, which only one thread may touch at a time: so its socket never
    blocks, calls take a lock, and waiting is done outside of it.

    Args:
        tls_lock: Shared by both halves; None for a plain socket.
        received: What was read from the socket before and belongs to this direction.

    Attributes:
        before_waiting: Called whenever nothing is left to read and the socket is asked, which may take long.
    """

    def __init__(self, sock: socket.socket, tls_lock: threading.Lock | None, received: bytes = b"") -> None:
        super().__init__(sock, gets_signals=False)
        self._tls_lock = tls_lock
        self.before_waiting: Callable[[], None] = lambda: None
        self._buffer[: len(received)] = received
        self._end = len(received)
        if tls_lock is None:
            self._set_socket_timeout(TICK_SECONDS)
        else:
            sock.setblocking(False)

    def peek(self) -> memoryview:
        """Return what has arrived and is not read yet; valid until the next call."""
        return self._view[self._start : self._end]

    def send(self, views: Sequence[bytes | memoryview]) -> None:
        """Send all views in order."""
        if self._tls_lock is None:
            super().send(views)
            return
        try:
            small = bytearray()
            for view in views:
                if len(view) <= _SMALL_BYTES:
                    small += view
                    continue
                self._send_locked(memoryview(small))
                self._send_locked(memoryview(view))
                small = bytearray()
            self._send_locked(memoryview(small))
        except (ssl.SSLError, BrokenPipeError, ConnectionError) as error:
            if isinstance(error, ConnectionLost):
                raise
            raise ConnectionLost(f"the connection broke while sending: {error}") from error

    def _send_locked(self, view: memoryview) -> None:
        assert self._tls_lock is not None
        while view:
            self._arm()
            try:
                with self._tls_lock:
                    sent = self.sock.send(view)
                view = view[sent:]
            except (ssl.SSLWantWriteError, ssl.SSLWantReadError) as error:
                self._poll(error)

    def _receive(self, view: memoryview, flags: int) -> int:
        self.before_waiting()
        if self._tls_lock is None:
            return super()._receive(view, flags)
        while True:
            self._arm()
            try:
                with self._tls_lock:
                    return self.sock.recv_into(view)
            except (ssl.SSLWantReadError, ssl.SSLWantWriteError) as error:
                self._poll(error)
            except OSError as error:
                raise ConnectionLost(f"the connection broke while receiving: {error}") from error

    def _poll(self, error: ssl.SSLError) -> None:
        poller = select.poll()
        poller.register(
            self.sock, select.POLLOUT if isinstance(error, ssl.SSLWantWriteError) else select.POLLIN
        )
        poller.poll(TICK_SECONDS * 1000)

    def _arm(self) -> None:
        self._left_seconds()


def halves(stream: Stream) -> tuple[Half, Half]:
    """Take a stream over: the half that receives, with what has arrived already, and the one that sends."""
    sock = stream.sock
    lock = threading.Lock() if isinstance(sock, ssl.SSLSocket) else None
    return Half(sock, lock, stream.take_buffered()), Half(sock, lock)
