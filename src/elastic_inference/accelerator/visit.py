"""One connection as every door sees it: who came, how long it may take, whether an answer is being made."""

from __future__ import annotations

import contextlib
import socket
import ssl
import time

from elastic_inference.accelerator.kept_buffer import KeptBuffer
from elastic_inference.errors import DeadlineExceeded
from elastic_inference.protocol.endpoint import keep_alive, tune
from elastic_inference.protocol.shared_memory import peer_uid
from elastic_inference.protocol.stream import Stream

FIRST_SECONDS = 10.0  # for a first request that is allowed: who has shown no token may not stay idle
KEEP_SECONDS = 10.0  # without a request, after which a connection gives its buffer back
IDLE_SECONDS = 3600.0  # clients connect again by themselves
HEAD_SECONDS = 10.0  # from a head's first byte to its last, and for a TLS handshake
MESSAGE_SECONDS = 600.0  # a whole body or response of usual size
USUAL_BYTES = 1 << 30
SLOWEST_BYTES_PER_SECOND = USUAL_BYTES / MESSAGE_SECONDS  # 14 Mbit/s


class Visit:
    """One client's connection. Its public attributes are those of a Guest.

    Attributes:
        peer_uid: The user at the other end of a Unix socket, whose regions the client may register; else None.
    """

    def __init__(self, sock: socket.socket, tls: ssl.SSLContext | None) -> None:
        self._sock = sock
        self._tls = tls
        self.opened_at = self.idle_since = time.monotonic()
        self.is_answering = False
        self.is_proven = False
        self.peer_uid: int | None = None

    def open(self) -> Stream:
        """Shake hands; raises OSError where that fails."""
        if self._tls is not None:
            self._sock.settimeout(HEAD_SECONDS)
            self._sock = self._tls.wrap_socket(self._sock, server_side=True)
        else:
            tune(self._sock)
        if self._sock.family != socket.AF_UNIX:
            self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            keep_alive(self._sock)
        self.peer_uid = peer_uid(self._sock)
        return Stream(self._sock, gets_signals=False)

    def abort(self) -> None:
        """Break the connection from another thread."""
        with contextlib.suppress(OSError):
            socket.socket.shutdown(self._sock, socket.SHUT_RDWR)  # not SSLSocket's, which another thread uses

    def close(self) -> None:
        """Close the socket; closing twice is fine."""
        self._sock.close()

    def wait(self, stream: Stream, buffer: KeptBuffer) -> bool:
        """Wait for a request; False where the client left. DeadlineExceeded ends a connection that stays idle."""
        if stream.num_buffered:
            return True
        if not self.is_proven:
            stream.set_timeout(self._first_seconds())
            return stream.wait()
        stream.set_timeout(KEEP_SECONDS)
        try:
            return stream.wait()
        except DeadlineExceeded:
            buffer.trim(0)
        stream.set_timeout(IDLE_SECONDS)
        return stream.wait()

    @property
    def idle_seconds(self) -> float:
        """Return how long the client may let us wait for its next request."""
        return IDLE_SECONDS if self.is_proven else self._first_seconds()

    @property
    def head_seconds(self) -> float:
        """Return how long the head of a request may take from its first byte."""
        return HEAD_SECONDS if self.is_proven else self._first_seconds()

    def answered(self, is_allowed: bool) -> None:
        """Account for an answer that went out; `is_allowed`: a token, or the lack of one, let a request in."""
        self.is_proven = self.is_proven or is_allowed
        self.idle_since = time.monotonic()
        self.is_answering = False

    def _first_seconds(self) -> float:
        """Return what is left of the time for a first request that is allowed, some milliseconds at least."""
        return max(0.01, self.opened_at + FIRST_SECONDS - time.monotonic())


def message_seconds(num_bytes: int) -> float:
    """Return how long a message of so many bytes may take."""
    return MESSAGE_SECONDS if num_bytes < USUAL_BYTES else num_bytes / SLOWEST_BYTES_PER_SECOND
