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
import time

from elastic_inference.accelerator.admission import Admission
from elastic_inference.accelerator.config import AcceleratorConfig
from elastic_inference.accelerator.http import Body, Request, Response, parse_head
from elastic_inference.accelerator.routes import Service
from elastic_inference.accelerator.session import Session
from elastic_inference.errors import (
    ConnectionLost,
    DeadlineExceeded,
    ElasticInferenceError,
    HttpError,
    MemoryQuotaExceeded,
    ProtocolError,
)
from elastic_inference.limits.processes import raise_descriptor_limit
from elastic_inference.protocol.endpoint import Endpoint, keep_alive, tune
from elastic_inference.protocol.shared_memory import peer_uid
from elastic_inference.protocol.status import error_text
from elastic_inference.protocol.stream import Stream
from elastic_inference.protocol.tls import server_context

log = logging.getLogger(__name__)
MAX_CONNECTIONS = 512  # of each way in
FIRST_SECONDS = 10.0  # for a first request that is allowed: who has shown no token may not stay idle
STACK_BYTES = 2 << 20  # of a connection's thread; the usual 8 MB would each count against a memory limit
ACCEPT_PAUSE_SECONDS = 0.1  # after a failed accept, as when all file descriptors are taken
KEEP_SECONDS = 10.0  # without a request, after which a connection gives its buffer back
IDLE_SECONDS = 3600.0  # clients connect again by themselves
HEAD_SECONDS = 10.0  # from a head's first byte to its last, and for a TLS handshake
MESSAGE_SECONDS = 600.0  # a whole body or response: 1 GB at 14 Mbit/s
DISCARD_BYTES = 16 << 20
HANG_UP_SECONDS = 2.0  # for a client that still sends to read our last answer


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
        self._tls: ssl.SSLContext | None = None
        self._connections: set[Connection] = set()
        self._admissions: dict[str, Admission[Connection]] = {}
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
        for endpoint, listener in self._listeners:
            is_tls = self._tls is not None and endpoint.kind != "unix"
            admission = self._admissions.setdefault(endpoint.kind, Admission(MAX_CONNECTIONS))
            arguments, name = (listener, is_tls, admission), f"accept-{endpoint.kind}"
            threading.Thread(target=self._accept, args=arguments, name=name, daemon=True).start()
            addresses.append(_address(endpoint, listener, is_tls))
        return addresses

    def _reload_tls(self) -> None:
        """Read the TLS files again, for connections from now on; raises InvalidInput, and those of before stay."""
        self._tls = _tls_context(self._config)

    def _accept(self, listener: socket.socket, is_tls: bool, admission: Admission[Connection]) -> None:
        while not self._closed.is_set():
            try:
                sock, _ = listener.accept()
            except OSError as error:
                if not self._closed.is_set():
                    log.warning("accept failed", extra={"error": str(error)})
                    self._closed.wait(ACCEPT_PAUSE_SECONDS)
                continue
            try:
                tls = self._tls if is_tls else None
                self._start_connection(Connection(sock, tls, self._service), admission)
            except (
                RuntimeError,
                MemoryError,
            ) as error:  # RuntimeError: no place, or no thread can be started
                sock.close()
                log.warning("connection refused", extra={"error": str(error) or type(error).__name__})

    def _start_connection(self, connection: Connection, admission: Admission[Connection]) -> None:
        with self._lock:
            if self._closed.is_set():
                raise RuntimeError("the accelerator is closing")
            leaving = admission.enter(connection)
            self._connections.add(connection)
        if leaving is not None:
            leaving.abort()
        arguments = (connection, admission)
        try:
            threading.Thread(target=self._serve, args=arguments, name="connection", daemon=True).start()
        except BaseException:
            self._forget(connection, admission)
            raise

    def _serve(self, connection: Connection, admission: Admission[Connection]) -> None:
        try:
            connection.serve()
        except Exception:  # such as MemoryError outside of a request
            log.exception("connection broken off")
        finally:
            connection.close()
            self._forget(connection, admission)

    def _forget(self, connection: Connection, admission: Admission[Connection]) -> None:
        with self._lock:
            self._connections.discard(connection)
            admission.leave(connection)

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


