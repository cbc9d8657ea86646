"""Sockets, connections and their threads: who comes in is shown to a door, by the first bytes that it sends.

One blocking thread a connection: measured beside uvloop's BufferedProtocol it is as fast for a frame and for 1 KB,
it lets the engine run in the thread that received the request, and it reads from top to bottom.
"""

from __future__ import annotations

import contextlib
import logging
import socket
import ssl
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from elastic_inference.accelerator.admission import Admission
from elastic_inference.accelerator.config import AcceleratorConfig
from elastic_inference.accelerator.doors.http.connection import HttpConnection
from elastic_inference.accelerator.doors.http.routes import Service
from elastic_inference.accelerator.visit import Visit
from elastic_inference.errors import ConnectionLost, DeadlineExceeded, ElasticInferenceError
from elastic_inference.limits.processes import raise_descriptor_limit
from elastic_inference.protocol.endpoint import Endpoint
from elastic_inference.protocol.stream import Stream
from elastic_inference.protocol.tls import server_context

if TYPE_CHECKING:
    from elastic_inference.accelerator.doors.grpc.call import Method

log = logging.getLogger(__name__)
MAX_CONNECTIONS = 512  # of each way in
STACK_BYTES = 2 << 20  # of a connection's thread; the usual 8 MB would each count against a memory limit
ACCEPT_PAUSE_SECONDS = 0.1  # after a failed accept, as when all file descriptors are taken
GRPC_DOORS = frozenset(["grpc", "tensorflow-serving"])
HANG_UP_SECONDS = 2.0  # for a client that still sends to read our last answer


@dataclass(frozen=True)
class Entrance:
    """One endpoint: its doors, what answers behind them, and who may come in."""

    doors: tuple[str, ...]
    service: Service
    is_tls: bool
    admission: Admission[Visit]


