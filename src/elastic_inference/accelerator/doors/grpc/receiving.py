"""The receiving half of a connection: frames become calls and their messages."""

from __future__ import annotations

import struct
import threading
import time

from elastic_inference.accelerator.doors.grpc import control, frames, header_blocks
from elastic_inference.accelerator.doors.grpc.call import (
    ALIGNMENT,
    LARGE_BYTES,
    PREFIX_BYTES,
    Call,
    Message,
    Method,
)
from elastic_inference.accelerator.doors.grpc.frames import Code, Kind, Setting
from elastic_inference.accelerator.doors.grpc.header_blocks import CallHead, HeadReader
from elastic_inference.accelerator.doors.grpc.sending import CALL_WINDOW_BYTES, Sender
from elastic_inference.accelerator.tokens import Tokens
from elastic_inference.accelerator.visit import KEEP_SECONDS, message_seconds
from elastic_inference.errors import (
    ConnectionLost,
    DeadlineExceeded,
    ElasticInferenceError,
    Http2Error,
    InvalidInput,
    MemoryQuotaExceeded,
    PermissionDenied,
    ProtocolError,
)
from elastic_inference.protocol.duplex import Half
from elastic_inference.protocol.status import GrpcCode, error_text, status_of

CONNECTION_WINDOW_BYTES = frames.MAX_WINDOW_BYTES
MAX_HEADERS_BYTES = 1 << 16
MAX_CONTROL_BYTES = 1 << 14  # of a frame of settings and the like
_PREFIX = struct.Struct(">BI")


