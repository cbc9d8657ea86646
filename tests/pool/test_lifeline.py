"""How a pool learns that a host's process has ended, and what it does not take for that. Real processes and sockets."""

from __future__ import annotations

import contextlib
import json
import signal
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from elastic_inference.pool.lifeline import MAX_HELD, Lifeline, LifelineHolder, LifelineWatch
from tests.waiting import wait_until

HOST = """
import json, time
from elastic_inference.pool.lifeline import LifelineHolder
holder = LifelineHolder("127.0.0.1")
print(json.dumps(vars(holder.lifeline)), flush=True)
time.sleep(600)
"""


class Watched:
    """What a pool knows of one host."""

    def __init__(self, lifeline: Lifeline) -> None:
        self.is_wanted = True
        self.has_ended = threading.Event()
        self.num_looks = 0
        LifelineWatch("h", "http://127.0.0.1:1", lifeline, self._look, self.has_ended.set)

    def _look(self) -> bool:
        self.num_looks += 1
        return self.is_wanted


@contextlib.contextmanager
def watching(lifeline: Lifeline) -> Iterator[Watched]:
    watched = Watched(lifeline)
    try:
        yield watched
    finally:
        watched.is_wanted = False


@contextlib.contextmanager
def a_host() -> Iterator[tuple[subprocess.Popen[str], Lifeline]]:
    with subprocess.Popen([sys.executable, "-c", HOST], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield process, Lifeline(**json.loads(process.stdout.readline()))
        finally:
            process.kill()


def looks(watched: Watched, number: int = 2) -> None:
    """Wait until the watch has gone round so often."""
    wanted = watched.num_looks + number
    wait_until(lambda: watched.num_looks >= wanted, "more looks")


def test_the_end_of_the_process_is_told_and_a_halt_is_not() -> None:
    with a_host() as (process, lifeline), watching(lifeline) as watched:
        looks(watched)
        process.send_signal(signal.SIGSTOP)
        looks(watched)
        assert not watched.has_ended.is_set()
        process.kill()
        assert watched.has_ended.wait(60)


def test_a_dead_host_that_was_never_reached_is_left_to_its_lease() -> None:
    with a_host() as (process, lifeline):
        process.kill()
        process.wait(60)
        with watching(lifeline) as watched:
            looks(watched)
            assert not watched.has_ended.is_set()


def forward(listener: socket.socket, port: int, num_greetings: list[int]) -> None:
    """Stand between, as a proxy does: say what the host says, and close when it does."""
    while True:
        try:
            near, _ = listener.accept()
        except OSError:
            return
        with near, contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 60) as far:
            near.sendall(far.recv(1024))
            num_greetings.append(1)
            near.settimeout(60)
            near.recv(1)  # until the pool has gone


def test_what_stands_between_is_not_the_host() -> None:
    greetings: list[int] = []
    with a_host() as (process, lifeline), socket.create_server(("127.0.0.1", 0)) as between:
        threading.Thread(target=forward, args=(between, lifeline.port, greetings), daemon=True).start()
        with watching(Lifeline(between.getsockname()[1], lifeline.key)) as watched:
            wait_until(
                lambda: len(greetings) >= 2, "that it was greeted, did not believe it, and tried again"
            )
            process.kill()
            process.wait(60)
            looks(watched)
            assert not watched.has_ended.is_set()
        between.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize("said", ["nothing", "another key", "too much"])
def test_whatever_else_listens_there_is_not_the_host(said: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with watching(Lifeline(port, "key")) as watched:
            for _ in range(2):
                sock, peer = server.accept()
                with sock:
                    greeting = f"{{}} 127.0.0.1:{port} 127.0.0.1:{peer[1]}\n"
                    if said == "another key":
                        sock.sendall(greeting.format("other").encode())
                    elif said == "too much":
                        sock.sendall(greeting.format("key").encode() + b"more")
            looks(watched)
            assert not watched.has_ended.is_set()


def test_a_reset_is_no_end() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with watching(Lifeline(port, "key")) as watched:
            for _ in range(2):  # it is asked again
                sock, peer = server.accept()
                sock.sendall(f"key 127.0.0.1:{port} 127.0.0.1:{peer[1]}\n".encode())
                looks(watched)
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                sock.close()
            looks(watched)
            assert not watched.has_ended.is_set()


def test_a_host_holds_some_and_those_that_have_gone_make_room() -> None:
    holder = LifelineHolder("127.0.0.1")
    where = ("127.0.0.1", holder.lifeline.port)
    with contextlib.ExitStack() as stack:
        taken = [stack.enter_context(socket.create_connection(where, 60)) for _ in range(MAX_HELD)]
        assert all(sock.recv(100).startswith(holder.lifeline.key.encode()) for sock in taken)
        with socket.create_connection(where, 60) as one_more:
            assert one_more.recv(100) == b""
        taken[0].close()
        with socket.create_connection(where, 60) as instead:
            assert instead.recv(100).endswith(b"\n")
        for sock in taken[1:]:
            sock.setblocking(False)
            with pytest.raises(BlockingIOError):
                sock.recv(1)
