"""A connection by which a pool learns at once that a host's process has ended: the kernel closes it then.

The host only ever holds its end. It says one line, writes nothing more and never closes it while it lives, so an end
that comes in order was sent by the kernel as the process ended; with it went the lock by which the host's accelerators
know that they may answer (`limits.fence`). Nothing else counts. A reset may come from any firewall, silence from a cut,
and what stands between and ends connections by itself is told by the addresses, which both ends must see alike: after
all of these the pool waits for the host's lease.
"""

from __future__ import annotations

import contextlib
import hmac
import logging
import os
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import urlsplit

from elastic_inference.errors import InvalidInput

logger = logging.getLogger(__name__)

MAX_HELD = 16
_GREETING_SECONDS = 5.0
_PAUSE_SECONDS = 0.5
_LOOK_SECONDS = 1.0
_MAX_GREETING_BYTES = 1024


@dataclass(frozen=True)
class Lifeline:
    """Where a host's end is.

    Attributes:
        port: At the host's own address; 0: it has none.
        key: What it says first, so that nothing else at this port is taken for it.
    """

    port: int
    key: str


NO_LIFELINE = Lifeline(0, "")


class LifelineHolder:
    """A host's end: takes connections of its pool, and holds them as long as this process lives.

    Args:
        address: Of this host, as its pool reaches it.
    """

    def __init__(self, address: str) -> None:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self._listener = socket.create_server((address, 0), family=family, backlog=MAX_HELD)
        self.lifeline = Lifeline(int(self._listener.getsockname()[1]), os.urandom(16).hex())
        self._held: list[
            socket.socket
        ] = []  # each open file is kept: closing one says that this process ended
        threading.Thread(target=self._accept, name="lifeline", daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                threading.Event().wait(_PAUSE_SECONDS)  # such as too many open files
                continue
            self._drop_left()
            if len(self._held) == MAX_HELD:
                sock.close()  # it was not greeted, so this says nothing
                continue
            self._held.append(sock)
            with contextlib.suppress(OSError):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)  # a pool that vanished makes room
                sock.sendall(_greeting(self.lifeline.key, sock.getsockname(), sock.getpeername()))

    def _drop_left(self) -> None:
        """Close those whose pool service has closed its end."""
        for sock in [each for each in self._held if _has_left(each)]:
            self._held.remove(sock)
            sock.close()


def _has_left(sock: socket.socket) -> bool:
    try:
        return not sock.recv(1, socket.MSG_DONTWAIT)  # a pool says nothing here
    except BlockingIOError:
        return False
    except OSError:
        return True


def _greeting(key: str, here: tuple[object, ...], there: tuple[object, ...]) -> bytes:
    """Return the line that a host says; as its pool expects it, with the ends in the host's order."""
    return f"{key} {here[0]}:{here[1]} {there[0]}:{there[1]}\n".encode()


class LifelineWatch:
    """The pool's end of one host, in a thread of its own.

    Args:
        host_id: For the log.
        url: Of the host's control API.
        is_wanted: Whether this admission of the host still counts.
        on_end: Called once the host's process has ended.
    """

    def __init__(
        self,
        host_id: str,
        url: str,
        lifeline: Lifeline,
        is_wanted: Callable[[], bool],
        on_end: Callable[[], None],
    ) -> None:
        self._host_id = host_id
        self._address = (urlsplit(url).hostname or "", lifeline.port)
        self._key = lifeline.key
        self._is_wanted = is_wanted
        self._on_end = on_end
        self._why = ""
        if lifeline.port:
            threading.Thread(target=self._run, name=f"lifeline {host_id[:8]}", daemon=True).start()

    def _run(self) -> None:
        pause = threading.Event()
        while self._is_wanted():
            try:
                with socket.create_connection(self._address, _GREETING_SECONDS) as sock:
                    self._check(sock)
                    if self._wait(sock):
                        logger.warning("the host's process has ended", extra={"host_id": self._host_id})
                        self._on_end()
                        return
            except (OSError, InvalidInput) as error:
                self._tell(str(error))
            pause.wait(_PAUSE_SECONDS)

    def _check(self, sock: socket.socket) -> None:
        """Read what the other end says; InvalidInput where it is not the host's, or not directly."""
        wanted = _greeting(self._key, sock.getpeername(), sock.getsockname())
        told = b""
        while not told.endswith(b"\n") and len(told) < _MAX_GREETING_BYTES:
            received = sock.recv(_MAX_GREETING_BYTES)
            if not received:
                raise InvalidInput("it closed the connection without a word")
            told += received
        if not hmac.compare_digest(told, wanted):
            raise InvalidInput("something stands between that is not the host itself")

    def _wait(self, sock: socket.socket) -> bool:
        """Return True when the host's process has ended, False when nobody wants to know any more.

        Raises:
            OSError: The connection broke, which says nothing of the host.
            InvalidInput: The other end says something, as no host does.
        """
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)  # one that was cut is made anew some day
        sock.settimeout(_LOOK_SECONDS)
        while self._is_wanted():
            try:
                if sock.recv(1):
                    raise InvalidInput("it says more than a host does")
                return True
            except TimeoutError:
                continue
        return False

    def _tell(self, why: str) -> None:
        if why != self._why and self._is_wanted():
            self._why = why
            extra = {"host_id": self._host_id, "why": why}
            logger.warning("no lifeline, so this host's death is known by its lease alone", extra=extra)
