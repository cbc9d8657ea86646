"""gRPC from clients that lie, stop, flood or send rubbish: each gets gRPC's or HTTP/2's own error, never a hang."""

from __future__ import annotations

import random
import zlib
from collections import Counter
from collections.abc import Iterator

import pytest

from elastic_inference.accelerator.doors.grpc import frames, messages
from elastic_inference.accelerator.doors.grpc.frames import Code, Kind
from elastic_inference.accelerator.doors.grpc.pace import QUICK_CALLS
from elastic_inference.protocol.status import GrpcCode
from tests.integration.hostile_support import Target, start_target
from tests.integration.raw_grpc import (
    INFER,
    PREFACE,
    STREAM_INFER,
    RawGrpc,
    assert_works,
    doubled,
    prefixed,
    request,
)

NUM_MESSAGES = 10_000
SEED = 20261127


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    with start_target(tmp_path_factory.mktemp("hostile")) as started:
        yield started


def test_a_right_request_is_answered(target: Target) -> None:
    assert_works(target)


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({"authorization": None}, GrpcCode.UNAUTHENTICATED),
        ({"authorization": "Bearer no"}, GrpcCode.UNAUTHENTICATED),
        ({"grpc_timeout": "soon"}, GrpcCode.INVALID_ARGUMENT),
        ({"grpc_timeout": "123456789S"}, GrpcCode.INVALID_ARGUMENT),
        ({"grpc_timeout": "1n"}, GrpcCode.DEADLINE_EXCEEDED),
    ],
)
def test_heads_that_cannot_be_served_have_a_status(
    target: Target, headers: dict[str, str | None], code: GrpcCode
) -> None:
    with RawGrpc(target) as client:
        assert client.call(request(target.model), **headers).status == code
        assert doubled(client.call(request(target.model))) == [2, 4, 6]


@pytest.mark.parametrize(
    "headers", [{"content_type": "text/plain"}, {"content_type": None}, {":method": "GET"}]
)
def test_what_is_not_grpc_is_told_so_by_http(target: Target, headers: dict[str, str | None]) -> None:
    with RawGrpc(target) as client:
        assert client.call(b"", **headers).headers[":status"] == "415"
        assert doubled(client.call(request(target.model))) == [2, 4, 6]


@pytest.mark.parametrize(
    ("payload", "code"),
    [
        (prefixed(b"x", length=100), GrpcCode.INVALID_ARGUMENT),
        (prefixed(b"x", compressed=7), GrpcCode.INVALID_ARGUMENT),
        (prefixed(b"x", compressed=1), GrpcCode.INVALID_ARGUMENT),
        (b"\0\0", GrpcCode.INVALID_ARGUMENT),
        (b"", GrpcCode.INVALID_ARGUMENT),
        (prefixed(b"") * 2, GrpcCode.INVALID_ARGUMENT),
        (prefixed(b"\xff" * 40), GrpcCode.INVALID_ARGUMENT),
        (prefixed(b"\x3a\xff\xff\xff\xff\x0f"), GrpcCode.INVALID_ARGUMENT),
        (prefixed(b"\x0b"), GrpcCode.INVALID_ARGUMENT),
        (prefixed(b""), GrpcCode.NOT_FOUND),
        (prefixed(b"\xfa\x3f\x03abc"), GrpcCode.NOT_FOUND),  # an unknown field, and no model
    ],
    ids=[
        "more than comes", "a strange flag", "compressed without a coding", "half a prefix", "nothing",
        "two messages", "no number ends", "a tensor beyond the message", "a group", "empty", "an unknown field",
    ],
)  # fmt: skip
def test_messages_that_lie_have_a_status(target: Target, payload: bytes, code: GrpcCode) -> None:
    with RawGrpc(target) as client:
        stream = client.open()
        client.data(stream, payload)
        assert client.read(stream).status == code
        assert doubled(client.call(request(target.model))) == [2, 4, 6]
    assert_works(target)


def test_the_longest_message_of_all_is_refused_as_soon_as_it_ends_early(target: Target) -> None:
    with RawGrpc(target) as client:
        stream = client.open()
        client.data(stream, prefixed(b"x" * 100_000, length=0xFFFFFFFF))
        assert client.read(stream).status in (GrpcCode.INVALID_ARGUMENT, GrpcCode.RESOURCE_EXHAUSTED)
    assert_works(target)