class Server:
    """Listens on the configured endpoints and serves until `close`.

    Args:
        config: Endpoints, doors and TLS files.
        service: Answers the requests.
        doors: Those of each endpoint of `config`; None: each has those that `config` says.
    """

    def __init__(
        self,
        config: AcceleratorConfig,
        service: Service,
        doors: Sequence[tuple[str, ...]] | None = None,
    ) -> None:
        self._config = config
        self._service = service
        self._doors = doors or [config.doors] * len(config.listen)
        self._listeners: list[tuple[Endpoint, socket.socket]] = []
        self._tls: ssl.SSLContext | None = None
        self._connections: set[Visit] = set()
        self._admissions: dict[str, Admission[Visit]] = {}
        self._grpc_methods: dict[tuple[str, ...], dict[str, Method]] = {}
        self._lock = threading.Lock()
        self._closed = threading.Event()

    def start(self) -> list[str]:
        """Open all endpoints; returns them with the ports that were given.

        Raises:
            ConnectError: An endpoint cannot be had; none stays open.
            InvalidInput: The TLS files cannot be read.
        """
        self._tls = _tls_context(self._config)
        self._service.reload_tls = self._reload_tls
        try:
            for text in self._config.listen:
                endpoint = Endpoint.parse(text)
                self._listeners.append((endpoint, endpoint.listen()))
        except ElasticInferenceError:
            self.close()
            raise
        raise_descriptor_limit()
        addresses = []
        threading.stack_size(STACK_BYTES)
        for doors, (endpoint, listener) in zip(self._doors, self._listeners, strict=True):
            is_tls = self._tls is not None and endpoint.kind != "unix"
            admission = self._admissions.setdefault(endpoint.kind, Admission(MAX_CONNECTIONS))
            entrance = Entrance(doors, self._service.opening(doors), is_tls, admission)
            arguments, name = (listener, entrance), f"accept-{endpoint.kind}"
            threading.Thread(target=self._accept, args=arguments, name=name, daemon=True).start()
            addresses.append(_address(endpoint, listener, is_tls))
        return addresses

    def _reload_tls(self) -> None:
        """Read the TLS files again, for connections from now on; raises InvalidInput, and those of before stay."""
        self._tls = _tls_context(self._config)

    def _accept(self, listener: socket.socket, entrance: Entrance) -> None:
        while not self._closed.is_set():
            try:
                sock, _ = listener.accept()
            except OSError as error:
                if not self._closed.is_set():
                    log.warning("accept failed", extra={"error": str(error)})
                    self._closed.wait(ACCEPT_PAUSE_SECONDS)
                continue
            try:
                tls = self._tls if entrance.is_tls else None
                self._start_connection(Visit(sock, tls), entrance)
            except (
                RuntimeError,
                MemoryError,
            ) as error:  # RuntimeError: no place, or no thread can be started
                sock.close()
                log.warning("connection refused", extra={"error": str(error) or type(error).__name__})

    def _start_connection(self, connection: Visit, entrance: Entrance) -> None:
        with self._lock:
            if self._closed.is_set():
                raise RuntimeError("the accelerator is closing")
            leaving = entrance.admission.enter(connection)
            self._connections.add(connection)
        if leaving is not None:
            leaving.abort()
        arguments = (connection, entrance)
        try:
            threading.Thread(target=self._serve, args=arguments, name="connection", daemon=True).start()
        except BaseException:
            self._forget(connection, entrance)
            raise

    def _serve(self, connection: Visit, entrance: Entrance) -> None:
        try:
            stream = connection.open()
        except OSError as error:  # a failed TLS handshake among them
            log.info("connection refused", extra={"error": str(error)})
        else:
            self._converse(connection, stream, entrance)
        finally:
            connection.close()
            self._forget(connection, entrance)

    def _converse(self, connection: Visit, stream: Stream, entrance: Entrance) -> None:
        http2 = partial(self._serve_grpc, connection, stream, entrance.doors)
        try:
            HttpConnection(
                connection, stream, entrance.service, http2 if GRPC_DOORS & {*entrance.doors} else None
            ).serve()
            stream.hang_up(HANG_UP_SECONDS)
        except (ConnectionLost, DeadlineExceeded) as error:
            log.debug("connection ended", extra={"error": str(error)})
        except Exception:  # such as MemoryError outside of a request
            log.exception("connection broken off")
        finally:
            connection.is_answering = False

    def _serve_grpc(self, connection: Visit, stream: Stream, doors: tuple[str, ...]) -> None:
        # Imported by the first client that speaks it: what nobody uses costs nothing.
        from elastic_inference.accelerator.doors.grpc.connection import GrpcConnection
        from elastic_inference.accelerator.doors.grpc.services import all_methods
        from elastic_inference.accelerator.doors.tensorflow_serving.rpc_methods import services

        with self._lock:
            methods = self._grpc_methods.get(doors)
            if methods is None:
                methods = self._grpc_methods[doors] = all_methods(
                    self._service.inference, doors, {"tensorflow-serving": services(self._service.inference)}
                )
        GrpcConnection(connection, stream, self._service.inference, methods).serve()

    def _forget(self, connection: Visit, entrance: Entrance) -> None:
        with self._lock:
            self._connections.discard(connection)
            entrance.admission.leave(connection)

    def close(self, grace_seconds: float = 0.0) -> None:
        """Stop listening, let answers that are being made go out, and break all connections; twice is fine."""
        self._closed.set()
        self._stop_listening()
        with self._lock:
            connections = list(self._connections)
        deadline = time.monotonic() + grace_seconds
        while any(connection.is_answering for connection in connections) and time.monotonic() < deadline:
            time.sleep(0.005)
        for connection in connections:
            connection.abort()

    def _stop_listening(self) -> None:
        for endpoint, listener in self._listeners:
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            listener.close()
            if endpoint.kind == "unix":
                with contextlib.suppress(FileNotFoundError):
                    endpoint.unlink()


def _address(endpoint: Endpoint, listener: socket.socket, is_tls: bool) -> str:
    if endpoint.kind == "unix":
        return str(endpoint)
    return str(Endpoint("tls" if is_tls else "tcp", host=endpoint.host, port=listener.getsockname()[1]))


def _tls_context(config: AcceleratorConfig) -> ssl.SSLContext | None:
    if config.tls_cert is None:
        return None
    context = server_context(config.tls_cert, config.tls_key, config.tls_client_ca)
    # gRPC's clients insist on being told; what others then speak is known by its first bytes, as without TLS.
    context.set_alpn_protocols(["h2", "http/1.1"] if GRPC_DOORS & {*config.doors} else ["http/1.1"])
    return context
