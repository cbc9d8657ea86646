"""Bytes over one socket with kept buffers: heads read up to their blank line, bodies received into place.

Both sides use it. Copies and fresh memory are what a large tensor pays for (touching 6 MB of new pages costs 4 ms,
sending them 1.3 ms), so nothing here allocates in proportion to a message: bodies go straight into the caller's
buffer and views are sent as they are. HTTP itself is read by the caller.
"""

from __future__ import annotations

import _socket
import contextlib
import os
import socket
import ssl
import struct
import sys
import time
from collections.abc import Sequence

from elastic_inference.deadline import Deadline
from elastic_inference.errors import ConnectionLost, DeadlineExceeded, ProtocolError

# One recv brings a whole small message; of a large one it brings at most this much twice.
BUFFER_BYTES = 1 << 16
SOCKET_BUFFER_BYTES = 1 << 22  # as measured on loopback, more brings nothing and less costs wake-ups
MAX_VIEWS = 1024  # sendmsg takes no more at once (IOV_MAX)
_TIMEVAL = struct.Struct("@ll")
# Other systems lack these or have them in another form; there Python's own time-out does, and bodies come in pieces.
_HAS_SENDMSG = hasattr(socket.socket, "sendmsg")
_HAS_KERNEL_TIMEOUT = sys.platform == "linux" and hasattr(socket, "SO_RCVTIMEO")
_WAIT_ALL = getattr(socket, "MSG_WAITALL", 0)


