"""Connections that misbehave: slow, half-open, cut, many at once, several requests in one packet."""

from __future__ import annotations

import contextlib
import json
import socket
import struct
from collections.abc import Iterator

import pytest

from tests.integration.hostile_support import Target, doubled, error_text, start_target


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    with start_target(tmp_path_factory.mktemp("hostile")) as started:
        yield started


def test_connections_that_stop_in_a_head_do_not_block_others(target: Target) -> None:
    with contextlib.ExitStack() as stack:
        for _ in range(60):
            stack.enter_context(target.connect()).send(target.valid()[:50])
        for _ in range(20):
            target.assert_works()


def test_connections_that_stop_in_a_body_do_not_block_others(target: Target) -> None:
    with contextlib.ExitStack() as stack:
        for _ in range(60):
            stack.enter_context(target.connect()).send(target.valid()[:-6])
        for _ in range(20):
            target.assert_works()


def test_a_request_that_comes_byte_by_byte_is_answered(target: Target) -> None:
    with target.connect() as connection:
        connection.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in target.valid():
            connection.send(bytes([byte]))
        assert doubled(connection.read()) == [2, 4, 6]


def test_requests_in_one_packet_are_answered_in_order(target: Target) -> None:
    requests = [target.valid((i, i + 1, -i)) for i in range(50)]
    with target.connect() as connection:
        connection.send(b"".join(requests))
        for i in range(50):
            assert doubled(connection.read()) == [2 * i, 2 * i + 2, -2 * i]


def test_a_refused_request_leaves_the_connection_in_step_or_closed(target: Target) -> None:
    wrong = target.infer(json.dumps({"inputs": []}).encode() + bytes(1000), 14)
    with target.connect() as connection:
        connection.send(wrong + target.valid())
        refused = connection.read()
        assert refused is not None
        assert error_text(refused)
        following = connection.read()
        assert following is None or doubled(following) == [2, 4, 6]


def test_a_body_behind_an_unknown_path_is_not_taken_for_a_request(target: Target) -> None:
    inner = target.valid()
    with target.connect() as connection:
        head = target.head("POST", "/v2/nothing", {"Content-Length": len(inner)})
        connection.send(head + inner + target.valid((5, 6, 7)))
        refused = connection.read()
        assert refused is not None
        assert refused.status == 404
        following = connection.read()
        assert following is None or doubled(following) == [10, 12, 14]


def test_clients_that_reset_in_the_middle_hurt_nobody(target: Target) -> None:
    for cut in range(1, len(target.valid()), 7):
        with target.connect() as connection:
            connection.send(target.valid()[:cut])
            linger = struct.pack("ii", 1, 0)  # close sends a reset
            connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    target.assert_works()


def test_clients_that_leave_before_the_answer_hurt_nobody(target: Target) -> None:
    for _ in range(50):
        with target.connect() as connection:
            connection.send(target.valid())
    target.assert_works()


def test_a_client_that_does_not_read_its_answers_hurts_nobody(target: Target) -> None:
    with target.connect() as connection:
        connection.socket.settimeout(0.5)
        with contextlib.suppress(TimeoutError):  # the server stops reading when its answers are not taken
            for _ in range(20_000):
                connection.socket.sendall(target.head("GET", "/v2"))
        target.assert_works()


def test_many_connections_at_once_are_each_answered(target: Target) -> None:
    with contextlib.ExitStack() as stack:
        connections = [stack.enter_context(target.connect()) for _ in range(200)]
        for index, connection in enumerate(connections):
            connection.send(target.valid((index, 0, 1)))
        for index, connection in enumerate(connections):
            assert doubled(connection.read()) == [2 * index, 0, 2]


def test_a_connection_is_kept_for_the_next_request(target: Target) -> None:
    with target.connect() as connection:
        for i in range(20):
            connection.send(target.valid((i, 0, 0)))
            assert doubled(connection.read()) == [2 * i, 0, 0]


def test_a_connection_is_closed_when_the_client_asks_for_it(target: Target) -> None:
    with target.connect() as connection:
        connection.send(target.head("GET", "/v2", {"Connection": "close"}))
        answer = connection.read("GET")
        assert answer is not None
        assert answer.closes
        assert connection.is_closed()