class Connection:
    """One client's connection, served by one thread.

    Its public attributes are those of a Guest.
    """

    def __init__(self, sock: socket.socket, tls: ssl.SSLContext | None, service: Service) -> None:
        self._sock = sock
        self._tls = tls
        self._service = service
        self._last_head = b""
        self._last_request: Request | None = None
        self.opened_at = self.idle_since = time.monotonic()
        self.is_answering = False
        self.is_proven = False

    def abort(self) -> None:
        """Break the connection from another thread."""
        with contextlib.suppress(OSError):
            socket.socket.shutdown(self._sock, socket.SHUT_RDWR)  # not SSLSocket's, which another thread uses

    def close(self) -> None:
        """Close the socket; closing twice is fine."""
        self._sock.close()

    def serve(self) -> None:
        """Answer requests until the client leaves or breaks the protocol."""
        try:
            stream = self._open()
        except OSError as error:  # a failed TLS handshake among them
            log.info("connection refused", extra={"error": str(error)})
            return
        session = Session(self._service.shared, self._service.tokens, peer_uid(self._sock))
        try:
            while self._serve_one(stream, session):
                pass
            stream.hang_up(HANG_UP_SECONDS)
        except (ConnectionLost, DeadlineExceeded) as error:
            log.debug("connection ended", extra={"error": str(error)})
        finally:
            self.is_answering = False
            session.close()

    def _open(self) -> Stream:
        if self._tls is not None:
            self._sock.settimeout(HEAD_SECONDS)
            self._sock = self._tls.wrap_socket(self._sock, server_side=True)
        else:
            tune(self._sock)
        if self._sock.family != socket.AF_UNIX:
            self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            keep_alive(self._sock)
        return Stream(self._sock, gets_signals=False)

    def _serve_one(self, stream: Stream, session: Session) -> bool:
        """Answer one request; False ends the connection."""
        try:
            if not self._wait(stream, session):
                return False
            stream.set_timeout(HEAD_SECONDS if self.is_proven else self._first_seconds())
            head = stream.read_head()
            if head is None:
                return False
            self.is_answering = True
            request = self._parse(head)
        except HttpError as error:
            return self._end(stream, error)
        except ProtocolError as error:
            return self._end(stream, HttpError(str(error), status=431))
        stream.set_timeout(MESSAGE_SECONDS)
        wants_continue = request.headers.get(b"expect", b"").lower() == b"100-continue"
        body = Body(stream, request.content_length, wants_continue)
        response = self._answer(session, request, body)
        stream.set_timeout(MESSAGE_SECONDS)  # anew: the model may have taken long
        keep_alive = request.keep_alive and body.discard(DISCARD_BYTES)
        stream.send(response.encode(keep_alive, with_body=request.method != "HEAD"))
        self.is_proven = self.is_proven or session.is_allowed
        self.idle_since = time.monotonic()
        self.is_answering = False
        session.buffer.trim()
        return keep_alive

    def _first_seconds(self) -> float:
        """Return what is left of the time for a first request that is allowed, some milliseconds at least."""
        return max(0.01, self.opened_at + FIRST_SECONDS - time.monotonic())

    def _wait(self, stream: Stream, session: Session) -> bool:
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
            session.buffer.trim(0)
        stream.set_timeout(IDLE_SECONDS)
        return stream.wait()

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
            return _refuse(request, error)
        except ElasticInferenceError as error:
            return _refuse(request, error)
        except MemoryError as error:
            return _refuse(request, MemoryQuotaExceeded(f"no memory is left for the request: {error}"))
        except Exception as error:  # the process lives on, whatever a handler did wrong
            log.exception("request failed", extra=_what(request))
            return Response.of_json({"error": f"internal error: {type(error).__name__}: {error}"}, 500)

    def _end(self, stream: Stream, error: HttpError) -> bool:
        stream.send(Response.of_error(error).encode(keep_alive=False))
        return False


def _refuse(request: Request, error: ElasticInferenceError) -> Response:
    response = Response.of_error(error)
    text = {"error": error_text(error), "status": response.status}
    log.log(
        logging.ERROR if response.status == 500 else logging.INFO,
        "request refused",
        extra=_what(request) | text,
    )
    return response


def _what(request: Request) -> dict[str, str | None]:
    """Return what a log line says of a request; the path names the model, and the id is the client's own."""
    return {"method": request.method, "path": request.path, "request_id": request.header(b"x-request-id")}


def _address(endpoint: Endpoint, listener: socket.socket, is_tls: bool) -> str:
    if endpoint.kind == "unix":
        return str(endpoint)
    return str(Endpoint("tls" if is_tls else "tcp", host=endpoint.host, port=listener.getsockname()[1]))


def _tls_context(config: AcceleratorConfig) -> ssl.SSLContext | None:
    if config.tls_cert is None:
        return None
    return server_context(config.tls_cert, config.tls_key, config.tls_client_ca)
