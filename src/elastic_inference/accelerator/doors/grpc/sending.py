"""The sending half of a connection: frames in the order in which threads come, as far as the client's windows allow."""

from __future__ import annotations

import contextlib
import struct
import threading
import time
from collections.abc import Sequence

from elastic_inference.accelerator.doors.grpc import frames, header_blocks
from elastic_inference.accelerator.doors.grpc.call import Call, Views
from elastic_inference.accelerator.doors.grpc.frames import Code, Kind
from elastic_inference.accelerator.kept_buffer import KeptBuffer
from elastic_inference.accelerator.visit import message_seconds
from elastic_inference.errors import (
    ConnectionLost,
    DeadlineExceeded,
    Http2Error,
    InvalidInput,
    RequestCancelled,
)
from elastic_inference.protocol.duplex import Half
from elastic_inference.protocol.status import GrpcCode

CALL_WINDOW_BYTES = 16 << 20  # what a client may send of a call before we know how long its message is
BURST_BYTES = 1 << 20  # sent without letting another call in between
CONTROL_SECONDS = 60.0  # for a frame that answers one of the client's
MAX_KEPT_BUFFERS = 4
SMALL_BYTES = (
    1 << 13
)  # of an answer that is copied together with its frames' heads, which is quicker than to list them
GATHERED_BYTES = 1 << 16  # of small answers, which go out together
GATHERED_SECONDS = 5e-4  # for which the first of them waits
_PREFIX = struct.Struct(">BI")
_HEADERS, _DATA = int(Kind.HEADERS), int(Kind.DATA)
_STATUS = frames.END_HEADERS | frames.END_STREAM


