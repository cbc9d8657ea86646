"""The body of one HTTP request: as it comes, in chunks, or compressed."""

from __future__ import annotations

import json
import zlib
from typing import Any

from elastic_inference.accelerator.doors.http.messages import Request
from elastic_inference.errors import ConnectionLost, HttpError, ProtocolError
from elastic_inference.protocol.stream import Stream

STEP_BYTES = 1 << 16
MAX_UNPACKED_BYTES = (
    512 << 20
)  # of a body in chunks or compressed: its length is known only when it is in memory
MAX_CHUNK_LINE_BYTES = 4096
MAX_TRAILERS = 64
_WINDOW_BITS = {"gzip": 31, "deflate": 15}


class Body:
    """The body of one request, read at most once.

    Attributes:
        remaining: Bytes that can still be read.
    """

    def __init__(self, stream: Stream, length: int, wants_continue: bool) -> None:
        self._stream = stream
        self._wants_continue = wants_continue
        self.remaining = length

    @property
    def is_cut_off(self) -> bool:
        """Whether the client owes bytes of it, so that what comes next is no request."""
        return self.remaining > 0

    def open(self, limit_bytes: int) -> None:
        """Make `remaining` known, where the head does not tell it."""

    def read_into(self, view: memoryview) -> None:
        """Fill `view` with the next bytes; ProtocolError where the body is shorter."""
        if len(view) > self.remaining:
            raise ProtocolError(f"the body has {self.remaining} bytes left, but {len(view)} are needed")
        if self._wants_continue:
            self._continue()
        self._stream.read_into(view)
        self.remaining -= len(view)  # only now: after a read that failed, what comes next is no request

    def take(self, count: int) -> bytes:
        """Return the next bytes; ProtocolError where the body is shorter."""
        if count > self.remaining:
            raise ProtocolError(f"the body has {self.remaining} bytes left, but {count} are needed")
        if self._wants_continue:
            self._continue()
        data = self._stream.read(count)
        self.remaining -= count
        return data

    def _continue(self) -> None:
        if self._wants_continue:
            self._wants_continue = False
            self._stream.send([b"HTTP/1.1 100 Continue\r\n\r\n"])

    def read(self, limit_bytes: int) -> bytes:
        """Return the whole rest; HttpError 413 where it is larger than the limit."""
        self.open(limit_bytes)
        if self.remaining > limit_bytes:
            raise _too_large(self.remaining, limit_bytes)
        data = bytearray(self.remaining)
        self.read_into(memoryview(data))
        return bytes(data)

    def read_json(self, limit_bytes: int = 16 << 20) -> dict[str, Any]:
        """Return the whole rest as a JSON object; {} for an empty body."""
        data = self.read(limit_bytes)
        if not data:
            return {}
        try:
            value = json.loads(data)
        except (ValueError, RecursionError) as error:
            raise HttpError(f"the body is not JSON: {error}", status=400) from error
        if not isinstance(value, dict):
            raise HttpError("the body must be a JSON object", status=400)
        return value

    def discard(self, limit_bytes: int) -> bool:
        """Skip what no one read, so that the next request can follow; False where that is not worth it."""
        if not self.remaining:
            return True
        if self.remaining > limit_bytes or self._wants_continue:
            return False
        scratch = memoryview(bytearray(STEP_BYTES))
        while self.remaining:
            self.read_into(scratch[: min(self.remaining, STEP_BYTES)])
        return True


