"""One call: its messages as they come, its answers, and whether anyone still waits for them."""

from __future__ import annotations

import threading
import time
import zlib
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from elastic_inference.accelerator.doors.grpc.frames import DEFAULT_WINDOW_BYTES
from elastic_inference.accelerator.doors.grpc.header_blocks import CallHead
from elastic_inference.accelerator.doors.grpc.pace import Pace
from elastic_inference.accelerator.kept_buffer import KeptBuffer
from elastic_inference.accelerator.model_statistics import Timing
from elastic_inference.errors import (
    ComputeQuotaExceeded,
    DeadlineExceeded,
    ElasticInferenceError,
    InvalidInput,
    MemoryQuotaExceeded,
    RequestCancelled,
)

PREFIX_BYTES = 5  # before each message: whether it is compressed, and its length
LARGE_BYTES = 1 << 16  # from here on a message is received into kept memory
ALIGNMENT = 64
MAX_WAITING = (
    16_384  # messages of one call that came and are not used: an empty one costs its sender 5 bytes only
)
_WINDOW_BITS = {"gzip": 31, "deflate": 15}

Views = Sequence[bytes | memoryview]


@dataclass(frozen=True)
class Method:
    """What serves the calls of one path.

    Attributes:
        serve: Answers a call; what it raises becomes the call's status.
        takes_many: Whether the client sends a stream of messages.
        needs_token: False for what says only whether something works.
        first_tensor: Where the first tensor's bytes begin in a message whose first bytes are given, so that they can
            be received to an aligned place; None where messages hold none.
        pace: Tells how quick calls like this one were, whose message is whole; None: nothing is known. Who answers
            notes it.
    """

    serve: Callable[[Call], None]
    takes_many: bool = False
    needs_token: bool = True
    first_tensor: Callable[[memoryview], int] | None = None
    pace: Callable[[Call], Pace | None] = lambda _: None


class Wire(Protocol):
    """What a call asks of its connection."""

    peer_uid: int | None

    def send_message(self, call: Call, views: Views, is_last: bool) -> None:
        """Send one message; the last one with the call's status."""

    def consumed(self, call: Call, num_bytes: int) -> None:
        """Let the client send more, once enough of what it sent was used."""

    def take_buffer(self) -> KeptBuffer:
        """Lend kept memory to a message."""

    def give_back(self, buffer: KeptBuffer) -> None:
        """Take it back."""


class Message:
    """One message as it arrives.

    Attributes:
        num_counted: Bytes of it by which the call's window is smaller until it is used.
    """

    def __init__(self, view: memoryview, is_compressed: bool, buffer: KeptBuffer | None) -> None:
        self.view = view
        self.is_compressed = is_compressed
        self.buffer = buffer
        self.num_received = 0
        self.num_counted = PREFIX_BYTES + len(view)