def test_unknown_fields_are_skipped(target: Target) -> None:
    with RawGrpc(target) as client:
        assert doubled(client.call(request(target.model) + b"\xfa\x3f\x03abc\xf8\x3f\x01")) == [2, 4, 6]


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"shape": [4]}, "needs 16 bytes, but 12 are given"),
        ({"shape": [-3]}, "shape of 'x'"),
        ({"shape": [1 << 62]}, "shape of 'x'"),
        ({"datatype": "INT99"}, "INT99"),
        ({"name": "z"}, "unexpected input 'z'"),
        ({"raw": []}, "comes with neither|does not make|needs 12 bytes"),
        ({"raw": [b"x" * 12] * 2}, "raw_input_contents has 2 entries"),
    ],
)
def test_tensors_that_do_not_agree_are_refused_by_name(
    target: Target, change: dict[str, object], text: str
) -> None:
    message = messages.message_class("inference.ModelInferRequest")(model_name=target.model)
    fields = {"name": "x", "datatype": "INT32", "shape": [3], **change}
    message.raw_input_contents.extend(fields.pop("raw", [bytes(12)]))
    message.inputs.add(**fields)
    with RawGrpc(target) as client:
        answer = client.call(message.SerializeToString())
    assert answer.status == GrpcCode.INVALID_ARGUMENT
    assert any(part in answer.text for part in text.split("|")), answer.text


def test_a_compressed_message_that_grows_without_end_is_refused(target: Target) -> None:
    bomb = zlib.compressobj(9, zlib.DEFLATED, 31)
    packed = b"".join(bomb.compress(bytes(1 << 24)) for _ in range(8)) + bomb.flush()
    with RawGrpc(target) as client:
        path = "/inference.GRPCInferenceService/ModelReady"
        stream = client.open(path, grpc_encoding="gzip")
        client.data(stream, prefixed(packed, compressed=1))
        assert client.read(stream).status == GrpcCode.RESOURCE_EXHAUSTED
    assert_works(target)


HEAD = b"\x83\x86\x84"  # POST / over http, from the static table
BROKEN: dict[str, tuple[bytes, Code]] = {
    "data of no stream": (frames.frame(Kind.DATA, 0, 0, b"x"), Code.PROTOCOL_ERROR),
    "data of a stream to come": (frames.frame(Kind.DATA, 0, 99, b"x"), Code.PROTOCOL_ERROR),
    "a server's stream": (frames.frame(Kind.HEADERS, 5, 2, HEAD), Code.PROTOCOL_ERROR),
    "headers that no table has": (frames.frame(Kind.HEADERS, 5, 1, b"\xff\xff\x7f"), Code.COMPRESSION_ERROR),
    "a header block broken off": (
        frames.frame(Kind.HEADERS, 0, 1, HEAD) + frames.frame(Kind.PING, 0, 0, bytes(8)),
        Code.PROTOCOL_ERROR,
    ),
    "a header block without end": (
        frames.frame(Kind.HEADERS, 0, 1, HEAD) + frames.frame(Kind.CONTINUATION, 0, 1, b"x" * 16_000) * 8,
        Code.ENHANCE_YOUR_CALM,
    ),
    "an endless empty header block": (
        frames.frame(Kind.HEADERS, 0, 1, HEAD) + frames.frame(Kind.CONTINUATION, 0, 1) * 3,
        Code.ENHANCE_YOUR_CALM,
    ),
    "padding beyond its frame": (frames.frame(Kind.HEADERS, 0xD, 1, b"\xff" + HEAD), Code.PROTOCOL_ERROR),
    "a continuation of nothing": (frames.frame(Kind.CONTINUATION, 4, 1, HEAD), Code.PROTOCOL_ERROR),
    "a promise": (frames.frame(Kind.PUSH_PROMISE, 4, 1, bytes(4)), Code.PROTOCOL_ERROR),
    "settings of 5 bytes": (frames.frame(Kind.SETTINGS, 0, 0, bytes(5)), Code.FRAME_SIZE_ERROR),
    "a huge frame of settings": (frames.frame(Kind.SETTINGS, 0, 0, bytes(60_000)), Code.FRAME_SIZE_ERROR),
    "a frame size of 1": (frames.settings({5: 1}), Code.PROTOCOL_ERROR),
    "a window of 4 GiB": (frames.settings({4: 0xFFFFFFFF}), Code.FLOW_CONTROL_ERROR),
    "a window that grows too far": (frames.window_update(0, (1 << 31) - 1), Code.FLOW_CONTROL_ERROR),
    "a window that grows by nothing": (frames.window_update(0, 0), Code.PROTOCOL_ERROR),
    "a ping of 3 bytes": (frames.frame(Kind.PING, 0, 0, b"abc"), Code.FRAME_SIZE_ERROR),
    "a reset of nothing": (frames.frame(Kind.RST_STREAM, 0, 0, bytes(4)), Code.FRAME_SIZE_ERROR),
}