class Receiver:
    """Reads frames; only one thread at a time, by turns.

    Attributes:
        last_stream: The highest that the client opened.
        is_proven: Whether any call was allowed.
    """

    def __init__(
        self,
        half: Half,
        sender: Sender,
        methods: dict[str, Method],
        tokens: Tokens,
        limit_bytes: int,
        max_calls: int,
    ) -> None:
        self._half = half
        self._sender = sender
        self._methods = methods
        self._tokens = tokens
        self._limit_bytes = limit_bytes
        self._max_calls = max_calls
        self._heads = HeadReader()
        self._lock = threading.Lock()
        self._calls: dict[int, Call] = {}
        self._arriving: dict[int, float] = {}  # until when the next message of which call has to be whole
        self._num_unacknowledged = 0
        self._allowed: tuple[CallHead, str | None] | None = None
        self.last_stream = 0
        self.is_proven = False

    def shake_hands(self) -> None:
        """Read the rest of the preface and say what we take."""
        ours = {
            Setting.MAX_CONCURRENT_STREAMS: self._max_calls,
            Setting.INITIAL_WINDOW_SIZE: CALL_WINDOW_BYTES,
            Setting.MAX_FRAME_SIZE: frames.MAX_FRAME_BYTES,
            Setting.MAX_HEADER_LIST_SIZE: header_blocks.MAX_HEADER_LIST_BYTES,
        }
        more = CONNECTION_WINDOW_BYTES - frames.DEFAULT_WINDOW_BYTES
        self._sender.control(
            frames.settings({int(k): v for k, v in ours.items()}) + frames.window_update(0, more)
        )
        self._half.set_timeout(10.0)
        if self._half.read(len(frames.PREFACE_REST)) != frames.PREFACE_REST:
            raise ConnectionLost("the client's preface is not that of HTTP/2")

    def read_one(self, idle_seconds: float) -> Call | None:
        """Read a frame; returns a call that can run now.

        Raises:
            Http2Error: The client breaks the protocol in a way that ends the connection.
            ConnectionLost, DeadlineExceeded: It left, or stopped in the middle of a message.
        """
        half = self._half
        if not half.num_buffered and not self._wait(idle_seconds):
            raise ConnectionLost("the client closed the connection")
        length, kind, flags, stream = frames.parse_head(half.read(frames.HEAD_BYTES))
        half.set_timeout(message_seconds(length))
        if kind == Kind.DATA:
            return self._data(length, flags, stream)
        if kind == Kind.HEADERS:
            return self._headers(length, flags, stream)
        if length > MAX_CONTROL_BYTES:
            raise Http2Error(f"a frame of type {kind} has {length} bytes", code=Code.FRAME_SIZE_ERROR)
        payload = half.read(length)
        if kind == Kind.SETTINGS:
            control.settings(self._sender, self.calls(), flags, stream, payload)
        elif kind == Kind.WINDOW_UPDATE:
            self._window_update(stream, payload)
        elif kind == Kind.PING:
            control.ping(self._sender, flags, stream, payload)
        elif kind == Kind.RST_STREAM:
            self._reset(stream, payload)
        elif kind in (Kind.PUSH_PROMISE, Kind.CONTINUATION):
            raise Http2Error(f"a frame of type {kind} where none may be", code=Code.PROTOCOL_ERROR)
        return None

    def _wait(self, idle_seconds: float) -> bool:
        half = self._half
        if self._arriving:
            half.set_timeout(max(min(self._arriving.values()) - time.monotonic(), 0.0))
            return half.wait()
        half.set_timeout(min(idle_seconds, KEEP_SECONDS))
        try:
            return half.wait()
        except DeadlineExceeded:
            self._sender.give_all_back()
        half.set_timeout(idle_seconds)
        return half.wait()

    @property
    def has_more(self) -> bool:
        """Whether more has arrived than was read."""
        return self._half.num_buffered > 0

    def forget(self, call: Call) -> None:
        """Know that a call has its answer."""
        with self._lock:
            self._calls.pop(call.stream, None)

    def calls(self) -> list[Call]:
        """Return all calls that are open."""
        with self._lock:
            return list(self._calls.values())

    def cancel_all(self) -> None:
        """Cancel all calls, whose client has left; those that nobody runs are closed."""
        for call in self.calls():
            call.cancel()
        self._sender.wake()

    def _headers(self, length: int, flags: int, stream: int) -> Call | None:
        block = self._block(length, flags, stream)
        call = self._calls.get(stream)
        try:
            head = self._heads.read(block)
        except InvalidInput as error:
            self.last_stream = max(self.last_stream, stream)
            self._refuse(stream, GrpcCode.INVALID_ARGUMENT, str(error), bool(flags & frames.END_STREAM))
            return None
        if call is not None:  # trailers, which gRPC's clients do not send
            if not flags & frames.END_STREAM:
                raise Http2Error("trailers that do not end their stream", code=Code.PROTOCOL_ERROR)
            return self._ended(call)
        if not stream & 1:
            raise Http2Error(f"stream {stream} is not a client's", code=Code.PROTOCOL_ERROR)
        if stream <= self.last_stream:
            return None  # trailers of a call that was answered before
        self.last_stream = stream
        return self._open(stream, head, is_whole=bool(flags & frames.END_STREAM))

    def _block(self, length: int, flags: int, stream: int) -> bytes:
        """Read a header block, which may go on in further frames."""
        if length > MAX_HEADERS_BYTES:
            raise Http2Error(f"headers of {length} bytes", code=Code.ENHANCE_YOUR_CALM)
        payload = self._half.read(length)
        padding = 0
        start = 0
        if flags & frames.PADDED:
            padding, start = payload[:1][0] if payload else 0, 1
        if flags & frames.PRIORITY:
            start += 5
        if start + padding > len(payload):
            raise Http2Error("padding beyond its frame", code=Code.PROTOCOL_ERROR)
        block = payload[start : len(payload) - padding]
        while not flags & frames.END_HEADERS:
            length, kind, flags, of_stream = frames.parse_head(self._half.read(frames.HEAD_BYTES))
            if kind != Kind.CONTINUATION or of_stream != stream:
                raise Http2Error("a header block is broken off", code=Code.PROTOCOL_ERROR)
            if not length or len(block) + length > MAX_HEADERS_BYTES:
                raise Http2Error("a header block without end", code=Code.ENHANCE_YOUR_CALM)
            block += self._half.read(length)
        return block

    def _open(self, stream: int, head: CallHead, is_whole: bool) -> Call | None:
        if not head.content_type.startswith("application/grpc") or head.method != "POST":
            self._refuse_stream(stream, header_blocks.not_grpc(415), is_whole)
            return None
        method = self._methods.get(head.path)
        if method is None:
            text = f"no such method: {head.path[:200]}"
            self._refuse(stream, GrpcCode.UNIMPLEMENTED, text, is_whole)
            return None
        try:
            if method.needs_token:
                self._check_token(head)
        except PermissionDenied as error:
            self._refuse(stream, status_of(error).grpc, error_text(error), is_whole)
            return None
        with self._lock:
            is_full = len(self._calls) >= self._max_calls
        if is_full:
            self._sender.control(frames.rst_stream(stream, Code.REFUSED_STREAM))
            return None
        call = Call(stream, head, method, self._sender)
        call.send_window = self._sender.initial_window
        call.receive_window = CALL_WINDOW_BYTES
        with self._lock:
            self._calls[stream] = call
        if is_whole:
            call.end()
        elif not method.takes_many:
            self._arriving[stream] = time.monotonic() + message_seconds(0)
        return call if is_whole or method.takes_many else None  # of many, messages come as they like

    def _check_token(self, head: CallHead) -> None:
        in_force = self._tokens.token_sha256
        allowed = self._allowed
        if allowed is None or allowed[0] is not head or allowed[1] is not in_force:
            self._tokens.check(head.authorization, needs_admin=False)
            self._allowed = (head, in_force)
            self.is_proven = True

    def _refuse(self, stream: int, code: GrpcCode, text: str, is_whole: bool) -> None:
        self._refuse_stream(stream, header_blocks.RESPONSE + header_blocks.trailers(code, text), is_whole)

    def _refuse_stream(self, stream: int, block: bytes, is_whole: bool) -> None:
        answer = frames.frame(Kind.HEADERS, frames.END_HEADERS | frames.END_STREAM, stream, block)
        if not is_whole:
            answer += frames.rst_stream(stream, Code.NO_ERROR)
        self._sender.control(answer)

    def _refuse_call(self, call: Call, error: ElasticInferenceError) -> None:
        """Answer a call that cannot run; what still comes of it is skipped."""
        if not call.method.takes_many:
            self.forget(call)
            self._arriving.pop(call.stream, None)
            self._sender.send_status(call, status_of(error).grpc, error_text(error))
            call.close()
        else:
            call.fail(error)

    def _data(self, length: int, flags: int, stream: int) -> Call | None:
        self._acknowledge(length)
        if not stream or stream > self.last_stream:
            raise Http2Error(f"data of stream {stream}, which is not open", code=Code.PROTOCOL_ERROR)
        padding = 0
        num_data = length
        if flags & frames.PADDED:
            padding = self._half.read(1)[0]
            num_data -= 1 + padding
            if num_data < 0:
                raise Http2Error("padding beyond its frame", code=Code.PROTOCOL_ERROR)
        call = self._calls.get(stream)
        if call is None or not call.takes_more:
            self._skip(num_data + padding)
            return None
        if not self._sender.received(call, length):
            raise Http2Error("data beyond the window", code=Code.FLOW_CONTROL_ERROR)
        try:
            self._feed(call, num_data)
        except ElasticInferenceError as error:
            if isinstance(error, ConnectionLost | DeadlineExceeded | Http2Error):
                raise
            self._refuse_call(call, error)
        if padding:
            self._skip(padding)
        if flags & frames.END_STREAM and stream in self._calls:
            return self._ended(call)
        return None

    def _acknowledge(self, length: int) -> None:
        """Let the client send on; the connection's window is so large that this is seldom."""
        self._num_unacknowledged += length
        if self._num_unacknowledged >= CONNECTION_WINDOW_BYTES // 4:
            self._sender.control(frames.window_update(0, self._num_unacknowledged))
            self._num_unacknowledged = 0

    def _skip(self, length: int) -> None:
        scratch = memoryview(bytearray(min(length, 1 << 16)))
        while length:
            step = scratch[:length]
            self._half.read_into(step)
            length -= len(step)

    def _feed(self, call: Call, length: int) -> None:
        """Read a frame's data into the messages of a call; what is left after an error is skipped."""
        left = length
        try:
            while left:
                message = call.message
                if message is None:
                    step = min(left, PREFIX_BYTES - len(call.prefix))
                    call.prefix += self._half.read(step)
                    left -= step
                    if len(call.prefix) == PREFIX_BYTES:
                        message = self._begin(call, left)
                else:
                    step = min(left, len(message.view) - message.num_received)
                    self._half.read_into(message.view[message.num_received : message.num_received + step])
                    message.num_received += step
                    left -= step
                if message is not None and message.num_received == len(message.view):
                    call.message = None
                    if call.method.takes_many:
                        self._arriving.pop(call.stream, None)
                    call.arrived(message)
        except ElasticInferenceError as error:
            if not isinstance(error, ConnectionLost | DeadlineExceeded):
                self._skip(left)
            raise

    def _begin(self, call: Call, num_in_frame: int) -> Message:
        """Make room for a message whose length is known now, and let the client send all of it."""
        compressed, size = _PREFIX.unpack(call.prefix)
        call.prefix.clear()
        if compressed > 1:
            raise ProtocolError(f"a message's first byte is {compressed}, not 0 or 1")
        if size > self._limit_bytes:
            raise MemoryQuotaExceeded(
                f"the message of {size} bytes exceeds the limit of {self._limit_bytes}",
                requested_bytes=size,
                limit_bytes=self._limit_bytes,
            )
        if not call.method.takes_many and call.has_messages:
            raise ProtocolError("the call has more than one message")
        self._arriving[call.stream] = time.monotonic() + message_seconds(size)
        message = call.message = self._room(call, size, bool(compressed), num_in_frame)
        missing = size - num_in_frame - call.receive_window
        if missing > 0:
            message.num_counted -= missing
            self._sender.allow(call, missing)
        return message

    def _room(self, call: Call, size: int, is_compressed: bool, num_in_frame: int) -> Message:
        if size < LARGE_BYTES:
            return Message(memoryview(bytearray(size)), is_compressed, None)
        shift = 0
        if call.method.first_tensor is not None and not is_compressed:
            shift = -call.method.first_tensor(self._half.peek()[:num_in_frame]) % ALIGNMENT
        buffer = self._sender.take_buffer()
        try:
            view = buffer.take(size + shift)[shift : shift + size]
        except MemoryError as error:
            raise MemoryQuotaExceeded(f"the message of {size} bytes: {error}") from error
        return Message(view, is_compressed, buffer)

    def _ended(self, call: Call) -> Call | None:
        """Know that the client sends no more of a call; returns it where it is to run now."""
        self._arriving.pop(call.stream, None)
        if call.message is not None or call.prefix:
            self._refuse_call(call, ProtocolError("the call ends in the middle of a message"))
            return None
        call.end()
        return None if call.method.takes_many else call

    def _window_update(self, stream: int, payload: bytes) -> None:
        if len(payload) != 4:
            raise Http2Error("a window update is malformed", code=Code.FRAME_SIZE_ERROR)
        call = self._calls.get(stream)
        num_bytes = frames.number(payload)
        if not num_bytes:
            raise Http2Error("a window update of nothing", code=Code.PROTOCOL_ERROR)
        if not stream or call is not None:
            self._sender.open_window(call, num_bytes)

    def _reset(self, stream: int, payload: bytes) -> None:
        if not stream or len(payload) != 4:
            raise Http2Error("a reset is malformed", code=Code.FRAME_SIZE_ERROR)
        call = self._calls.get(stream)
        if call is None:
            return
        is_arriving = self._arriving.pop(stream, None) is not None
        call.cancel()
        self._sender.wake()
        if is_arriving and not call.method.takes_many:  # nobody runs it yet
            self.forget(call)
            call.close()
