"""Time-outs end calls whatever signals come, whoever hangs, and however the model gets lost; on real processes."""

from __future__ import annotations

import contextlib
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from elastic_inference import Accelerator, EIPredictor
from elastic_inference.client.host_session import Attachment, HostSession
from elastic_inference.client.hosted import _Keeper
from elastic_inference.deadline import Deadline
from elastic_inference.errors import DeadlineExceeded, ModelNotFound, ProtocolError
from elastic_inference.protocol.endpoint import Endpoint
from elastic_inference.protocol.requests import request_json
from elastic_inference.testing import RunningAccelerator, start_accelerator, write_model
from tests.waiting import wait_until

ROOT = Path(__file__).resolve().parents[2]
FRAME = np.zeros((1, 4, 4, 3), np.uint8)
BOUND_SECONDS = 20.0  # of waits that ended after 30 s or never
PROGRAM = """
import sys
mode, part, model, address, token, pid = sys.argv[1:]
if mode == "gevent":
    from gevent import monkey
    monkey.patch_all()
import os, pathlib, signal
import numpy as np
from elastic_inference import Accelerator, EIPredictor
from elastic_inference.errors import DeadlineExceeded

place = Accelerator.at(address, token=token)
predictor = EIPredictor(model, accelerator=place, timeout_seconds=1, warm_up=False, use_shared_memory=False)
small, large = np.zeros((1, 4, 4, 3), np.uint8), np.zeros((1, 4000, 4000, 3), np.uint8)
predictor({"inputs": small})
os.kill(int(pid), signal.SIGSTOP)
states = [path / "stat" for path in pathlib.Path(f"/proc/{pid}/task").iterdir()]
while not all(path.read_text().rpartition(")")[2].split()[0] == "T" for path in states):
    pass
if mode == "timer":
    signal.signal(signal.SIGALRM, lambda *_: None)
    signal.setitimer(signal.ITIMER_REAL, 0.05, 0.05)
try:
    predictor({"inputs": large if part == "sending" else small})
except DeadlineExceeded:
    print("ended in time")
signal.setitimer(signal.ITIMER_REAL, 0, 0)
os.kill(int(pid), signal.SIGCONT)
predictor.close()
"""


@pytest.mark.parametrize("part", ["receiving", "sending"])
@pytest.mark.parametrize("listen", ["tcp:127.0.0.1:0", "unix:{folder}/a.sock"], ids=["tcp", "unix"])
@pytest.mark.parametrize("mode", ["plain", "timer", "gevent"])
def test_a_call_ends_in_time_under_signals(mode: str, listen: str, part: str, tmp_path: Path) -> None:
    """A handled signal every 50 ms, as of a sampling profiler, and gevent's sockets: both waited for ever."""
    if mode == "gevent":
        pytest.importorskip("gevent", reason="needs gevent")
    model = write_model(tmp_path / "m.testing")
    with start_accelerator((listen,)) as running:
        arguments = [mode, part, str(model), running.address, running.token, str(running.pid)]
        try:
            done = subprocess.run(
                [sys.executable, "-c", PROGRAM, *arguments],
                capture_output=True, text=True, timeout=BOUND_SECONDS, check=False, cwd=ROOT,
            )  # fmt: skip
        finally:
            running.process.send_signal(signal.SIGCONT)
        assert done.stdout == "ended in time\n", done.stderr


@contextlib.contextmanager
def silent_server() -> Iterator[str]:
    """Takes connections and never answers, as a host does that hangs."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


def within_bound(work: Callable[[], object]) -> None:
    """Do it on a thread, and fail where it does not end."""
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(BOUND_SECONDS)
    assert not thread.is_alive(), "it hangs"


def test_a_host_that_hangs_does_not_stretch_a_call() -> None:
    """The accelerator is gone and the host is asked why: it took the host's own 30 s, not what the call had left."""
    found: list[Exception | None] = []
    with silent_server() as url:
        attachment = Attachment("eia-1", (), "t", "cpu.half")
        keeper = _Keeper(HostSession(url, "t"), attachment, "t", is_ours=False)
        within_bound(lambda: found.append(keeper.explain(Deadline(0.2))))
        within_bound(lambda: found.append(keeper.explain(Deadline(0.0))))
    assert found == [None, None]


@pytest.mark.parametrize(
    "answer", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n"], ids=["head", "body"]
)
def test_an_answer_that_drips_does_not_stretch_a_request(answer: bytes) -> None:
    """Each byte in time, the whole never: a socket's own time-out starts anew with each."""
    is_over = threading.Event()

    def drip(listener: socket.socket) -> None:
        sock, _ = listener.accept()
        with sock, contextlib.suppress(OSError):
            sock.sendall(answer)
            while not is_over.wait(0.02):
                sock.sendall(b"x")

    def ask() -> None:
        with pytest.raises(DeadlineExceeded):
            request_json(endpoint, "GET", "/v1/types", timeout_seconds=0.3)
        ended.append(True)

    ended: list[bool] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        endpoint = Endpoint("tcp", host="127.0.0.1", port=listener.getsockname()[1])
        thread = threading.Thread(target=drip, args=(listener,))
        thread.start()
        try:
            within_bound(ask)
        finally:
            is_over.set()
            thread.join(BOUND_SECONDS)
    assert ended == [True]