@pytest.mark.parametrize("name", BROKEN)
def test_frames_that_break_http2_end_the_connection_with_its_code(target: Target, name: str) -> None:
    sent, code = BROKEN[name]
    with RawGrpc(target) as client:
        client.send(sent)
        answer = client.read(0)
        assert answer.is_closed
        assert answer.goaway is not None
        assert answer.goaway[0] == code, answer.goaway
    assert_works(target)


@pytest.mark.parametrize("preface", [PREFACE[:18] + b"XX\r\n\r\n", PREFACE[:18] + bytes(6)])
def test_half_a_preface_is_hung_up_on(target: Target, preface: bytes) -> None:
    with RawGrpc(target, preface=preface) as client:
        assert client.read(1).is_closed
    assert_works(target)


def test_data_that_nobody_wants_any_more_is_skipped(target: Target) -> None:
    with RawGrpc(target) as client:
        stream = client.open(STREAM_INFER)
        client.data(stream, prefixed(b"", compressed=9) + bytes(1 << 20), ends=False)
        for _ in range(12):  # what the window allows
            client.data(stream, bytes(1 << 20), ends=False)
        assert client.read(stream).status == GrpcCode.INVALID_ARGUMENT
        assert doubled(client.call(request(target.model))) == [2, 4, 6]
    assert_works(target)


def test_more_empty_messages_than_anybody_answers_have_a_status(target: Target) -> None:
    with RawGrpc(target) as client:
        stream = client.open(STREAM_INFER)
        client.data(stream, prefixed(b"") * 1_000_000, ends=False)
        answer = client.read(stream)
    assert answer.status == GrpcCode.RESOURCE_EXHAUSTED
    assert_works(target)


def test_streams_beyond_the_limit_are_refused_and_the_rest_served(target: Target) -> None:
    with RawGrpc(target) as client:
        streams = [client.open() for _ in range(70)]
        assert client.read(streams[-1]).reset == Code.REFUSED_STREAM
        client.data(streams[0], prefixed(request(target.model)))
        assert doubled(client.read(streams[0])) == [2, 4, 6]
    assert_works(target)


def test_calls_that_are_begun_and_taken_back_cost_nothing(target: Target) -> None:
    with RawGrpc(target) as client:
        for _ in range(2000):
            stream = client.open()
            client.send(frames.rst_stream(stream, Code.CANCEL))
        assert doubled(client.call(request(target.model))) == [2, 4, 6]
    assert_works(target)


def test_a_client_that_takes_its_answer_slowly_gets_all_of_it(target: Target) -> None:
    values = tuple(range(2000))
    with RawGrpc(target, window=100) as client:
        stream = client.open()
        client.data(stream, prefixed(request(target.model, values)))
        for _ in range(80):
            client.send(frames.window_update(stream, 101))
        assert doubled(client.read(stream)) == [2 * value for value in values]


def test_a_message_in_many_small_padded_frames_is_whole(target: Target) -> None:
    payload = prefixed(request(target.model))
    with RawGrpc(target) as client:
        stream = client.open()
        for place in range(len(payload)):
            padded = bytes([3]) + payload[place : place + 1] + bytes(3)
            client.send(frames.frame(Kind.DATA, frames.PADDED, stream, padded))
            client.send(frames.frame(0xBB, 0xFF, stream, b"unknown"))
        client.send(frames.frame(Kind.DATA, frames.END_STREAM, stream))
        assert doubled(client.read(stream)) == [2, 4, 6]


def test_quick_calls_that_arrive_at_once_are_all_answered_whatever_comes_behind_them(target: Target) -> None:
    with RawGrpc(target) as client:
        for _ in range(
            2 * QUICK_CALLS
        ):  # from then on the thread that reads may run them, and gather answers
            assert doubled(client.call(request(target.model))) == [2, 4, 6]
        for num_more in (0, 1, 5, 30):  # bytes of a further request, which goes on once all else is answered
            wire, streams = b"", []
            for number in range(40):
                stream = client.next_stream()
                streams.append(stream)
                message = prefixed(request(target.model, [number, 1, 2]))
                wire += frames.frame(Kind.HEADERS, frames.END_HEADERS, stream, client.head())
                wire += frames.frame(Kind.DATA, frames.END_STREAM, stream, message)
            stream = client.next_stream()
            last = frames.frame(Kind.HEADERS, frames.END_HEADERS, stream, client.head())
            last += frames.frame(Kind.DATA, frames.END_STREAM, stream, prefixed(request(target.model)))
            client.send(wire + last[:num_more])
            answers = client.read_all(streams)
            assert [doubled(answers[one])[0] for one in streams] == [2 * number for number in range(40)]
            client.send(last[num_more:])
            assert doubled(client.read(stream)) == [2, 4, 6]