class Sender:
    """What all threads of a connection send through; also lends the memory that messages are received into."""

    def __init__(self, half: Half, peer_uid: int | None) -> None:
        self.peer_uid = peer_uid
        self._half = half
        self._sending = threading.Lock()
        self._windows = threading.Condition()
        self._window = frames.DEFAULT_WINDOW_BYTES
        self.initial_window = frames.DEFAULT_WINDOW_BYTES  # of each call, as the client set it
        self._frame_bytes = frames.DEFAULT_FRAME_BYTES
        self._is_broken = False
        self._gathered: list[bytes | memoryview] = []  # small answers that are not sent yet
        self._num_gathered = 0  # their bytes
        self._gathered_at = 0.0  # when the first of them was
        self._buffers: list[KeptBuffer] = []

    def send_message(self, call: Call, views: Views, is_last: bool) -> None:
        """Send a message of a call, and behind the last one that all went well.

        Raises:
            RequestCancelled: The client wants it no more.
            ConnectionLost, DeadlineExceeded: It left, or took nothing for too long.
            InvalidInput: The message is longer than gRPC can say.
        """
        size = sum(map(len, views))
        if size >= 1 << 32:
            raise InvalidInput(f"the answer of {size} bytes is longer than a message of gRPC can be: 4 GiB")
        if (
            size <= SMALL_BYTES
            and is_last
            and not call.has_head
            and self._take_whole(call, size + _PREFIX.size)
        ):
            self._send_small(call, views, size)
            return
        out: list[bytes | memoryview] = []
        if not call.has_head:
            call.has_head = True
            out.append(frames.frame(Kind.HEADERS, frames.END_HEADERS, call.stream, header_blocks.RESPONSE))
        end = time.monotonic() + message_seconds(size)
        cutter = _Cutter([_PREFIX.pack(0, size), *views])
        left = size + _PREFIX.size
        while left:
            allowed = self._take(call, min(left, BURST_BYTES), end, out)
            left -= allowed
            while allowed:
                length = min(allowed, self._frame_bytes)
                out.append(frames.head(length, Kind.DATA, 0, call.stream))
                out += cutter.take(length)
                allowed -= length
            if left:
                self._flush(out, end)
        if is_last:
            out.append(_status_frame(call, header_blocks.TRAILERS_OK))
        self._flush(out, end)
        if is_last:
            self._ended(call)

    def _take_whole(self, call: Call, num_bytes: int) -> bool:
        """Take all of a small message from both windows, or nothing."""
        with self._windows:
            if num_bytes > self._window or num_bytes > call.send_window:
                return False
            self._window -= num_bytes
            call.send_window -= num_bytes
            return True

    def _send_small(self, call: Call, views: Views, size: int) -> None:
        """Send the only message of a call with its head and status, or let it wait for those of other calls."""
        call.has_head = True
        stream = call.stream
        whole = b"".join([
            frames.head(len(header_blocks.RESPONSE), _HEADERS, frames.END_HEADERS, stream),
            header_blocks.RESPONSE,
            frames.head(size + _PREFIX.size, _DATA, 0, stream),
            _PREFIX.pack(0, size),
            *views,
            frames.head(len(header_blocks.TRAILERS_OK), _HEADERS, _STATUS, stream),
            header_blocks.TRAILERS_OK,
        ])  # fmt: skip
        if not call.may_gather or not self._gather(whole):
            self._flush([whole], time.monotonic() + message_seconds(size))
        self._ended(call)

    def _gather(self, whole: bytes) -> bool:
        """Keep an answer for later; False where it is to be sent now, with those that are kept."""
        now = time.monotonic()
        with self._sending:
            if not self._gathered:
                self._gathered_at = now
            elif self._num_gathered >= GATHERED_BYTES or now - self._gathered_at > GATHERED_SECONDS:
                return False
            self._gathered.append(whole)
            self._num_gathered += len(whole)
            return True

    @property
    def has_gathered(self) -> bool:
        """Whether any answer waits to be sent with others."""
        return bool(self._gathered)

    def flush(self) -> None:
        """Send what has gathered; raises ConnectionLost, DeadlineExceeded."""
        if self._gathered:
            self._flush([], time.monotonic() + message_seconds(GATHERED_BYTES))

    def send_status(self, call: Call, code: GrpcCode, text: str) -> None:
        """End a call's answer; one without a message has its head in the same frame."""
        block = header_blocks.TRAILERS_OK if code is GrpcCode.OK else header_blocks.trailers(code, text)
        if not call.has_head:
            call.has_head = True
            block = header_blocks.RESPONSE + block
        self.control(_status_frame(call, block))
        self._ended(call)

    def _ended(self, call: Call) -> None:
        call.has_ended = True
        if not call.is_whole:  # it may stop sending
            self.control(frames.rst_stream(call.stream, Code.NO_ERROR))

    def control(self, frame: bytes) -> None:
        """Send a frame that no window counts."""
        self._flush([frame], time.monotonic() + CONTROL_SECONDS)

    def _flush(self, out: list[bytes | memoryview], end: float) -> None:
        """Send these frames behind the small answers that have gathered, and forget them."""
        with self._sending:
            if self._is_broken:
                raise ConnectionLost("the connection is over")
            self._half.set_timeout(max(end - time.monotonic(), 0.0))
            if self._gathered:
                out.insert(0, b"".join(self._gathered))
                self._gathered.clear()
                self._num_gathered = 0
            try:
                self._half.send(out)
            except BaseException:
                self._is_broken = True  # part of a frame may be out
                raise
        out.clear()

    def _take(self, call: Call, wanted: int, end: float, out: list[bytes | memoryview]) -> int:
        """Take what both windows allow of `wanted` bytes, at least one; what has gathered goes out before waiting."""
        with self._windows:
            allowed = self._allowed(call, wanted)
            if allowed:
                return allowed
        self._flush(out, end)
        call.let_others_read()
        with self._windows:
            while True:
                if self._is_broken:
                    raise ConnectionLost("the connection is over")
                if call.is_cancelled:
                    raise RequestCancelled("the client cancelled the call")
                allowed = self._allowed(call, wanted)
                if allowed:
                    return allowed
                if not self._windows.wait(end - time.monotonic()) and time.monotonic() >= end:
                    raise DeadlineExceeded("the client let nothing be sent for too long")

    def _allowed(self, call: Call, wanted: int) -> int:
        allowed = max(0, min(wanted, self._window, call.send_window))
        self._window -= allowed
        call.send_window -= allowed
        return allowed

    def open_window(self, call: Call | None, num_bytes: int) -> None:
        """Heed a WINDOW_UPDATE, of the connection where no call is given."""
        with self._windows:
            now = self._window if call is None else call.send_window
            if now + num_bytes > frames.MAX_WINDOW_BYTES:
                raise Http2Error("a window grew beyond 2**31 - 1", code=Code.FLOW_CONTROL_ERROR)
            if call is None:
                self._window += num_bytes
            else:
                call.send_window += num_bytes
            self._windows.notify_all()

    def set_initial_window(self, num_bytes: int, calls: Sequence[Call]) -> None:
        """Heed the client's setting, which changes the windows of calls that are open too."""
        if num_bytes > frames.MAX_WINDOW_BYTES:
            raise Http2Error("INITIAL_WINDOW_SIZE is beyond 2**31 - 1", code=Code.FLOW_CONTROL_ERROR)
        with self._windows:
            for call in calls:
                call.send_window += num_bytes - self.initial_window
            self.initial_window = num_bytes
            self._windows.notify_all()

    def set_frame_bytes(self, num_bytes: int) -> None:
        """Heed the client's longest frame."""
        if not frames.DEFAULT_FRAME_BYTES <= num_bytes <= frames.MAX_FRAME_BYTES:
            raise Http2Error(f"MAX_FRAME_SIZE cannot be {num_bytes}", code=Code.PROTOCOL_ERROR)
        self._frame_bytes = num_bytes

    def wake(self) -> None:
        """Let whoever waits for a window look whether it still should."""
        with self._windows:
            self._windows.notify_all()

    def received(self, call: Call, num_bytes: int) -> bool:
        """Account for what a client sent of a call; False where it was not allowed to."""
        with self._windows:
            call.receive_window -= num_bytes
            return call.receive_window >= 0

    def allow(self, call: Call, num_bytes: int) -> None:
        """Let the client send so many bytes more of a call."""
        with self._windows:
            call.receive_window += num_bytes
        self.control(frames.window_update(call.stream, num_bytes))

    def consumed(self, call: Call, num_bytes: int) -> None:
        """Let the client send more, once a quarter of what it may send was used."""
        call.num_used += num_bytes
        if call.num_used >= CALL_WINDOW_BYTES // 4 and not call.is_whole:
            num_bytes, call.num_used = call.num_used, 0
            self.allow(call, num_bytes)

    def say_goodbye(self, last_stream: int, code: Code, text: str) -> None:
        """End the connection with a reason, as far as the client still takes it."""
        with contextlib.suppress(ConnectionLost, DeadlineExceeded):
            self.control(frames.goaway(last_stream, code, text))

    def take_buffer(self) -> KeptBuffer:
        """Lend kept memory to a message."""
        with self._windows:
            return self._buffers.pop() if self._buffers else KeptBuffer()

    def give_back(self, buffer: KeptBuffer) -> None:
        """Take it back."""
        buffer.trim()
        with self._windows:
            if len(self._buffers) < MAX_KEPT_BUFFERS:
                self._buffers.append(buffer)

    def give_all_back(self) -> None:
        """Let the kept memory go, of a connection that is idle."""
        with self._windows:
            self._buffers.clear()

    def break_off(self) -> None:
        """Send nothing more, and wake whoever waits to."""
        self._is_broken = True
        self.wake()


class _Cutter:
    """Views, taken in pieces of given sizes without copies."""

    def __init__(self, views: Views) -> None:
        self._views = [memoryview(view) for view in views]
        self._next = 0
        self._offset = 0

    def take(self, num_bytes: int) -> list[memoryview]:
        """Return the next bytes."""
        taken = []
        while num_bytes:
            view = self._views[self._next]
            piece = view[self._offset : self._offset + num_bytes]
            taken.append(piece)
            num_bytes -= len(piece)
            self._offset += len(piece)
            if self._offset == len(view):
                self._next += 1
                self._offset = 0
        return taken


def _status_frame(call: Call, block: bytes) -> bytes:
    return frames.frame(Kind.HEADERS, frames.END_HEADERS | frames.END_STREAM, call.stream, block)
