"""Sockets, connections and their threads: reads requests, hands them to the routes, sends the answers.

One blocking thread a connection: measured beside uvloop's BufferedProtocol it is as fast for a frame and for 1 KB,
it lets the engine run in the thread that received the request, and it reads from top to bottom.
"""

from __future__ import annotations

import contextlib
import logging
import socket
import ssl
import threading

from elastic_inference.accelerator.config import AcceleratorConfig
from elastic_inference.accelerator.http import Body, HttpError, Request, Response, parse_head
from elastic_inference.accelerator.routes import Service, Session
from elastic_inference.errors import (
    ConnectionLost,
    DeadlineExceeded,
    ElasticInferenceError,
    InvalidInput,
    ProtocolError,
)
from elastic_inference.protocol.endpoint import Endpoint, tune
from elastic_inference.protocol.stream import Stream

log = logging.getLogger(__name__)
MAX_CONNECTIONS = 512
IDLE_SECONDS = 3600.0  # clients connect again by themselves
HEAD_SECONDS = 10.0  # from a head's first byte to its last, and for a TLS handshake
MESSAGE_SECONDS = 600.0  # a whole body or response: 1 GB at 14 Mbit/s
DISCARD_BYTES = 16 << 20


class Server:
    """Listens on the configured endpoints and serves until `close`.

    Args:
        config: Endpoints and TLS files.
        service: Answers the requests.
    """

    def __init__(self, config: AcceleratorConfig, service: Service) -> None:
        self._config = config
        self._service = service
        self._listeners: list[tuple[Endpoint, socket.socket]] = []
        self._connections: set[Connection] = set()
        self._lock = threading.Lock()
        self._is_closed = False

    def start(self) -> list[str]:
        """Open all endpoints; returns them with the ports that were given.

        Raises:
            ConnectError: An endpoint cannot be had; none stays open.
            InvalidInput: The TLS files cannot be read.
        """
        tls = _tls_context(self._config)
        try:
            for text in self._config.listen:
                endpoint = Endpoint.parse(text)
                self._listeners.append((endpoint, endpoint.listen()))
        except ElasticInferenceError:
            self.close()
            raise
        addresses = []
        for endpoint, listener in self._listeners:
            context = tls if endpoint.kind != "unix" else None
            name = f"accept-{endpoint.kind}"
            threading.Thread(target=self._accept, args=(listener, context), name=name, daemon=True).start()
            addresses.append(_address(endpoint, listener, context is not None))
        return addresses

    def _accept(self, listener: socket.socket, tls: ssl.SSLContext | None) -> None:
        while True:
            try:
                sock, _ = listener.accept()
            except OSError as error:
                if self._is_closed:
                    return
                log.warning("accept failed", extra={"error": str(error)})
                continue
            with self._lock:
                has_room = len(self._connections) < MAX_CONNECTIONS and not self._is_closed
            if not has_room:
                sock.close()
                continue
            connection = Connection(sock, tls, self._service)
            with self._lock:
                self._connections.add(connection)
            threading.Thread(target=self._serve, args=(connection,), name="connection", daemon=True).start()

    def _serve(self, connection: Connection) -> None:
        try:
            connection.serve()
        finally:
            with self._lock:
                self._connections.discard(connection)

    def close(self) -> None:
        """Stop listening and break all connections; closing twice is fine."""
        with self._lock:
            self._is_closed = True
            connections = list(self._connections)
        for endpoint, listener in self._listeners:
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            listener.close()
            if endpoint.kind == "unix":
                with contextlib.suppress(FileNotFoundError):
                    endpoint.unlink()
        for connection in connections:
            connection.abort()


class Connection:
    """One client's connection, served by one thread."""

    def __init__(self, sock: socket.socket, tls: ssl.SSLContext | None, service: Service) -> None:
        self._sock = sock
        self._tls = tls
        self._service = service
        self._last_head = b""
        self._last_request: Request | None = None

    def abort(self) -> None:
        """Break the connection from another thread."""
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)

    def serve(self) -> None:
        """Answer requests until the client leaves or breaks the protocol."""
        try:
            stream = self._open()
        except OSError as error:  # a failed TLS handshake among them
            log.info("connection refused", extra={"error": str(error)})
            self._sock.close()
            return
        session = Session(self._service)
        try:
            while self._serve_one(stream, session):
                pass
        except (ConnectionLost, DeadlineExceeded) as error:
            log.debug("connection ended", extra={"error": str(error)})
        finally:
            session.close()
            stream.close()

    def _open(self) -> Stream:
        if self._tls is not None:
            self._sock.settimeout(HEAD_SECONDS)
            self._sock = self._tls.wrap_socket(self._sock, server_side=True)
        else:
            tune(self._sock)
        if self._sock.family != socket.AF_UNIX:
            self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return Stream(self._sock)

    def _serve_one(self, stream: Stream, session: Session) -> bool:
        """Answer one request; False ends the connection."""
        try:
            if not stream.num_buffered:
                stream.set_timeout(IDLE_SECONDS)
                if not stream.wait():
                    return False
            stream.set_timeout(HEAD_SECONDS)
            head = stream.read_head()
            if head is None:
                return False
            request = self._parse(head)
        except ProtocolError as error:
            return self._end(stream, HttpError(431, str(error)))
        except HttpError as error:
            return self._end(stream, error)
        stream.set_timeout(MESSAGE_SECONDS)
        wants_continue = request.headers.get(b"expect", b"").lower() == b"100-continue"
        body = Body(stream, request.content_length, wants_continue)
        response = self._answer(session, request, body)
        keep_alive = request.keep_alive and body.discard(DISCARD_BYTES, session.buffer)
        stream.send(response.encode(keep_alive, with_body=request.method != "HEAD"))
        session.buffer.trim()
        return keep_alive

    def _parse(self, head: bytes) -> Request:
        # A predictor's calls have the same head each time.
        if head != self._last_head or self._last_request is None:
            self._last_request = parse_head(head)
            self._last_head = head
        return self._last_request

    def _answer(self, session: Session, request: Request, body: Body) -> Response:
        try:
            return self._service.answer(session, request, body)
        except (ConnectionLost, DeadlineExceeded) as error:
            if body.remaining or isinstance(error, ConnectionLost):
                raise  # the client stopped sending: there is no one to answer
            return Response.of_error(error)
        except ElasticInferenceError as error:
            return Response.of_error(error)
        except Exception as error:  # the process lives on, whatever a handler did wrong
            log.exception("request failed", extra={"path": request.path, "request_id": _request_id(request)})
            return Response.of_json({"error": f"internal error: {type(error).__name__}: {error}"}, 500)

    def _end(self, stream: Stream, error: HttpError) -> bool:
        stream.send(Response.of_error(error).encode(keep_alive=False))
        return False


def _request_id(request: Request) -> str | None:
    return request.header(b"x-request-id")


def _address(endpoint: Endpoint, listener: socket.socket, is_tls: bool) -> str:
    if endpoint.kind == "unix":
        return str(endpoint)
    return str(Endpoint("tls" if is_tls else "tcp", host=endpoint.host, port=listener.getsockname()[1]))


def _tls_context(config: AcceleratorConfig) -> ssl.SSLContext | None:
    if config.tls_cert is None:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(config.tls_cert, config.tls_key)
        if config.tls_client_ca is not None:
            context.load_verify_locations(config.tls_client_ca)
            context.verify_mode = ssl.CERT_REQUIRED
    except OSError as error:
        raise InvalidInput(f"TLS files {config.tls_cert}, {config.tls_key}: {error}") from error
    return context
