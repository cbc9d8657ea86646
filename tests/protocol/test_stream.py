"""Bytes over a socket: heads and bodies however they are cut, deadlines that drips do not stretch, partial sends."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from elastic_inference.errors import ConnectionLost, DeadlineExceeded, ProtocolError
from elastic_inference.protocol.stream import BUFFER_BYTES, MAX_VIEWS, Stream
from elastic_inference.protocol.tls import client_context, server_context
from tests.accelerator.test_process import write_certificate

Pair = tuple[Stream, socket.socket]


@pytest.fixture(params=["unix", "tcp"])
def pair(request: pytest.FixtureRequest) -> Iterator[Pair]:
    """A stream and the raw socket at its other end."""
    if request.param == "unix":
        ours, theirs = socket.socketpair()
    else:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            theirs = socket.create_connection(listener.getsockname())
            ours, _ = listener.accept()
    theirs.settimeout(30)
    stream = Stream(ours)
    stream.set_timeout(30.0)
    yield stream, theirs
    theirs.close()
    stream.close()
    stream.close()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
@given(st.lists(st.tuples(st.binary(max_size=300), st.integers(0, 200_000)), max_size=4), st.data())
def test_messages_are_read_however_they_are_cut(
    pair: Pair, messages: list[tuple[bytes, int]], data: st.DataObject
) -> None:
    stream, theirs = pair
    heads = [head.replace(b"\r", b".") + b"\r\n\r\n" for head, _ in messages]
    bodies = [bytes([index]) * size for index, (_, size) in enumerate(messages)]
    everything = b"".join(head + body for head, body in zip(heads, bodies, strict=True))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(everything)), max_size=5)))
    parts = [everything[a:b] for a, b in zip([0, *cuts], [*cuts, len(everything)], strict=True)]
    sender = threading.Thread(target=lambda: [theirs.sendall(part) for part in parts])
    sender.start()
    for head, body in zip(heads, bodies, strict=True):
        assert stream.read_head() == head
        received = bytearray(len(body))
        stream.read_into(memoryview(received))
        assert received == body
    sender.join(30)
    assert stream.num_buffered == 0


def test_views_are_sent_whole_though_the_kernel_takes_them_in_parts(pair: Pair) -> None:
    stream, theirs = pair
    views: list[bytes | memoryview] = [
        b"",
        b"head",
        memoryview(bytearray(8_000_000)),
        b"",
        *[b"x"] * (3 * MAX_VIEWS),
    ]
    received = bytearray()
    total = sum(len(view) for view in views)

    def receive() -> None:
        while len(received) < total and (part := theirs.recv(100_000)):
            received.extend(part)

    receiver = threading.Thread(target=receive)
    receiver.start()
    stream.send(views)
    receiver.join(30)
    assert bytes(received) == b"".join(views)


def test_a_peer_that_closes_between_messages_is_no_error(pair: Pair) -> None:
    stream, theirs = pair
    theirs.close()
    assert not stream.wait()
    assert stream.read_head() is None


def test_a_peer_that_closes_in_the_middle_is_an_error(pair: Pair) -> None:
    stream, theirs = pair
    theirs.sendall(b"GET / HT")
    theirs.shutdown(socket.SHUT_WR)
    with pytest.raises(ConnectionLost, match="middle"):
        stream.read_head()


def test_a_body_that_is_cut_says_how_much_is_missing(pair: Pair) -> None:
    stream, theirs = pair
    theirs.sendall(bytes(60))
    theirs.shutdown(socket.SHUT_WR)
    with pytest.raises(ConnectionLost, match="40 bytes early"):
        stream.read(100)


@pytest.mark.parametrize("limit", [100, BUFFER_BYTES])
def test_a_head_without_end_is_refused(pair: Pair, limit: int) -> None:
    stream, theirs = pair
    theirs.sendall(b"a" * limit)
    with pytest.raises(ProtocolError, match=f"longer than {limit}"):
        stream.read_head(limit)


def test_a_peer_that_drips_does_not_stretch_the_deadline(pair: Pair) -> None:
    stream, theirs = pair
    has_ended = threading.Event()

    def drip() -> None:
        while not has_ended.wait(0.005):
            theirs.sendall(b"x")

    dripping = threading.Thread(target=drip)
    dripping.start()
    try:
        stream.set_timeout(0.1)
        with pytest.raises(DeadlineExceeded):
            stream.read_head()
        stream.set_timeout(0.1)
        with pytest.raises(DeadlineExceeded):
            stream.read(1_000_000)
    finally:
        has_ended.set()
        dripping.join(30)


def test_a_peer_that_does_not_read_ends_a_send_at_the_deadline(pair: Pair) -> None:
    stream, _ = pair
    stream.set_timeout(0.05)
    with pytest.raises(DeadlineExceeded):
        stream.send([bytes(50_000_000)])


def test_each_message_has_its_own_deadline(pair: Pair) -> None:
    stream, theirs = pair
    stream.set_timeout(0.02)
    with pytest.raises(DeadlineExceeded):
        stream.wait()
    for timeout_seconds in (30.0, 3600.0, None, 5.0):
        stream.set_timeout(timeout_seconds)
        theirs.sendall(b"a\r\n\r\n")
        assert stream.read_head() == b"a\r\n\r\n"


@pytest.mark.parametrize("before_seconds", [None, 3600.0])
def test_a_short_bound_after_a_long_one_holds_in_the_kernel_too(
    pair: Pair, before_seconds: float | None
) -> None:
    stream, theirs = pair
    stream.set_timeout(before_seconds)
    theirs.sendall(b"a\r\n\r\n")
    assert stream.read_head() == b"a\r\n\r\n"
    stream.set_timeout(0.02)
    too_late = threading.Timer(5.0, theirs.sendall, [b"x"])
    too_late.start()
    try:
        with pytest.raises(DeadlineExceeded):
            stream.wait()
    finally:
        too_late.cancel()
        too_late.join(30)


def kernel_bounds(stream: Stream) -> list[tuple[int, int]]:
    """Seconds and microseconds after which the kernel ends a receive and a send; zeros for never."""
    return [
        struct.unpack("@ll", stream.sock.getsockopt(socket.SOL_SOCKET, option, 16))
        for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO)
    ]


@pytest.mark.parametrize("after_seconds", [None, 3600.0])
def test_a_long_bound_after_a_short_one_does_not_wake_for_nothing(
    pair: Pair, after_seconds: float | None
) -> None:
    stream, theirs = pair
    stream.set_timeout(0.02)
    with pytest.raises(DeadlineExceeded):
        stream.wait()
    stream.set_timeout(after_seconds)
    theirs.sendall(b"x")
    assert stream.wait()
    for seconds, microseconds in kernel_bounds(stream):
        assert (seconds, microseconds) == (0, 0) if after_seconds is None else 3500 < seconds <= 3600


def test_a_bound_of_less_than_a_microsecond_is_not_none_at_all(pair: Pair) -> None:
    stream, _ = pair
    stream._set_socket_timeout(1e-9)
    assert (0, 0) not in kernel_bounds(stream)


def test_bounds_of_about_the_same_length_cost_no_system_call(pair: Pair) -> None:
    stream, theirs = pair
    stream.set_timeout(30.0)
    theirs.sendall(b"x")
    stream.wait()
    before = kernel_bounds(stream)
    for timeout_seconds in (29.0, 60.0, 1800.0):
        stream.set_timeout(timeout_seconds)
        theirs.sendall(b"x")
        stream.read(2)
        assert kernel_bounds(stream) == before
        theirs.sendall(b"x")


def test_hanging_up_lets_the_peer_read_the_last_answer(pair: Pair) -> None:
    stream, theirs = pair
    theirs.sendall(bytes(100_000))  # which nobody reads
    stream.send([b"refused"])
    theirs.shutdown(socket.SHUT_WR)
    stream.hang_up(30.0)
    stream.close()
    assert theirs.recv(100) == b"refused"
    assert theirs.recv(100) == b""


def test_a_connection_that_is_reset_is_lost(pair: Pair) -> None:
    stream, theirs = pair
    theirs.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    stream.send([b"never read"])
    theirs.close()
    with pytest.raises(ConnectionLost, match="broke while receiving"):
        stream.read_head()


@pytest.fixture
def tls_pair(tmp_path: Path) -> Iterator[tuple[Stream, Stream]]:
    """Two streams of one TLS connection, each with a bound of 30 s."""
    certificate, key = write_certificate(tmp_path)
    sockets = socket.socketpair()
    server, client = server_context(str(certificate), str(key), None), client_context(str(certificate))
    with ThreadPoolExecutor(1) as thread:
        accepted = thread.submit(server.wrap_socket, sockets[0], server_side=True)
        ours = Stream(client.wrap_socket(sockets[1], server_hostname="127.0.0.1"))
        theirs = Stream(accepted.result(30))
    for stream in (ours, theirs):
        stream.set_timeout(30.0)
    yield ours, theirs
    ours.close()
    theirs.close()


def test_views_of_all_sizes_arrive_in_order_over_tls(tls_pair: tuple[Stream, Stream]) -> None:
    ours, theirs = tls_pair
    large = bytes(range(256)) * (BUFFER_BYTES // 128)
    for views in ([b"a"], [b"a", large], [large, b"a"], [b"a", b"b", large, b"", large, b"c"], [large]):
        whole = b"".join(views)
        with ThreadPoolExecutor(1) as thread:
            received = thread.submit(theirs.read, len(whole))
            ours.send([memoryview(view) for view in views])
            assert received.result(30) == whole


def test_bounds_hold_over_tls(tls_pair: tuple[Stream, Stream]) -> None:
    ours, theirs = tls_pair
    ours.set_timeout(0.02)
    with pytest.raises(DeadlineExceeded):
        ours.read_head()
    ours.set_timeout(0.05)
    with pytest.raises(DeadlineExceeded):
        ours.send([bytes(50_000_000)])
    ours.set_timeout(30.0)
    theirs.send([b"still there\r\n\r\n"])
    assert ours.read_head() == b"still there\r\n\r\n"