def test_a_refusal_between_quick_calls_keeps_its_place(target: Target) -> None:
    with RawGrpc(target) as client:
        for _ in range(2 * QUICK_CALLS):
            client.call(request(target.model))
        wire, streams = b"", []
        for message in (request(target.model), b"rubbish", request("nothing"), request(target.model)):
            stream = client.next_stream()
            streams.append(stream)
            wire += frames.frame(Kind.HEADERS, frames.END_HEADERS, stream, client.head())
            wire += frames.frame(Kind.DATA, frames.END_STREAM, stream, prefixed(message))
        client.send(wire)
        answers = client.read_all(streams)
        assert [answers[stream].status for stream in streams] == [
            GrpcCode.OK,
            GrpcCode.INVALID_ARGUMENT,
            GrpcCode.NOT_FOUND,
            GrpcCode.OK,
        ]


def test_a_client_that_leaves_in_the_middle_is_forgotten(target: Target) -> None:
    for path in (INFER, STREAM_INFER):
        with RawGrpc(target) as client:
            client.data(client.open(path), prefixed(b"x" * 10, length=50_000_000), ends=False)
    assert_works(target)


def test_a_stream_that_ends_in_the_middle_of_a_message_has_a_status(target: Target) -> None:
    with RawGrpc(target) as client:
        stream = client.open(STREAM_INFER)
        client.data(stream, prefixed(request(target.model)), ends=False)
        client.data(stream, prefixed(b"x", length=10))
        answer = client.read(stream)
    assert answer.status == GrpcCode.INVALID_ARGUMENT
    assert answer.data  # the first was answered


def _mutated(rng: random.Random, data: bytes) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.randrange(1, 6)):
        place = rng.randrange(len(changed) + 1)
        match rng.randrange(4):
            case 0 if place < len(changed):
                changed[place] = rng.randrange(256)
            case 1:
                changed[place:place] = rng.randbytes(rng.randrange(1, 9))
            case 2:
                del changed[place : place + rng.randrange(1, 9)]
            case _:
                changed[place:place] = changed[: rng.randrange(1, 9)]
    return bytes(changed)


def test_ten_thousand_random_messages(target: Target) -> None:
    rng = random.Random(SEED)
    right = request(target.model)
    paths = [
        f"/inference.GRPCInferenceService/{name}"
        for name in (
            "ModelInfer",
            "ModelStreamInfer",
            "ModelMetadata",
            "RepositoryIndex",
            "TraceSetting",
            "LogSettings",
        )
    ]
    statuses: Counter[int | None] = Counter()
    client = RawGrpc(target)
    try:
        for _ in range(NUM_MESSAGES):
            message = rng.randbytes(rng.randrange(60)) if rng.random() < 0.2 else _mutated(rng, right)
            payload = prefixed(message)
            if rng.random() < 0.05:
                payload = _mutated(rng, payload)
            stream = client.open(rng.choice(paths))
            client.data(stream, payload)
            answer = client.read(stream)
            assert not answer.is_closed, (message, answer)
            statuses[answer.status] += 1
    finally:
        client.__exit__()
    assert statuses[GrpcCode.OK] > 100
    assert statuses[GrpcCode.INVALID_ARGUMENT] > 1000
    assert statuses[GrpcCode.INTERNAL] == 0, statuses
    assert_works(target)


def test_random_frames_never_hang_the_accelerator(target: Target) -> None:
    rng = random.Random(SEED)
    for _ in range(500):
        with RawGrpc(target) as client:
            right = frames.frame(Kind.HEADERS, 4, 1, client.head()) + frames.frame(
                Kind.DATA, 1, 1, prefixed(request(target.model))
            )
            client.send(_mutated(rng, right) if rng.random() < 0.8 else rng.randbytes(rng.randrange(200)))
            client.socket.shutdown(1)  # no more will come, so no frame can be waited for
            client.read(1)
    assert_works(target)
