"""Sockets of the control API: accepts them, holds each to `DoorLimits`, and hands requests to uvicorn's protocol.

uvicorn by itself bounds neither the head of a request (with httptools), nor the time until it is whole, nor TLS
handshakes, nor connections that ask nothing.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import socket
import ssl
from collections.abc import Callable
from typing import Any

from uvicorn.config import Config
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from elastic_inference.host.doors.admission import Admission, DoorLimits

logger = logging.getLogger(__name__)

_ACCEPTS_AT_ONCE = 64  # then others have their turn in the loop
_ACCEPT_PAUSE_SECONDS = 0.2  # after a failed accept, as when all file descriptors are taken
_READ_BYTES = 16 << 10  # at once; asyncio's 256 KiB would lie in the parser's buffer for each connection
_KEEPALIVE = (
    (socket.TCP_KEEPIDLE, 60),
    (socket.TCP_KEEPINTVL, 15),
    (socket.TCP_KEEPCNT, 4),
)


class GuardedProtocol(H11Protocol):
    """uvicorn's HTTP/1.1 with times for what it waits for without limit.

    Args:
        door: The listener to which the connection belongs.
    """

    def __init__(self, config: Config, server_state: ServerState, door: Listener) -> None:
        super().__init__(config, server_state, {})
        self._door = door
        self._timer: asyncio.TimerHandle | None = None
        self._is_writing_paused = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for the first request."""
        if hasattr(transport, "max_size"):  # plain sockets
            transport.max_size = _READ_BYTES
        super().connection_made(transport)
        self._wait_for(self._door.limits.request_seconds)

    def data_received(self, data: bytes) -> None:
        """Take a part of a request; its time runs from its first byte."""
        if self._timer is None and not self._is_answering():
            self._wait_for(self._door.limits.request_seconds)
        super().data_received(data)
        self._note_progress()

    def on_response_complete(self) -> None:
        """Wait for the next request, or take up the one that is there already."""
        self._door.admission.end(self)
        super().on_response_complete()
        if self.transport.is_closing():
            self._wait_for(self._door.limits.send_seconds)
        self._note_progress()

    def timeout_keep_alive_handler(self) -> None:
        """Close an idle connection; a client that does not take its last answer must not keep it open."""
        super().timeout_keep_alive_handler()
        self._wait_for(self._door.limits.send_seconds)

    def pause_writing(self) -> None:
        """Note that the client is slow to take its answer."""
        super().pause_writing()
        self._is_writing_paused = True
        self._wait_for(self._door.limits.send_seconds)

    def resume_writing(self) -> None:
        """Note that it has taken enough of it."""
        super().resume_writing()
        self._is_writing_paused = False
        self._stop_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        """Give back what the connection held."""
        self._stop_timer()
        self._door.forget(self)
        super().connection_lost(exc)

    def abort(self) -> None:
        """Break the connection off."""
        if self.transport is not None:
            self.transport.abort()

    def _is_answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _note_progress(self) -> None:
        if not self._is_answering() or self.transport.is_closing():
            return
        self._door.admission.begin(self)
        if not self.cycle.more_body and not self._is_writing_paused:
            self._stop_timer()

    def _wait_for(self, seconds: float) -> None:
        self._stop_timer()
        self._timer = self.loop.call_later(seconds, self.abort)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class Listener:
    """Accepts the connections of one listening socket; what uvicorn's server calls its `Server`.

    Args:
        tls: Gives the context in force for a new connection; None: it speaks no TLS.
    """

    def __init__(
        self,
        sock: socket.socket,
        config: Config,
        server_state: ServerState,
        limits: DoorLimits,
        tls: Callable[[], ssl.SSLContext | None],
    ) -> None:
        self.limits = limits
        self.admission = Admission(limits.num_connections)
        self._sock = sock
        self._config = config
        self._server_state = server_state
        self._tls = tls
        self._loop = asyncio.get_running_loop()
        self._opening: dict[GuardedProtocol, asyncio.Task[Any]] = {}

    def open(self) -> None:
        """Begin to accept."""
        self._sock.setblocking(False)
        self._loop.add_reader(self._sock, self._accept)

    def close(self) -> None:
        """Accept no more, and break off handshakes."""
        self._loop.remove_reader(self._sock)
        for protocol in list(self._opening):
            self._break_off(protocol)

    async def wait_closed(self) -> None:
        """Wait for nothing: open connections are the server's."""

    def forget(self, protocol: GuardedProtocol) -> None:
        """Note that a connection has ended."""
        self.admission.leave(protocol)

    def _accept(self) -> None:
        for _ in range(_ACCEPTS_AT_ONCE):
            try:
                sock, _ = self._sock.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                self._pause(error)
                return
            self._enter(sock)

    def _pause(self, error: OSError) -> None:
        logger.error("accept failed", extra={"why": str(error), "num_connections": len(self.admission)})
        self._loop.remove_reader(self._sock)
        self._loop.call_later(_ACCEPT_PAUSE_SECONDS, self._go_on)
        victim = self.admission.longest_waiting()
        if isinstance(victim, GuardedProtocol):
            self._break_off(victim)

    def _go_on(self) -> None:
        if self._sock.fileno() >= 0:
            self._loop.add_reader(self._sock, self._accept)

    def _enter(self, sock: socket.socket) -> None:
        protocol = GuardedProtocol(self._config, self._server_state, self)
        gives_way = self.admission.enter(protocol)
        if gives_way is protocol:
            sock.close()
            return
        if isinstance(gives_way, GuardedProtocol):
            self._break_off(gives_way)
        sock.setblocking(False)
        if sock.family != socket.AF_UNIX:
            _tune(sock)
        tls = self._tls()
        seconds = None if tls is None else self.limits.request_seconds
        opening = self._loop.connect_accepted_socket(
            lambda: protocol, sock, ssl=tls, ssl_handshake_timeout=seconds
        )
        task = self._loop.create_task(opening)
        self._opening[protocol] = task
        task.add_done_callback(functools.partial(self._note_opened, protocol, sock))

    def _note_opened(self, protocol: GuardedProtocol, sock: socket.socket, task: asyncio.Task[Any]) -> None:
        self._opening.pop(protocol, None)
        error = None if task.cancelled() else task.exception()
        if task.cancelled() or error is not None:  # such as a failed handshake
            sock.close()
            self.forget(protocol)
            logger.debug("connection refused", extra={"why": str(error)})

    def _break_off(self, protocol: GuardedProtocol) -> None:
        self.forget(protocol)
        opening = self._opening.get(protocol)
        if opening is not None:
            opening.cancel()
        protocol.abort()


def _tune(sock: socket.socket) -> None:
    """Find out about peers that vanished, which say nothing."""
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in _KEEPALIVE:
        sock.setsockopt(socket.IPPROTO_TCP, option, value)