class Stream:
    """One connected socket, plain or TLS.

    Not safe for several threads at once, but for `abort`. How a plain socket keeps its deadline:

    - Python's own time-out makes each call poll first, for what is left of its time also after a signal, and then
      expects a socket that does not block, which takes MSG_WAITALL away: a frame would come in a hundred pieces.
    - The kernel's SO_RCVTIMEO leaves a blocking socket as it is, but Python repeats a call that a signal broke off,
      with all of its time again: with a timer every 50 ms a time-out of 2 s never comes.
    - So both: Python's time-out, on a socket that is made to block again. The poll ends with the deadline whatever
      signals come. After it something is there, so a signal ends the call with that much; the kernel's time-out
      bounds the rest of a large message.

    Where a program's sockets are not Python's own (gevent, eventlet), one that blocks would stop all of the program,
    and Python's time-out alone is what they know. The same holds on other systems than Linux, whose kernels take
    SO_RCVTIMEO in other forms.

    Args:
        gets_signals: False where the threads that use it are spared signals, as a server's are: the kernel's time-out
            is enough there, and each poll costs 0.6 us of an exchange of 57.
    """

    def __init__(self, sock: socket.socket, gets_signals: bool = True) -> None:
        self.sock = sock
        self._is_tls = isinstance(sock, ssl.SSLSocket)
        self._may_block = _HAS_KERNEL_TIMEOUT and not self._is_tls and isinstance(sock, _socket.socket)
        self._may_poll = gets_signals or not self._may_block
        self._buffer = bytearray(BUFFER_BYTES)
        self._view = memoryview(self._buffer)
        self._start = 0  # unread bytes are _buffer[_start:_end]
        self._end = 0
        self._timeout_seconds: float | None = None
        self._end_seconds: float | None = None
        self._socket_timeout_seconds: float | None = None
        sock.settimeout(None)

    def set_timeout(self, timeout_seconds: float | None) -> None:
        """Bound each message from now on: what comes until the next call ends within this time, to a tenth.

        The time begins when the socket is first needed: what has arrived already takes none. None sets no bound.
        """
        self._timeout_seconds = timeout_seconds
        self._end_seconds = None

    def set_deadline(self, deadline: Deadline) -> None:
        """Do the same for the deadline of a whole call, which other parts of it share."""
        self._timeout_seconds = deadline.timeout_seconds
        self._end_seconds = deadline.end_seconds

    @property
    def num_buffered(self) -> int:
        """Bytes that have arrived and are not read yet."""
        return self._end - self._start

    def take_buffered(self) -> bytes:
        """Return what has arrived and is not read yet, and forget it."""
        data = bytes(self._view[self._start : self._end])
        self._start = self._end = 0
        return data

    def wait(self) -> bool:
        """Wait for the first bytes of a message; False where the peer closed."""
        return self._start < self._end or self._fill() > 0

    def read_head(self, limit_bytes: int = BUFFER_BYTES, end: bytes = b"\r\n\r\n") -> bytes | None:
        """Read up to and with the first blank line, or another `end`.

        Returns:
            The head, or None where the peer closed before its first byte.

        Raises:
            ProtocolError: No end within `limit_bytes`.
            ConnectionLost: The peer closed in the middle.
            DeadlineExceeded: The time set was over.
        """
        searched = self._start
        while True:
            found = self._buffer.find(end, searched, self._end)
            if found >= 0:
                found += len(end)
                head = bytes(self._view[self._start : found])
                self._start = found
                return head
            if self._end - self._start >= min(limit_bytes, BUFFER_BYTES):
                raise ProtocolError(f"message head is longer than {limit_bytes} bytes")
            if self._start:
                self._compact()
            searched = max(0, self._end - len(end) + 1)
            if not self._fill():
                if self._end == self._start:
                    return None
                raise ConnectionLost("the peer closed the connection in the middle of a message head")

    def read_into(self, view: memoryview) -> None:
        """Fill `view` (bytes, writable): first with what has arrived already, then straight from the socket."""
        wanted = len(view)
        received = min(self._end - self._start, wanted)
        if received:
            view[:received] = self._view[self._start : self._start + received]
            self._start += received
        while received < wanted:
            count = self._receive(view[received:], _WAIT_ALL)
            if count == 0:
                raise ConnectionLost(f"the peer closed the connection {wanted - received} bytes early")
            received += count

    def read(self, count: int) -> bytes:
        """Read exactly `count` bytes; for small parts only, since it allocates."""
        if self._end - self._start >= count:
            self._start += count
            return bytes(self._view[self._start - count : self._start])
        part = bytearray(count)
        self.read_into(memoryview(part))
        return bytes(part)

    def send(self, views: Sequence[bytes | memoryview]) -> None:
        """Send all views in order, without joining them."""
        try:
            if self._is_tls or not _HAS_SENDMSG:
                self._send_one_by_one(views)
            else:
                self._send_plain(views)
        except OSError as error:
            if isinstance(error, DeadlineExceeded):
                raise
            raise ConnectionLost(f"the connection broke while sending: {error}") from error

    def _send_plain(self, views: Sequence[bytes | memoryview]) -> None:
        total = sum(map(len, views))
        if len(views) <= MAX_VIEWS:
            sent = self._send_some(views)
            if sent == total:
                return
        else:
            sent = 0
        rest = [memoryview(view) for view in views]
        while True:
            while rest and sent >= len(rest[0]):
                sent -= len(rest.pop(0))
            if not rest:
                return
            rest[0] = rest[0][sent:]
            sent = self._send_some(rest[:MAX_VIEWS])

    def _send_some(self, views: Sequence[bytes | memoryview]) -> int:
        while True:
            self._arm()
            try:
                return self.sock.sendmsg(views)
            except (BlockingIOError, TimeoutError):
                continue  # the socket's time-out; _arm knows whether ours is over too

    def _send_one_by_one(self, views: Sequence[bytes | memoryview]) -> None:
        # A TLS record holds 16 KB, so head and small parts are joined and large views sent as they are.
        small = b""
        for view in views:
            if len(view) <= BUFFER_BYTES:
                small += bytes(view)
                continue
            self._send_all(memoryview(small))
            self._send_all(memoryview(view))
            small = b""
        self._send_all(memoryview(small))

    def _send_all(self, view: memoryview) -> None:
        while view:
            self._arm()
            with contextlib.suppress(TimeoutError):
                view = view[self.sock.send(view) :]

    def _fill(self) -> int:
        if self._start == self._end:
            self._start = self._end = 0
        count = self._receive(self._view[self._end :], 0)
        self._end += count
        return count

    def _compact(self) -> None:
        rest = self._end - self._start
        self._buffer[:rest] = self._buffer[self._start : self._end]
        self._start, self._end = 0, rest

    def _receive(self, view: memoryview, flags: int) -> int:
        while True:
            self._arm()
            try:
                return self.sock.recv_into(view, 0, flags if self._may_block else 0)
            except (BlockingIOError, TimeoutError):
                continue
            except OSError as error:
                raise ConnectionLost(f"the connection broke while receiving: {error}") from error

    def _arm(self) -> None:
        """Have the next socket call end about at the deadline; raises DeadlineExceeded where it is past.

        The socket keeps a time-out that is a little too long, or too short, in which case the call is made again:
        so messages with different bounds on one connection cost no system call each.
        """
        now_set = self._socket_timeout_seconds
        left = self._left_seconds()
        if left is None:
            if now_set is not None:
                self._set_socket_timeout(None)
            return
        if now_set is None or now_set > left * 1.1 or now_set < left / 64:
            self._set_socket_timeout(left)

    def _left_seconds(self) -> float | None:
        """Return what is left of the time, None where there is no bound; DeadlineExceeded where nothing is."""
        left = self._timeout_seconds
        if left is None:
            return None
        if self._end_seconds is None:
            self._end_seconds = time.monotonic() + left
        else:
            left = self._end_seconds - time.monotonic()
        if left <= 0:
            raise DeadlineExceeded(f"the message did not end within {self._timeout_seconds} s")
        return left

    def _set_socket_timeout(self, timeout_seconds: float | None) -> None:
        self._socket_timeout_seconds = timeout_seconds
        if self._may_poll:
            self.sock.settimeout(timeout_seconds)
        if not self._may_block:
            return
        if self._may_poll:
            os.set_blocking(self.sock.fileno(), True)
        whole = 0.0 if timeout_seconds is None else max(timeout_seconds, 1e-3)
        value = _TIMEVAL.pack(int(whole), int(whole % 1 * 1e6))
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, value)
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, value)

    def hang_up(self, timeout_seconds: float) -> None:
        """Say that nothing more comes and skip what still arrives, so that the peer can read what was sent last.

        To close while bytes are unread would reset the connection, which can cost the peer our last answer.
        """
        self.set_timeout(timeout_seconds)
        with contextlib.suppress(OSError):
            socket.socket.shutdown(self.sock, socket.SHUT_WR)
            while self._receive(self._view, 0):
                pass

    def abort(self) -> None:
        """End what another thread sends or receives here: it sees the peer close. Never waits.

        To close the socket would not wake that thread, and its number could be another file's a moment later.
        """
        with contextlib.suppress(OSError):
            socket.socket.shutdown(
                self.sock, socket.SHUT_RDWR
            )  # of TLS too, whose own would free what is in use

    def close(self) -> None:
        """Close the socket; closing twice is fine."""
        self.sock.close()
