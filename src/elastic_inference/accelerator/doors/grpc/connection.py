"""One client's HTTP/2 connection: many calls at once over one socket.

Whoever reads a whole request lets another thread read on and runs the request itself: a lone request changes no
thread on its way, and while it runs the client can still cancel it, ask for a ping or begin another. Where requests
are answered so quickly that nobody could notice, the thread that reads runs them too, one after the other: to wake
another one for each costs more than they do. Their answers go out together, when nothing more has arrived or before
anything that may take longer. Threads come as they are needed, and those that stay idle go.
"""

from __future__ import annotations

import logging
import threading

from elastic_inference.accelerator.doors.grpc.call import Call, Method
from elastic_inference.accelerator.doors.grpc.frames import Code
from elastic_inference.accelerator.doors.grpc.receiving import Receiver
from elastic_inference.accelerator.doors.grpc.sending import Sender
from elastic_inference.accelerator.inference import Inference
from elastic_inference.accelerator.visit import Visit
from elastic_inference.errors import (
    ConnectionLost,
    DeadlineExceeded,
    ElasticInferenceError,
    Http2Error,
    MemoryQuotaExceeded,
    RequestCancelled,
)
from elastic_inference.protocol.duplex import halves
from elastic_inference.protocol.status import GrpcCode, error_text, status_of
from elastic_inference.protocol.stream import Stream

log = logging.getLogger(__name__)
MAX_CALLS = 64  # of one connection at once; a client's others wait at its end
IDLE_THREAD_SECONDS = 10.0


class GrpcConnection:
    """Serves one connection, from behind the line by which HTTP/2 is recognized.

    Args:
        methods: What serves which path.
    """

    def __init__(
        self, visit: Visit, stream: Stream, inference: Inference, methods: dict[str, Method]
    ) -> None:
        self._visit = visit
        self._inference = inference
        receiving, sending = halves(stream)
        self._sender = Sender(sending, visit.peer_uid)
        receiving.before_waiting = self._send_gathered
        self._receiver = Receiver(
            receiving, self._sender, methods, inference.tokens, inference.shared.body_limit_bytes, MAX_CALLS
        )
        self._turn_to_read = threading.Lock()
        self._lock = threading.Lock()
        self._num_waiting = 0  # for the turn to read
        self._num_running = 0
        self._threads: set[threading.Thread] = set()
        self._is_over = False

    def serve(self) -> None:
        """Answer calls until the client leaves or breaks the protocol."""
        try:
            self._receiver.shake_hands()
            self._work(None)
        finally:
            self._end()
            for thread in list(self._threads):
                thread.join()

    def _end(self) -> None:
        self._is_over = True
        self._receiver.cancel_all()
        self._sender.break_off()
        self._visit.abort()

    def _work(self, idle_seconds: float | None) -> None:
        """Read and run calls by turns until the connection is over, or no turn comes for so long."""
        while self._take_turn(idle_seconds):
            has_turn = True
            try:
                while has_turn:
                    call = None if self._is_over else self._next_call()
                    if call is None:
                        self._end()
                        return
                    call.let_read = self._give_turn
                    is_quick = self._is_quick(call)
                    if is_quick:
                        call.may_gather = self._receiver.has_more
                    else:
                        has_turn = False
                        call.let_others_read()
                    try:
                        self._run(call, is_quick)
                    finally:
                        has_turn = call.let_read is not None
            finally:
                if has_turn:
                    self._turn_to_read.release()

    def _is_quick(self, call: Call) -> bool:
        """Whether the thread that reads may run a call, since it will be over before anybody could notice."""
        pace = call.method.pace(call)
        return pace is not None and pace.is_quick

    def _take_turn(self, idle_seconds: float | None) -> bool:
        with self._lock:
            self._num_waiting += 1
        has_turn = self._turn_to_read.acquire(timeout=-1 if idle_seconds is None else idle_seconds)
        with self._lock:
            self._num_waiting -= 1
        return has_turn

    def _give_turn(self) -> None:
        self._let_another_read()
        self._turn_to_read.release()

    def _next_call(self) -> Call | None:
        """Read until a call can run; None where the client left or broke the protocol."""
        try:
            while True:
                call = self._receiver.read_one(self._visit.idle_seconds)
                if self._receiver.is_proven:
                    self._visit.is_proven = True
                if call is not None:
                    with self._lock:
                        self._num_running += 1
                        self._visit.is_answering = True
                    return call
        except Http2Error as error:
            log.info("connection refused", extra={"error": str(error)})
            self._sender.say_goodbye(self._receiver.last_stream, Code(error.code), str(error))
        except (ConnectionLost, DeadlineExceeded) as error:
            log.debug("connection ended", extra={"error": str(error)})
        return None

    def _let_another_read(self) -> None:
        with self._lock:
            if self._num_waiting:
                return
            thread = threading.Thread(target=self._serve_beside, name="grpc-call", daemon=True)
            self._threads.add(thread)
        try:
            thread.start()
        except RuntimeError:  # no thread can be had: this one reads on when its call is done
            with self._lock:
                self._threads.discard(thread)

    def _serve_beside(self) -> None:
        try:
            self._work(IDLE_THREAD_SECONDS)
        except Exception:
            log.exception("connection broken off")
            self._end()
        finally:
            with self._lock:
                self._threads.discard(threading.current_thread())

    def _run(self, call: Call, is_quick: bool) -> None:
        try:
            if not is_quick:
                self._sender.flush()
            code, text = self._outcome(call)
            if not call.has_ended:
                self._sender.send_status(call, code, text)
        except (ConnectionLost, DeadlineExceeded, RequestCancelled) as error:
            log.debug("an answer was not sent", extra={"path": call.head.path, "error": str(error)})
        finally:
            self._receiver.forget(call)
            call.close()
            with self._lock:
                self._num_running -= 1
                self._note_idle()

    def _send_gathered(self) -> None:
        if self._sender.has_gathered:
            self._sender.flush()
            with self._lock:
                self._note_idle()

    def _note_idle(self) -> None:
        if not self._num_running and not self._sender.has_gathered:
            self._visit.answered(True)

    def _outcome(self, call: Call) -> tuple[GrpcCode, str]:
        try:
            call.method.serve(call)
            return GrpcCode.OK, ""
        except (ConnectionLost, RequestCancelled):
            raise
        except ElasticInferenceError as error:
            refused = error
        except MemoryError as error:
            refused = MemoryQuotaExceeded(f"no memory is left for the request: {error}")
        except Exception as error:  # the process lives on, whatever a handler did wrong
            log.exception("request failed", extra={"path": call.head.path})
            return GrpcCode.INTERNAL, f"internal error: {type(error).__name__}: {error}"
        code, text = status_of(refused).grpc, error_text(refused)
        log.log(
            logging.ERROR if code is GrpcCode.INTERNAL else logging.INFO,
            "request refused",
            extra={"path": call.head.path, "error": text, "status": code.name},
        )
        return code, text