class Call:
    """One call of a client. Fields of flow control belong to the connection, which holds its lock for them.

    Attributes:
        send_window, receive_window: Bytes that we, and the client, may still send.
        began: When it came, on time.monotonic.
        prefix, message: Of the message that arrives now.
        let_read: Gives the turn to read the connection to another thread, as long as whoever runs this call has it.
        may_gather: Whether a small answer may wait for those of the next calls, which have arrived already.
        timing: Of the request that it came to; None where it came to none.
        has_head: Whether the answer's head was sent.
    """

    def __init__(self, stream: int, head: CallHead, method: Method, wire: Wire) -> None:
        self.stream = stream
        self.head = head
        self.method = method
        self.send_window = self.receive_window = DEFAULT_WINDOW_BYTES
        self.prefix = bytearray()
        self.message: Message | None = None
        self.let_read: Callable[[], None] | None = None
        self.may_gather = False
        self.timing: Timing | None = None
        self.num_used = 0  # received bytes that the client may send again and was not told of yet
        self.has_head = False
        self.has_ended = False  # the answer, with its status
        self.is_whole = False  # the client sends no more
        self.is_cancelled = False
        self._wire = wire
        self.began = time.monotonic()
        self._messages: deque[Message] = deque()
        self._current: Message | None = None  # the one that `next` gave last
        self._error: ElasticInferenceError | None = None
        self._changed = threading.Condition()

    @property
    def peer_uid(self) -> int | None:
        """The user at the other end of a Unix socket, else None."""
        return self._wire.peer_uid

    @property
    def trace_parent(self) -> bytes:
        """W3C's `traceparent` of the caller's span, b"" where there is none."""
        return self.head.metadata.get(b"traceparent", b"")

    def seconds_left(self) -> float | None:
        """Return what is left of the client's time; None is no limit. Raises DeadlineExceeded where it is over."""
        if self.head.timeout_seconds is None:
            return None
        left = self.began + self.head.timeout_seconds - time.monotonic()
        if left <= 0:
            raise DeadlineExceeded(f"the call's {self.head.timeout_seconds} s were over before it ran")
        return left

    def let_others_read(self) -> None:
        """Have another thread read the connection, before this one waits for what only reading brings."""
        let_read, self.let_read = self.let_read, None
        if let_read is not None:
            let_read()

    def is_wanted(self) -> bool:
        """Whether the client still waits for the answer."""
        return not self.is_cancelled

    def ran(self, timing: Timing) -> None:
        """Know how long the request waited and was computed."""
        self.timing = timing

    def take(self, limit_bytes: int) -> memoryview:
        """Return the one message of a call that has one."""
        view = self.next(limit_bytes)
        if view is None:
            raise InvalidInput("the call came without a message")
        return view

    def peek(self) -> memoryview | None:
        """Return the message that `take` will give, where that is sure and costs nothing; else None."""
        if not self._messages or self._messages[0].is_compressed:
            return None
        return self._messages[0].view

    def next(self, limit_bytes: int) -> memoryview | None:
        """Wait for the next message; None at their end. The view is valid until the next call of this.

        Raises:
            RequestCancelled: The client took the call back.
            ElasticInferenceError: What it sent is no message.
        """
        self._release()
        with self._changed:
            while not (self._messages or self.is_whole or self.is_cancelled or self._error):
                self._changed.wait()
            if self.is_cancelled:
                raise RequestCancelled("the client cancelled the call")
            if not self._messages:
                if self._error is not None:
                    raise self._error
                return None
            message = self._current = self._messages.popleft()
        return self._unpacked(message, limit_bytes)

    def wait_cancelled(self, timeout_seconds: float) -> bool:
        """Wait until the client takes the call back, or for that long."""
        with self._changed:
            return self._changed.wait_for(lambda: self.is_cancelled, timeout_seconds)

    def send(self, views: Views) -> None:
        """Send one of several messages."""
        self._wire.send_message(self, views, is_last=False)

    def answer(self, views: Views) -> None:
        """Send the only message, or the last one, and that all went well."""
        self._wire.send_message(self, views, is_last=True)

    def arrived(self, message: Message) -> None:
        """Take a message that is whole; called by whoever reads the connection.

        Raises:
            ComputeQuotaExceeded: Too many wait already.
        """
        with self._changed:
            if len(self._messages) >= MAX_WAITING:
                raise ComputeQuotaExceeded(f"{MAX_WAITING} messages of the call wait already")
            self._messages.append(message)
            self._changed.notify_all()

    def end(self) -> None:
        """Know that the client sends no more."""
        with self._changed:
            self.is_whole = True
            self._changed.notify_all()

    def fail(self, error: ElasticInferenceError) -> None:
        """Have `next` raise this behind the messages that are whole."""
        with self._changed:
            self._error = error
            self._changed.notify_all()

    @property
    def takes_more(self) -> bool:
        """Whether what the client sends next belongs to a message."""
        return not self.is_whole and self._error is None

    @property
    def has_messages(self) -> bool:
        """Whether any message waits to be used."""
        return bool(self._messages)

    def cancel(self) -> None:
        """Know that the client wants no answer any more."""
        with self._changed:
            self.is_cancelled = True
            self._changed.notify_all()

    def close(self) -> None:
        """Give back the memory of all messages; nobody uses the call any more."""
        self._release()
        for message in (*self._messages, self.message):
            if message is not None and message.buffer is not None:
                self._wire.give_back(message.buffer)
        self._messages.clear()
        self.message = None

    def _release(self) -> None:
        message, self._current = self._current, None
        if message is None:
            return
        if message.buffer is not None:
            self._wire.give_back(message.buffer)
        if self.method.takes_many:
            self._wire.consumed(self, message.num_counted)

    def _unpacked(self, message: Message, limit_bytes: int) -> memoryview:
        if not message.is_compressed:
            return message.view
        bits = _WINDOW_BITS.get(self.head.coding)
        if bits is None:
            raise InvalidInput(
                f"messages compressed by {self.head.coding!r:.40} are not offered; use gzip or deflate"
            )
        unpacker = zlib.decompressobj(bits)
        try:
            data = unpacker.decompress(message.view, limit_bytes + 1)
        except zlib.error as error:
            raise InvalidInput(f"the message is not {self.head.coding}: {error}") from error
        if len(data) > limit_bytes:
            raise MemoryQuotaExceeded(
                f"the message exceeds the limit of {limit_bytes} bytes", limit_bytes=limit_bytes
            )
        if not unpacker.eof:
            raise InvalidInput(f"the {self.head.coding} message breaks off")
        return memoryview(data)
