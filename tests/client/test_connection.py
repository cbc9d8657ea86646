"""Connections: lent and given back, and what the client makes of servers that answer wrongly, late or not at all."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from elastic_inference.client.connection import Address, Connection, ConnectionPool
from elastic_inference.deadline import Cancellation, Deadline
from elastic_inference.errors import (
    ConnectionLost,
    DeadlineExceeded,
    InvalidInput,
    MemoryQuotaExceeded,
    PredictorClosed,
    ProtocolError,
)
from elastic_inference.protocol.endpoint import Endpoint

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"


class Peer:
    """A server that answers each request, or each connection, with the bytes that the test names."""

    def __init__(self) -> None:
        self.answer = OK
        self.closes = False
        self.may_answer = threading.Event()
        self.may_answer.set()
        self.on_request: Callable[[], object] = lambda: None
        self.num_connections = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = Address(Endpoint("tcp", host="127.0.0.1", port=self._listener.getsockname()[1]))
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            self.num_connections += 1
            self._threads.append(threading.Thread(target=self._serve, args=(sock,)))
            self._threads[-1].start()

    def _serve(self, sock: socket.socket) -> None:
        with sock, contextlib.suppress(OSError):
            sock.settimeout(30)
            while sock.recv(65536):
                self.on_request()
                self.on_request = lambda: None
                self.may_answer.wait(30)
                sock.sendall(self.answer)
                if self.closes:
                    return

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join(30)


@pytest.fixture
def peer() -> Iterator[Peer]:
    value = Peer()
    yield value
    value.close()


@pytest.fixture
def pool(peer: Peer) -> Iterator[ConnectionPool]:
    value = ConnectionPool(peer.address)
    yield value
    value.close()


def call(pool: ConnectionPool, timeout_seconds: float = 30.0) -> dict[str, object]:
    with pool.connection(Deadline(timeout_seconds)) as connection:
        return connection.call("GET", "/v2")


def test_a_connection_is_used_again(peer: Peer, pool: ConnectionPool) -> None:
    for _ in range(5):
        assert call(pool) == {}
    assert peer.num_connections == 1


def test_threads_do_not_share_a_connection(peer: Peer, pool: ConnectionPool) -> None:
    barrier = threading.Barrier(4)

    def hold(_: int) -> None:
        with pool.connection(Deadline(30.0)) as connection:
            barrier.wait(30)
            connection.call("GET", "/v2")

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(hold, range(4)))
    assert peer.num_connections == 4


WRONG = {
    "not HTTP": b"hello\r\n\r\n",
    "HTTP/2": b"HTTP/2 200 OK\r\nContent-Length: 0\r\n\r\n",
    "no status": b"HTTP/1.1 OK\r\n\r\n",
    "no length": b"HTTP/1.1 200 OK\r\n\r\n{}",
    "a negative length": b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
    "a length of many digits": b"HTTP/1.1 200 OK\r\nContent-Length: " + b"9" * 5000 + b"\r\n\r\n",
    "a huge length": b"HTTP/1.1 200 OK\r\nContent-Length: 999999999999\r\n\r\n{}",
    "not JSON": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{]",
    "a head without end": b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 20_000,
}


@pytest.mark.parametrize("answer", WRONG.values(), ids=WRONG)
def test_a_wrong_answer_is_told_and_its_connection_not_used_again(
    peer: Peer, pool: ConnectionPool, answer: bytes
) -> None:
    peer.answer = answer
    with pytest.raises(ProtocolError):
        call(pool)
    peer.answer = OK
    assert call(pool) == {}
    assert peer.num_connections == (1 if answer == WRONG["not JSON"] else 2)


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 200", b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{"])
def test_an_answer_that_is_cut_is_a_lost_connection(peer: Peer, pool: ConnectionPool, answer: bytes) -> None:
    peer.answer, peer.closes = answer, True
    with pytest.raises(ConnectionLost):
        call(pool)


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 200", b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{"])
def test_an_answer_that_stalls_ends_at_the_deadline(peer: Peer, pool: ConnectionPool, answer: bytes) -> None:
    peer.answer = answer
    with pytest.raises(DeadlineExceeded):
        call(pool, 0.05)
    peer.answer = OK
    assert call(pool) == {}
    assert peer.num_connections == 2


@pytest.mark.parametrize("interrupt", [KeyboardInterrupt, SystemExit])
def test_an_interrupt_in_the_middle_leaves_no_half_answer_to_the_next(
    peer: Peer, pool: ConnectionPool, interrupt: type[BaseException]
) -> None:
    def break_off() -> None:
        with pool.connection(Deadline(30.0)) as connection:
            connection.exchange([b"GET /v2 HTTP/1.1\r\n\r\n"])
            raise interrupt

    with pytest.raises(interrupt):
        break_off()
    assert call(pool) == {}
    assert peer.num_connections == 2


def test_an_error_answer_is_raised_and_the_connection_used_again(peer: Peer, pool: ConnectionPool) -> None:
    body = json.dumps({"error": "no", "code": "InvalidInput"}).encode()
    peer.answer = b"HTTP/1.1 400 Bad Request\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
    for _ in range(2):
        with pytest.raises(InvalidInput, match="no"):
            call(pool)
    assert peer.num_connections == 1


def test_a_server_that_closes_is_not_asked_on_that_connection_again(peer: Peer, pool: ConnectionPool) -> None:
    peer.answer = OK.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
    assert call(pool) == call(pool) == {}
    assert peer.num_connections == 2


def test_a_refusal_before_the_whole_body_was_sent_is_read() -> None:
    """The server answers and closes; to the sender that looks like a broken connection."""
    body = json.dumps({"error": "too large", "code": "MemoryQuotaExceeded"}).encode()
    answer = b"HTTP/1.1 413 Too Large\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s" % (
        len(body),
        body,
    )

    def refuse(listener: socket.socket) -> None:
        sock, _ = listener.accept()
        with sock:
            sock.settimeout(30)
            sock.recv(100)
            sock.sendall(answer)

    with socket.create_server(("127.0.0.1", 0)) as listener, ThreadPoolExecutor(1) as threads:
        threads.submit(refuse, listener)
        endpoint = Endpoint("tcp", host="127.0.0.1", port=listener.getsockname()[1])
        connection = Connection(Address(endpoint), 30.0)
        connection.stream.set_timeout(30.0)
        with contextlib.closing(connection), pytest.raises(MemoryQuotaExceeded, match="too large"):
            connection.call("POST", "/v2", bytes(100 << 20))


def test_what_is_given_back_after_the_end_is_closed(pool: ConnectionPool) -> None:
    with pool.connection(Deadline(30.0)) as connection:
        pool.close()
        assert connection.call("GET", "/v2") == {}
    assert connection.stream.sock.fileno() == -1
    with pytest.raises(PredictorClosed):
        call(pool)


def in_child(action: Callable[[], bool]) -> bool:
    """Whether `action` is true in a forked child."""
    child = os.fork()
    if child == 0:
        with contextlib.suppress(BaseException):
            os._exit(0 if action() else 1)
        os._exit(2)
    return os.waitpid(child, 0)[1] == 0


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_a_forked_child_makes_connections_of_its_own(peer: Peer, pool: ConnectionPool) -> None:
    assert call(pool) == {}
    assert in_child(lambda: call(pool) == {})
    assert call(pool) == {}
    assert peer.num_connections == 2


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_a_fork_in_the_middle_of_an_exchange_leaves_the_answer_to_the_parent(
    peer: Peer, pool: ConnectionPool
) -> None:
    """A handler of signals forks while its thread waits for an answer; the child goes on behind the handler."""
    child = -1

    def fork(*_: object) -> None:
        nonlocal child
        child = os.fork()
        if child:
            status.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
            peer.may_answer.set()

    status: list[int] = []
    before = signal.signal(signal.SIGUSR1, fork)
    peer.may_answer.clear()
    peer.on_request = lambda: os.kill(os.getpid(), signal.SIGUSR1)
    try:
        answer = call(pool)
    except ConnectionLost:
        os._exit(0 if child == 0 else 1)  # of the child this is right, of the parent not
    except BaseException:
        os._exit(2)
    finally:
        signal.signal(signal.SIGUSR1, before)
    if child == 0:
        os._exit(3)
    assert (answer, status) == ({}, [0])
    assert call(pool) == {}
    assert peer.num_connections == 1


def test_a_connection_that_is_cancelled_is_not_used_again(peer: Peer, pool: ConnectionPool) -> None:
    cancellation = Cancellation()
    with pool.connection(Deadline(30.0, cancellation)) as connection:
        assert connection.call("GET", "/v2") == {}
        cancellation.cancel()  # after its last byte
    assert call(pool) == {}
    assert peer.num_connections == 2


@pytest.mark.parametrize("token", ["a\r\nX: y", "ä", "a\0"])
def test_a_token_that_is_no_header_is_refused(peer: Peer, token: str) -> None:
    with pytest.raises(InvalidInput, match="token"):
        Connection(Address(peer.address.endpoint, token), 30.0)