class PackedBody(Body):
    """A body in chunks or compressed: 0 bytes long until it is opened, and in memory from then on.

    Args:
        sent: The bytes as the client sends them; None where they come in chunks.
        coding: How they are compressed, "identity" where they are not.
    """

    def __init__(self, stream: Stream, sent: Body | None, coding: str, wants_continue: bool) -> None:
        super().__init__(stream, 0, wants_continue and sent is None)
        self._sent = sent
        self._coding = coding
        self._is_whole = False
        self._data = memoryview(b"")

    @property
    def is_cut_off(self) -> bool:
        """Whether the client owes bytes of it, so that what comes next is no request."""
        return not self._is_whole if self._sent is None else self._sent.is_cut_off

    def open(self, limit_bytes: int) -> None:
        """Take the body whole.

        Raises:
            HttpError: It is larger than the limit, compressed in a way that is not offered, or not as it says.
        """
        if self._is_whole:
            return
        limit_bytes = min(limit_bytes, MAX_UNPACKED_BYTES)
        if self._coding not in ("identity", *_WINDOW_BITS):
            raise HttpError(
                f"Content-Encoding {self._coding[:40]!r} is not offered; use {', '.join(_WINDOW_BITS)} or none",
                status=415,
            )
        data = self._read_chunks(limit_bytes) if self._sent is None else self._sent.read(limit_bytes)
        self._is_whole = True
        if self._coding != "identity":
            data = _inflate(data, self._coding, limit_bytes)
        self._data = memoryview(data)
        self.remaining = len(data)

    def read_into(self, view: memoryview) -> None:
        """Fill `view` with the next bytes; ProtocolError where the body is shorter."""
        if len(view) > self.remaining:
            raise ProtocolError(f"the body has {self.remaining} bytes left, but {len(view)} are needed")
        view[:] = self._data[: len(view)]
        self._data = self._data[len(view) :]
        self.remaining -= len(view)

    def take(self, count: int) -> bytes:
        """Return the next bytes; ProtocolError where the body is shorter."""
        data = bytearray(count)
        self.read_into(memoryview(data))
        return bytes(data)

    def discard(self, limit_bytes: int) -> bool:
        """Skip what no one read, so that the next request can follow; False where that is not worth it."""
        return self._is_whole if self._sent is None else self._sent.discard(limit_bytes)

    def _read_chunks(self, limit_bytes: int) -> bytearray:
        data = bytearray()
        self._continue()
        while size := self._chunk_size():
            if len(data) + size > limit_bytes:
                raise _too_large(len(data) + size, limit_bytes)
            while size:
                step = self._stream.read(min(size, STEP_BYTES))
                data += step
                size -= len(step)
            if self._line():
                raise HttpError("a chunk is longer than it says", status=400)
        for _ in range(MAX_TRAILERS):
            if not self._line():
                return data
        raise HttpError(f"the chunked body has more than {MAX_TRAILERS} trailers", status=431)

    def _chunk_size(self) -> int:
        line = self._line()
        digits = line.partition(b";")[0].strip()
        try:
            if not digits.isalnum() or len(digits) > 15:
                raise ValueError
            return int(digits, 16)
        except ValueError:
            raise HttpError(f"chunk size {line[:40]!r} is not hexadecimal", status=400) from None

    def _line(self) -> bytes:
        try:
            line = self._stream.read_head(MAX_CHUNK_LINE_BYTES, b"\r\n")
        except ConnectionLost:
            raise
        except ProtocolError as error:
            raise HttpError(f"a line of the chunked body: {error}", status=400) from error
        if line is None:
            raise ConnectionLost("the peer closed the connection in the middle of a chunked body")
        return line[:-2]


def body_of(request: Request, stream: Stream) -> Body:
    """Return the body that follows a request's head."""
    if request.is_packed:
        sent = None if request.is_chunked else Body(stream, request.content_length, request.wants_continue)
        return PackedBody(stream, sent, request.content_coding, request.wants_continue)
    return Body(stream, request.content_length, request.wants_continue)


def _too_large(num_bytes: int, limit_bytes: int) -> HttpError:
    return HttpError(f"the body of {num_bytes} bytes exceeds the limit of {limit_bytes}", status=413)


def _inflate(data: bytes | bytearray, coding: str, limit_bytes: int) -> bytearray:
    """Unpack a compressed body, never more of it than the limit: a kilobyte may stand for a megabyte."""
    unpacker = zlib.decompressobj(_WINDOW_BITS[coding])
    whole = bytearray()
    rest: bytes | bytearray = data
    try:
        while rest and not unpacker.eof:
            whole += unpacker.decompress(rest, STEP_BYTES)
            rest = unpacker.unconsumed_tail
            if len(whole) > limit_bytes:
                raise _too_large(len(whole), limit_bytes)
        while not unpacker.eof and (more := unpacker.decompress(b"", STEP_BYTES)):
            whole += more
    except zlib.error as error:
        raise HttpError(f"the body is not {coding}: {error}", status=400) from error
    if not unpacker.eof or unpacker.unused_data:
        raise HttpError(f"the {coding} body does not end where its data does", status=400)
    return whole