class Proxy:
    """Hands requests on to an accelerator, but answers those whose path ends in `refused` by a 404 of its own."""

    def __init__(self, running: RunningAccelerator) -> None:
        self.refused = b"\0"
        self.paths: list[bytes] = []
        self._target = Endpoint.parse(running.address)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"tcp:127.0.0.1:{self._listener.getsockname()[1]}"
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            self._threads.append(threading.Thread(target=self._serve, args=(sock,)))
            self._threads[-1].start()

    def _serve(self, sock: socket.socket) -> None:
        with sock, self._target.connect(10.0) as target, contextlib.suppress(OSError, ValueError):
            ours, theirs = sock.makefile("rb"), target.makefile("rb")
            while True:
                request, length = self._head(ours)
                path = request.split(b" ")[1]
                self.paths.append(path)
                body = ours.read(length)
                if path.endswith(self.refused):
                    sock.sendall(b"HTTP/1.1 404 Not Found\r\nContent-Length: 9\r\n\r\nnot here\n")
                    continue
                target.sendall(request + body)
                response, length = self._head(theirs)
                sock.sendall(response + theirs.read(length))

    @staticmethod
    def _head(file: object) -> tuple[bytes, int]:
        lines = []
        while not lines or lines[-1] != b"\r\n":
            lines.append(file.readline())  # type: ignore[attr-defined]
            if not lines[-1]:
                raise ValueError("closed")
        lengths = [line.split(b":")[1] for line in lines if line.lower().startswith(b"content-length:")]
        return b"".join(lines), int(lengths[0]) if lengths else 0

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join(BOUND_SECONDS)


@pytest.fixture
def proxied() -> Iterator[tuple[Proxy, Accelerator]]:
    with start_accelerator() as running:
        proxy = Proxy(running)
        yield proxy, Accelerator.at(proxy.address, token=running.token)
        running.process.kill()
        proxy.close()


def test_a_proxy_that_loses_the_model_is_not_sent_it_for_ever(
    proxied: tuple[Proxy, Accelerator], tmp_path: Path
) -> None:
    """Its 404 reads as the accelerator's: the client loaded and called again without pause, until it was stopped."""
    proxy, place = proxied
    model = write_model(tmp_path / "m.testing")
    with EIPredictor(model, accelerator=place, warm_up=False, timeout_seconds=None) as predictor:
        predictor({"inputs": FRAME})
        proxy.refused = b"/infer"
        del proxy.paths[:]
        with pytest.raises(ModelNotFound, match=r"loaded the model 3 times in one call.*proxy"):
            predictor({"inputs": FRAME})
        assert [sum(path.endswith(end) for path in proxy.paths) for end in (b"/load", b"/infer")] == [3, 4]
        proxy.refused = b"\0"
        predictor({"inputs": FRAME})


def test_what_answers_for_files_without_being_an_accelerator_is_named(
    proxied: tuple[Proxy, Accelerator], tmp_path: Path
) -> None:
    proxy, place = proxied
    proxy.refused = b""  # every path
    with pytest.raises(ProtocolError, match="not JSON"):
        EIPredictor(write_model(tmp_path / "m.testing"), accelerator=place)


def queue_of(running: RunningAccelerator) -> dict[str, int]:
    endpoint = Endpoint.parse(running.address)
    queue: dict[str, int] = request_json(endpoint, "GET", "/v2/accelerator", token=running.token)["queue"]
    return queue


def test_a_wait_for_the_turn_gets_what_the_call_has_left(tmp_path: Path) -> None:
    """The accelerator is told the time-out, so that a call that nobody waits for any more never runs."""
    model = write_model(tmp_path / "m.testing", wait_seconds=2)
    with start_accelerator(("unix:{folder}/a.sock",)) as running:
        place = Accelerator.at(running.address, token=running.token)
        with (
            EIPredictor(model, accelerator=place, warm_up=False, timeout_seconds=None) as patient,
            EIPredictor(model, accelerator=place, warm_up=False, timeout_seconds=0.2) as hasty,
        ):
            first = patient.submit({"inputs": FRAME})
            wait_until(lambda: queue_of(running)["num_running"], "the first call's turn")
            with pytest.raises(DeadlineExceeded):
                hasty({"inputs": FRAME})
            first.result(BOUND_SECONDS)
            assert queue_of(running)["num_expired"] == 1
