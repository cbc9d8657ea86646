"""A gRPC client that sends any bytes: frames written by hand, answers read as they come."""

from __future__ import annotations

import socket
import struct
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from urllib.parse import unquote

import hpack

from elastic_inference.accelerator.doors.grpc import frames, messages
from elastic_inference.accelerator.doors.grpc.frames import Kind
from tests.integration.hostile_support import REPLY_SECONDS, Target

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
INFER = "/inference.GRPCInferenceService/ModelInfer"
STREAM_INFER = "/inference.GRPCInferenceService/ModelStreamInfer"


@dataclass
class GrpcAnswer:
    """What came on one stream: headers and trailers together, and the bytes of the messages."""

    headers: dict[str, str] = field(default_factory=dict)
    data: bytes = b""
    reset: int | None = None
    goaway: tuple[int, str] | None = None
    is_closed: bool = False

    @property
    def status(self) -> int | None:
        """gRPC's code, None where none came."""
        text = self.headers.get("grpc-status")
        return None if text is None else int(text)

    @property
    def text(self) -> str:
        """What the status says."""
        return unquote(self.headers.get("grpc-message", ""))


class RawGrpc:
    """One connection; `window` is what the accelerator may send of each stream."""

    def __init__(self, target: Target, window: int = 1 << 30, preface: bytes = PREFACE) -> None:
        host, port = target.address.removeprefix("tcp:").rsplit(":", 1)
        self.socket = socket.create_connection((host, int(port)), timeout=REPLY_SECONDS)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._reader = self.socket.makefile("rb")
        self._encoder, self._decoder = hpack.Encoder(), hpack.Decoder()
        self._token = target.token
        self._next = 1
        settings = frames.settings({4: window, 5: frames.MAX_FRAME_BYTES})
        self.send(preface + settings + frames.window_update(0, 1 << 30))

    def __enter__(self) -> RawGrpc:
        return self

    def __exit__(self, *_: object) -> None:
        self._reader.close()
        self.socket.close()

    def send(self, data: bytes) -> None:
        """Send; an accelerator that has hung up already is fine, its answer tells why."""
        with suppress(BrokenPipeError, ConnectionResetError):
            self.socket.sendall(data)

    def open(self, path: str = INFER, flags: int = frames.END_HEADERS, **headers: str | None) -> int:
        """Begin a call; `headers` replace and add (`_` for `-`), a value of None takes one away."""
        stream = self.next_stream()
        self.send(frames.frame(Kind.HEADERS, flags, stream, self.head(path, headers)))
        return stream

    def next_stream(self) -> int:
        """The number of the next call."""
        stream, self._next = self._next, self._next + 2
        return stream

    def head(self, path: str = INFER, headers: Mapping[str, str | None] | None = None) -> bytes:
        """The header block of a call."""
        fields: dict[str, str | None] = {
            ":method": "POST",
            ":scheme": "http",
            ":path": path,
            ":authority": "localhost",
            "te": "trailers",
            "content-type": "application/grpc",
            "authorization": f"Bearer {self._token}",
        }
        fields |= {name.replace("_", "-"): value for name, value in (headers or {}).items()}
        return self._encoder.encode([(name, value) for name, value in fields.items() if value is not None])

    def data(self, stream: int, payload: bytes, *, ends: bool = True) -> None:
        """Send bytes of a call as they are."""
        self.send(frames.frame(Kind.DATA, frames.END_STREAM if ends else 0, stream, payload))

    def call(self, message: bytes, path: str = INFER, **headers: str | None) -> GrpcAnswer:
        """A whole call with one message, and its answer."""
        stream = self.open(path, **headers)
        self.data(stream, prefixed(message))
        return self.read(stream)

    def read(self, stream: int) -> GrpcAnswer:
        """Read until a stream or the connection ends; TimeoutError where nothing comes."""
        return self.read_all([stream])[stream]

    def read_all(self, streams: Sequence[int]) -> dict[int, GrpcAnswer]:
        """Read until all of these streams, or the connection, have ended; TimeoutError where nothing comes."""
        answers = {stream: GrpcAnswer() for stream in streams}
        left = set(streams)
        while left:
            frame = self._read_frame()
            if frame is None:
                for stream in left:
                    answers[stream].is_closed = True
                break
            kind, flags, of, payload = frame
            if kind == Kind.GOAWAY:
                for stream in left:
                    answers[stream].goaway = (frames.number(payload[4:8]), payload[8:].decode())
            decoded = self._decoder.decode(payload) if kind == Kind.HEADERS else []
            if of not in left:
                continue
            answer = answers[of]
            answer.headers |= {str(name): str(value) for name, value in decoded}
            if kind == Kind.DATA:
                answer.data += payload
            if kind == Kind.RST_STREAM:
                answer.reset = frames.number(payload)
            if kind == Kind.RST_STREAM or (flags & frames.END_STREAM and kind in (Kind.DATA, Kind.HEADERS)):
                left.discard(of)
        return answers

    def _read_frame(self) -> tuple[int, int, int, bytes] | None:
        """Read type, flags, stream and payload of a frame; None where the connection has ended."""
        try:
            head = self._reader.read(frames.HEAD_BYTES)
            if len(head) < frames.HEAD_BYTES:
                return None
            length, kind, flags, of = frames.parse_head(head)
            return kind, flags, of, self._reader.read(length)
        except ConnectionResetError:
            return None


def prefixed(message: bytes, compressed: int = 0, length: int | None = None) -> bytes:
    """A message with gRPC's five bytes before it, which may lie."""
    return struct.pack(">BI", compressed, len(message) if length is None else length) + message


def request(model: str, values: Sequence[int] = (1, 2, 3)) -> bytes:
    """A right request for the model that doubles."""
    message = messages.message_class("inference.ModelInferRequest")(model_name=model)
    message.inputs.add(name="x", datatype="INT32", shape=[len(values)])
    message.raw_input_contents.append(b"".join(value.to_bytes(4, "little") for value in values))
    return bytes(message.SerializeToString())


def doubled(answer: GrpcAnswer) -> list[int]:
    """The values in the answer to a right request."""
    assert answer.status == 0, answer
    response = messages.parse("inference.ModelInferResponse", answer.data[5:])
    raw = response.raw_output_contents[0]
    return [int.from_bytes(raw[i : i + 4], "little") for i in range(0, len(raw), 4)]


def assert_works(target: Target) -> None:
    """It is the same process, and answers right requests of both doors rightly."""
    target.assert_works()
    with RawGrpc(target) as client:
        assert doubled(client.call(request(target.model))) == [2, 4, 6]
