"""Tensors beyond 2 GiB over HTTP, and as much as a gRPC client's library can say in one message, both ways."""

from __future__ import annotations

import json
import socket
import struct
from collections.abc import Iterator
from typing import BinaryIO

import psutil
import pytest

from elastic_inference import EIPredictor
from elastic_inference.accelerator.doors.grpc import frames, messages
from elastic_inference.accelerator.doors.grpc.frames import Kind
from elastic_inference.testing import RunningAccelerator, start_accelerator, write_model
from tests.integration.hostile_support import Target
from tests.integration.raw_grpc import RawGrpc

HTTP_BYTES = 2362 << 20
GRPC_BYTES = (2 << 30) - (1 << 20)  # protobuf's libraries read messages of less than 2 GiB
PIECE = bytes(range(251)) * (
    (8 << 20) // 251
)  # a length that no page divides, so that a shifted answer differs
TWICE = memoryview(PIECE * 2)
WAIT_SECONDS = 240.0
_RAW_INPUT = bytes([7 << 3 | 2])  # the key of ModelInferRequest.raw_input_contents

pytestmark = pytest.mark.skipif(
    psutil.virtual_memory().available < 8 << 30, reason="needs 8 GiB of free memory"
)


@pytest.fixture(scope="module")
def accelerator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningAccelerator]:
    tensor = {"x": ("uint8", (None, None))}
    model = write_model(tmp_path_factory.mktemp("huge") / "echo.testing", tensor, tensor)
    with (
        start_accelerator() as started,
        EIPredictor(str(model), address=started.address, token=started.token, name="echo"),
    ):
        yield started


def pieces(size: int) -> Iterator[memoryview]:
    """The tensor, which nobody has in memory."""
    whole, rest = divmod(size, len(PIECE))
    for _ in range(whole):
        yield memoryview(PIECE)
    yield memoryview(PIECE)[:rest]


def check(reader: Iterator[bytes], size: int) -> None:
    """Compare what comes with the tensor."""
    position = 0
    for data in reader:
        start = position % len(PIECE)
        assert data == TWICE[start : start + len(data)], (
            f"differs within {len(data)} bytes from {position} on"
        )
        position += len(data)
    assert position == size


@pytest.mark.timeout(600)
def test_http_takes_and_gives_more_than_2_gib(accelerator: RunningAccelerator) -> None:
    host, port = accelerator.address.removeprefix("tcp:").rsplit(":", 1)
    text = json.dumps(
        {
            "inputs": [
                {
                    "name": "x",
                    "datatype": "UINT8",
                    "shape": [1, HTTP_BYTES],
                    "parameters": {"binary_data_size": HTTP_BYTES},
                }
            ],
            "parameters": {"binary_data_output": True},
        }
    ).encode()
    with socket.create_connection((host, int(port)), timeout=WAIT_SECONDS) as sock:
        sock.sendall(
            f"POST /v2/models/echo/infer HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {accelerator.token}\r\n"
            f"Content-Length: {len(text) + HTTP_BYTES}\r\n"
            f"Inference-Header-Content-Length: {len(text)}\r\n\r\n".encode()
            + text
        )
        for piece in pieces(HTTP_BYTES):
            sock.sendall(piece)
        with sock.makefile("rb") as answer:
            assert b"200" in answer.readline()
            headers = dict(
                line.decode().strip().lower().split(": ", 1) for line in iter(answer.readline, b"\r\n")
            )
            head = json.loads(answer.read(int(headers["inference-header-content-length"])))
            assert head["outputs"][0]["shape"] == [1, HTTP_BYTES]
            check(_read(answer, HTTP_BYTES), HTTP_BYTES)


@pytest.mark.timeout(600)
def test_grpc_takes_and_gives_2_gib(accelerator: RunningAccelerator) -> None:
    request = messages.message_class("inference.ModelInferRequest")(model_name="echo")
    request.inputs.add(name="x", datatype="UINT8", shape=[1, GRPC_BYTES])
    head = request.SerializeToString() + _RAW_INPUT + _varint(GRPC_BYTES)
    target = Target(accelerator.address, accelerator.token, accelerator.pid, "echo")
    with RawGrpc(target, window=frames.MAX_WINDOW_BYTES) as client:
        client.socket.settimeout(WAIT_SECONDS)
        client.send(frames.window_update(0, (1 << 30) - (1 << 17)))
        stream = client.open()
        client.data(stream, struct.pack(">BI", 0, len(head) + GRPC_BYTES) + head, ends=False)
        with client.socket.makefile("rb") as answer:
            # Once it knows how long the message is, it lets all of it be sent.
            while next(kind for kind, of, _ in frames_of(answer) if of == stream) != Kind.WINDOW_UPDATE:
                pass
            for piece in pieces(GRPC_BYTES):
                client.socket.sendall(frames.head(len(piece), Kind.DATA, 0, stream))
                client.socket.sendall(piece)
            client.data(stream, b"")
            check(tensor_of(answer, stream), GRPC_BYTES)


def frames_of(answer: BinaryIO) -> Iterator[tuple[int, int, bytes]]:
    """Kind, stream and payload of each frame that comes."""
    while True:
        length, kind, _, stream = frames.parse_head(answer.read(frames.HEAD_BYTES))
        yield kind, stream, answer.read(length)


def tensor_of(answer: BinaryIO, stream: int) -> Iterator[bytes]:
    """The bytes of the answer's only tensor, which stands at its end."""
    left = -1
    for kind, of, data in frames_of(answer):
        if of != stream or kind != Kind.DATA:
            assert kind != Kind.RST_STREAM
            continue
        if left < 0:
            _, size = struct.unpack(">BI", data[:5])
            data, left = data[5 + size - GRPC_BYTES :], GRPC_BYTES
        yield data
        left -= len(data)
        if left == 0:
            return


def _read(answer: BinaryIO, size: int) -> Iterator[bytes]:
    while size:
        data = answer.read(min(size, 1 << 20))
        assert data, f"the answer ends {size} bytes early"
        size -= len(data)
        yield data


def _varint(number: int) -> bytes:
    digits = bytearray()
    while number >= 128:
        digits.append(number & 127 | 128)
        number >>= 7
    return bytes([*digits, number])
