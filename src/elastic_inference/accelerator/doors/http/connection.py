"""One client's HTTP connection: reads its requests one after the other, has them answered, sends the answers."""

from __future__ import annotations

import logging
from collections.abc import Callable

from elastic_inference.accelerator.doors.http.body import Body, body_of
from elastic_inference.accelerator.doors.http.messages import Request, Response, parse_head
from elastic_inference.accelerator.doors.http.routes import Service
from elastic_inference.accelerator.doors.http.session import Session
from elastic_inference.accelerator.visit import Visit, message_seconds
from elastic_inference.errors import (
    ConnectionLost,
    DeadlineExceeded,
    ElasticInferenceError,
    HttpError,
    MemoryQuotaExceeded,
    ProtocolError,
)
from elastic_inference.protocol.status import error_text
from elastic_inference.protocol.stream import Stream

log = logging.getLogger(__name__)
DISCARD_BYTES = 16 << 20
HTTP2_PREFACE = (
    b"PRI * HTTP/2.0\r\n\r\n"  # how a client of HTTP/2 begins, for servers of HTTP/1.1 to stumble over
)


class HttpConnection:
    """Serves one connection in the thread that calls `serve`.

    Args:
        serve_http2: Takes the connection over where its client speaks HTTP/2; None: that is refused.
    """

    def __init__(
        self,
        visit: Visit,
        stream: Stream,
        service: Service,
        serve_http2: Callable[[], None] | None = None,
    ) -> None:
        self._visit = visit
        self._stream = stream
        self._service = service
        self._serve_http2 = serve_http2
        self._session = Session(service.inference, visit.peer_uid)
        self._last_head = b""
        self._last_request: Request | None = None

    def serve(self) -> None:
        """Answer requests until the client leaves or breaks the protocol."""
        try:
            while self._serve_one():
                pass
        finally:
            self._session.close()

    def _serve_one(self) -> bool:
        """Answer one request; False ends the connection."""
        visit, stream, session = self._visit, self._stream, self._session
        try:
            if not visit.wait(stream, session.buffer):
                return False
            stream.set_timeout(visit.head_seconds)
            head = stream.read_head()
            if head is None:
                return False
            visit.is_answering = True
            request = self._last_request
            if request is None or head != self._last_head:  # a predictor's calls have the same head each time
                if head == HTTP2_PREFACE and self._serve_http2 is not None and request is None:
                    self._serve_http2()
                    return False
                request = self._last_request = parse_head(head)
                self._last_head = head
        except HttpError as error:
            return self._end(error)
        except ProtocolError as error:
            return self._end(HttpError(str(error), status=431))
        stream.set_timeout(message_seconds(request.content_length))
        body = body_of(request, stream)
        response = self._answer(request, body)
        num_bytes = response.num_bytes
        stream.set_timeout(message_seconds(num_bytes))  # anew: the model may have taken long
        keep_alive = request.keep_alive and body.discard(DISCARD_BYTES)
        stream.send(response.encode(keep_alive, num_bytes, request.method != "HEAD"))
        visit.answered(session.is_allowed)
        session.buffer.trim()
        return keep_alive

    def _answer(self, request: Request, body: Body) -> Response:
        try:
            return self._service.answer(self._session, request, body)
        except (ConnectionLost, DeadlineExceeded) as error:
            if body.is_cut_off or isinstance(error, ConnectionLost):
                raise  # the client stopped sending: there is no one to answer
            return _refuse(request, error)
        except ElasticInferenceError as error:
            return _refuse(request, error)
        except MemoryError as error:
            return _refuse(request, MemoryQuotaExceeded(f"no memory is left for the request: {error}"))
        except Exception as error:  # the process lives on, whatever a handler did wrong
            log.exception("request failed", extra=_what(request))
            return Response.of_json({"error": f"internal error: {type(error).__name__}: {error}"}, 500)

    def _end(self, error: HttpError) -> bool:
        response = Response.of_error(error)
        self._stream.send(response.encode(False, response.num_bytes))
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
